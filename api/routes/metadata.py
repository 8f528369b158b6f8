"""/1.0/containers/NAME/metadata: metadata.yaml and the templates of a container (spec/containers.md 11).

Owns the words and codes; the files are `drivers/images/description.py`'s. LXD gives them no ETag."""

from pathlib import Path
from urllib.parse import quote

import trio
from quart.wrappers import Response

from lxdnode.api.responses import empty, raw, sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.containers import find_here
from lxdnode.api.types.metadata import MetadataPut
from lxdnode.drivers.images import description
from lxdnode.drivers.images.metadata import Metadata, decode, encode
from lxdnode.node.errors import Invalid, NodeError, NotFound

_EXTENSION = "container_edit_metadata"
_PATH = "/1.0/containers/<name>/metadata"
_TEMPLATES = f"{_PATH}/templates"


@route("GET", _PATH, extension=_EXTENSION, answer=Metadata)
async def show_metadata(call: Call) -> Response:
    """The container's metadata.yaml."""
    volume = await _volume(call)
    if isinstance(volume, Response):
        return volume
    text = await trio.to_thread.run_sync(description.read_metadata, volume)
    if text is None:
        raise NodeError(f"Container {call.arguments['name']} has no metadata.yaml: it was made of no image")
    return sync(decode(text))


@route("PUT", _PATH, extension=_EXTENSION, body=MetadataPut)
async def replace_metadata(call: Call) -> Response:
    """Replaces the container's metadata.yaml."""
    volume = await _volume(call)
    if isinstance(volume, Response):
        return volume
    body = await call.json(MetadataPut)
    await trio.to_thread.run_sync(description.write_metadata, volume, encode(body.document()))
    return empty()


@route("GET", _TEMPLATES, extension=_EXTENSION, answer=list[str])
async def read_templates(call: Call) -> Response:
    """The names of the templates, or with `path` one of them as it is."""
    volume = await _volume(call)
    if isinstance(volume, Response):
        return volume
    name = call.query.get("path", "")
    if not name:
        return sync(await trio.to_thread.run_sync(description.list_templates, volume))
    text = await trio.to_thread.run_sync(description.read_template, volume, name)
    if text is None:
        raise NotFound(f"Path '{name}' not found")
    return raw(text, {"Content-Disposition": f"inline;filename={quote(name)}"}, len(text))


@route("POST", _TEMPLATES, extension=_EXTENSION)
async def create_template(call: Call) -> Response:
    """Makes a template of the raw body. One that exists is refused, unless today's client edits it."""
    return await _write(call, new=True)


@route("PUT", _TEMPLATES, extension=_EXTENSION)
async def replace_template(call: Call) -> Response:
    """Makes a template of the raw body, or replaces it."""
    return await _write(call, new=False)


@route("DELETE", _TEMPLATES, extension=_EXTENSION)
async def delete_template(call: Call) -> Response:
    """Removes a template."""
    volume = await _volume(call)
    if isinstance(volume, Response):
        return volume
    name = _name(call)
    if name not in await trio.to_thread.run_sync(description.list_templates, volume):
        description.check_template(name)
        raise NotFound(f"Path '{name}' not found")
    await trio.to_thread.run_sync(description.delete_template, volume, name)
    return empty()


async def _write(call: Call, *, new: bool) -> Response:
    volume = await _volume(call)
    if isinstance(volume, Response):
        return volume
    name = _name(call)
    description.check_template(name)
    text = await call.body(description.LIMIT)
    exists = name in await trio.to_thread.run_sync(description.list_templates, volume)
    if new and exists and not _is_edit(call, text):
        raise Invalid("Template already exists")
    await trio.to_thread.run_sync(description.write_template, volume, name, text)
    return empty()


def _is_edit(call: Call, text: bytes) -> bool:
    """Whether a POST is `lxc config template edit` of the 5.0 client, which LXD's servers of its time let replace."""
    return bool(text) and call.headers.get("User-Agent", "").startswith("LXD 5.")


def _name(call: Call) -> str:
    name = call.query.get("path", "")
    if not name:
        raise Invalid("missing path argument")
    return name


async def _volume(call: Call) -> Path | Response:
    """The volume of the container, when this member holds it; else the answer that sends the request there."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    return call.node.storage.container_path(here.container.pool, here.name)
