"""/1.0/images/aliases (spec/rest.md 6, spec/images.md 2). Names may hold slashes."""

from urllib.parse import quote

from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.responses import created, empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.types.images import Alias, AliasesPost, AliasPost, AliasPut
from lxdnode.node.documents import View
from lxdnode.node.errors import NotFound
from lxdnode.node.images import rules
from lxdnode.node.images.records import ALIASES, IMAGES
from lxdnode.node.images.records import Alias as Record


@route("GET", "/1.0/images/aliases", answer=list[Alias])
async def list_aliases(call: Call) -> Response:
    """URLs, or objects with recursion; sorted by name."""
    view = await call.view()
    found = sorted((record for _id, record in view.all(ALIASES)), key=lambda alias: alias.name)
    return sync([_render(record) if call.recursion else _url(record.name) for record in found])


@route("POST", "/1.0/images/aliases", body=AliasesPost)
async def create_alias(call: Call) -> Response:
    """Gives an image a name; the target may be the beginning of a fingerprint."""
    body = await call.json(AliasesPost)
    await call.transact(lambda draft: rules.create_alias(draft, body.name, body.target, body.description))
    return created(_url(body.name))


@route("GET", "/1.0/images/aliases/<path:name>", guest=True, answer=Alias)
async def show_alias(call: Call) -> Response:
    """One alias, with its ETag; to who is not trusted only that of a public image."""
    view = await call.view()
    record = rules.find_alias(view, call.arguments["name"])[1]
    if not call.caller.trusted and not _is_public(view, record):
        raise NotFound
    return sync(_render(record), etag=etag_of(_render(record)))


@route("PUT", "/1.0/images/aliases/<path:name>", body=AliasPut)
async def replace_alias(call: Call) -> Response:
    """Replaces target and description."""
    return await _change(call, merges=False)


@route("PATCH", "/1.0/images/aliases/<path:name>", extension="patch", body=AliasPut)
async def patch_alias(call: Call) -> Response:
    """Replaces what is given."""
    return await _change(call, merges=True)


@route("POST", "/1.0/images/aliases/<path:name>", body=AliasPost)
async def rename_alias(call: Call) -> Response:
    """Gives an alias another name."""
    body = await call.json(AliasPost)
    await call.transact(lambda draft: rules.rename_alias(draft, call.arguments["name"], body.name))
    return created(_url(body.name))


@route("DELETE", "/1.0/images/aliases/<path:name>")
async def delete_alias(call: Call) -> Response:
    """Removes an alias; its image stays."""
    await call.transact(lambda draft: rules.remove_alias(draft, call.arguments["name"]))
    return empty()


async def _change(call: Call, *, merges: bool) -> Response:
    name = call.arguments["name"]
    record = rules.find_alias(await call.view(), name)[1]
    call.match(etag_of(_render(record)))
    body = await call.json(AliasPut)
    target, description = body.target, body.description
    if merges:
        target = record.target if target is None else target
        description = record.description if description is None else description
    await call.transact(lambda draft: rules.replace_alias(draft, name, target or "", description or ""))
    return empty()


def _is_public(view: View, record: Record) -> bool:
    image = view.get(IMAGES, record.target)
    return image is not None and image.public


def _url(name: str) -> str:
    return f"/1.0/images/aliases/{quote(name)}"


def _render(record: Record) -> Alias:
    return Alias(record.description, record.target, record.name)
