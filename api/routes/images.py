"""/1.0/images (spec/rest.md 6, spec/images.md). Aliases: `aliases.py`."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from msgspec import UNSET
from quart.wrappers import Response

from lxdnode.api import downloads, uploads
from lxdnode.api.bodies import JSON_LIMIT
from lxdnode.api.etag import etag_of
from lxdnode.api.filtering import parse
from lxdnode.api.forward import forward
from lxdnode.api.responses import empty, operation, sync
from lxdnode.api.route import Call, route
from lxdnode.api.types.images import AliasName, Image, ImagePut, ImagesPost, UpdateSource
from lxdnode.api.types.images import Source as Asked
from lxdnode.drivers.images.architectures import host_architectures, number
from lxdnode.drivers.images.pack import is_compressor
from lxdnode.node.containers.rules import owner as find_owner
from lxdnode.node.documents import View
from lxdnode.node.errors import Forbidden, Invalid, NodeError, NotFound, TooLarge
from lxdnode.node.images import direct, rules
from lxdnode.node.images.downloads import Kept
from lxdnode.node.images.files import Incoming
from lxdnode.node.images.images import Wanted
from lxdnode.node.images.publish import Source, publish
from lxdnode.node.images.records import USES, Use
from lxdnode.node.images.records import Image as Record
from lxdnode.node.images.records import Source as Remote
from lxdnode.node.operations import Operation
from lxdnode.node.server.description import VERSION

DOWNLOADING = "Downloading image"
"""The description of the operation of every new image, wherever it comes from."""
_FIRST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@route("GET", "/1.0/images", guest=True, answer=list[Image])
async def list_images(call: Call) -> Response:
    """URLs, or objects with recursion, sorted by fingerprint; public ones only for who is not trusted."""
    view = await call.view()
    matches = parse(call.query.get("filter", ""))
    found = rules.all_images(view, public_only=not call.caller.trusted)
    if not call.recursion and not call.query.get("filter"):
        return sync([_url(fingerprint) for fingerprint, _record in found])
    shown = [image for one, record in found if matches(image := _render(view, one, record))]
    return sync(shown if call.recursion else [_url(image.fingerprint) for image in shown])


@route("POST", "/1.0/images", body=ImagesPost)
async def create_image(call: Call) -> Response:
    """Takes an upload in (unified, or multipart with metadata and rootfs), makes an image of a container, or downloads
    one from another server."""
    chunks = call.stream()
    first = await anext(chunks, b"")
    is_json = call.headers.get("Content-Type", "").startswith("application/json")
    if is_json or first.lstrip()[:1] == b"{":
        call.keep(await _whole(first, chunks))
        return await _create_from_source(call, await call.json(ImagesPost))
    incoming = call.node.images.incoming()
    async with incoming.received():
        try:
            wanted: Wanted | Invalid = await uploads.receive(call, _with_first(first, chunks), incoming)
        except Invalid as error:
            wanted = error
    return operation(_import(call, incoming, wanted))


async def _whole(first: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray(first)
    async for chunk in chunks:
        body += chunk
        if len(body) > JSON_LIMIT:
            raise TooLarge(f"The body has more than {JSON_LIMIT} bytes")
    return bytes(body)


async def _with_first(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in chunks:
        yield chunk


def _import(call: Call, incoming: Incoming, wanted: Wanted | Invalid) -> Operation:
    """The operation that makes an image of what has arrived, or that shows why it is none: LXD refuses there."""
    author = call.caller.author

    async def run(operation: Operation) -> None:
        async with incoming:
            if isinstance(wanted, Invalid):
                raise wanted
            fingerprint, size = await call.node.images.take(incoming, wanted, author)
        operation.update(metadata={"fingerprint": fingerprint, "size": str(size)})

    return call.node.operations.create(kind="task", description=DOWNLOADING, run=run, author=author)


async def _create_from_source(call: Call, body: ImagesPost) -> Response:
    source = body.source
    if source.type not in ("container", "snapshot", "image", "url"):
        raise NodeError("Invalid images JSON")
    is_snapshot = "/" in source.name
    if source.name and source.type == ("snapshot" if is_snapshot else "container"):
        member = find_owner(await call.view(), source.name.partition("/")[0])
        if member != call.node.member:
            return forward(call, member)
    if body.compression_algorithm and not is_compressor(body.compression_algorithm):
        raise Invalid(f'Invalid compression algorithm "{body.compression_algorithm}"')
    return operation(_download(call, body) if source.type in ("image", "url") else _publish(call, body))


def _download(call: Call, body: ImagesPost) -> Operation:
    """The operation that brings an image of another server, and lays what was asked over it."""
    images, author, secret = call.node.images, call.caller.author, body.source.secret
    kept = Kept(auto_update=body.auto_update, is_recorded=body.source.type == "url")

    async def run(operation: Operation) -> None:
        with operation.interruptible():
            remote, report = await _remote(call, body.source), operation.progress("download_progress")
            fingerprint = await images.downloads.get(remote, author, report, kept, secret=secret)
        size = await images.amend(
            fingerprint,
            author,
            filename=body.filename,
            public=body.public,
            auto_update=body.auto_update,
            properties=body.properties,
            aliases=_aliases(body),
        )
        operation.update(metadata={"fingerprint": fingerprint, "size": str(size)})

    return call.node.operations.create(kind="task", description=DOWNLOADING, run=run, author=author)


async def _remote(call: Call, source: Asked) -> Remote:
    """The image of another server that a request names. NodeError with LXD's words."""
    if source.type == "image":
        if not (source.alias or source.fingerprint):
            raise NodeError("must specify one of alias or fingerprint for init from image")
        return Remote.of(source)
    if not source.url:
        raise NodeError("Missing URL")
    return await direct.follow(source.url, call.node.images.downloads.way(), map(number, host_architectures()), VERSION)


def _aliases(body: ImagesPost) -> tuple[tuple[str, str], ...]:
    return tuple((alias.name, alias.description) for alias in body.aliases)


def _publish(call: Call, body: ImagesPost) -> Operation:
    author, source = call.caller.author, body.source
    wanted = Wanted(
        filename=body.filename,
        public=body.public,
        properties=body.properties,
        aliases=_aliases(body),
    )

    async def run(operation: Operation) -> None:
        _check_source(source)
        async with call.node.images.incoming() as incoming:
            asked = Source(source.name, body.properties or None, body.compression_algorithm)
            fingerprint, size = await publish(call.node, asked, wanted, incoming, author)
        operation.update(metadata={"fingerprint": fingerprint, "size": str(size)})

    return call.node.operations.create(kind="task", description=DOWNLOADING, run=run, author=author)


def _check_source(source: Asked) -> None:
    """LXD's refusals of a source, which the operation shows."""
    if not source.name:
        raise NodeError("No source provided")
    if source.type == "snapshot":
        if "/" not in source.name:
            raise NodeError("Not a snapshot")
    elif "/" in source.name:
        raise NodeError("This is a snapshot")


@route("GET", "/1.0/images/<fingerprint>", guest=True, answer=Image)
async def show_image(call: Call) -> Response:
    """One image by the beginning of its fingerprint, with its ETag."""
    view = await call.view()
    fingerprint, record = _find(call, view)
    return sync(_render(view, fingerprint, record), etag=_etag(record))


@route("PUT", "/1.0/images/<fingerprint>", body=ImagePut)
async def replace_image(call: Call) -> Response:
    """Replaces auto_update, public and properties; an absent one is off or empty."""
    return await _change(call, merges=False)


@route("PATCH", "/1.0/images/<fingerprint>", extension="patch", body=ImagePut)
async def patch_image(call: Call) -> Response:
    """Lays properties over by key; what is absent stays."""
    return await _change(call, merges=True)


@route("DELETE", "/1.0/images/<fingerprint>")
async def delete_image(call: Call) -> Response:
    """Deletes an image with its aliases and its files on every member."""
    given, author = call.arguments["fingerprint"], call.caller.author

    async def run(_operation: Operation) -> None:
        await call.node.images.delete(given, author)

    resources = {"images": [_url(given)]}
    return operation(
        call.node.operations.create(
            kind="task", description="Deleting image", resources=resources, run=run, author=author
        )
    )


@route("GET", "/1.0/images/<fingerprint>/export", guest=True)
async def export_image(call: Call) -> Response:
    """The image's file, or both as multipart, from this member or from one that has them."""
    view = await call.view()
    fingerprint, _record = _find(call, view)
    files = call.node.images.here(fingerprint)
    if files is None:
        if call.caller.member is None and (holder := call.node.images.holder(fingerprint)) is not None:
            return forward(call, holder)
        raise NodeError("image not available on any online node")
    return await downloads.send(fingerprint, files, call.headers.get("Range", ""))


@route("POST", "/1.0/images/<fingerprint>/secret")
async def create_secret(call: Call) -> Response:
    """A token with which an untrusted client may have a private image once."""
    view = await call.view()
    fingerprint, _record = rules.find(view, call.arguments["fingerprint"])
    return operation(
        call.node.operations.create(
            kind="token",
            description="Image download token",
            resources={"images": [_url(fingerprint)]},
            author=call.caller.author,
        )
    )


@route("POST", "/1.0/images/<fingerprint>/refresh", extension="image_force_refresh")
async def refresh_image(call: Call) -> Response:
    """Looks for a newer image at the source, which takes its place: `refreshed` says whether there was one."""
    fingerprint, _record = rules.find(await call.view(), call.arguments["fingerprint"])
    updates, author = call.node.images.updates, call.caller.author

    async def run(operation: Operation) -> None:
        refreshed = await updates.refresh(fingerprint, author, operation.progress("download_progress"))
        operation.update(metadata={"refreshed": refreshed})

    return operation(call.node.operations.create(kind="task", description="Refreshing image", run=run, author=author))


@route("GET", "/internal/images/<fingerprint>/<part>")
async def send_part(call: Call) -> Response:
    """A file of an image (`metadata` or `rootfs`) for another member."""
    if call.caller.member is None:
        raise Forbidden()
    files = call.node.images.here(call.arguments["fingerprint"])
    path = None if files is None else {"metadata": files.image, "rootfs": files.rootfs}.get(call.arguments["part"])
    if path is None:
        raise NotFound
    return await downloads.send_file(path, {})


async def _change(call: Call, *, merges: bool) -> Response:
    view = await call.view()
    fingerprint, record = rules.find(view, call.arguments["fingerprint"])
    call.match(_etag(record))
    body = await call.json(ImagePut)
    public, auto_update, properties = bool(body.public), bool(body.auto_update), body.properties or {}
    if merges:
        public = record.public if body.public is None else public
        auto_update = record.auto_update if body.auto_update is None else auto_update
        properties = record.properties | properties
    await call.transact(
        lambda draft: rules.replace(draft, fingerprint, public=public, auto_update=auto_update, properties=properties)
    )
    return empty()


def _find(call: Call, view: View) -> tuple[str, Record]:
    """The image in the path, if the caller may see it: a private one only trusted, or with a secret for it."""
    given = call.arguments["fingerprint"]
    fingerprint, record = rules.find(view, given)
    if call.caller.trusted or record.public:
        return fingerprint, record
    secret = call.query.get("secret", "")
    if not secret or not call.node.images.admits(_url(fingerprint), secret):
        raise NotFound(f"Image '{given}' not found")
    return fingerprint, record


def _url(fingerprint: str) -> str:
    return f"/1.0/images/{fingerprint}"


def _etag(record: Record) -> str:
    return etag_of([record.public, record.auto_update, record.properties])


def _time(seconds: float) -> datetime:
    """The time that an image says, which may be any number; what no calendar has is the first or the last second."""
    return datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC)


def _last_used(use: Use | None) -> datetime:
    """When a container was last made of an image; never is Go's zero time."""
    return _time(use.last_used_at if use else _FIRST)


def _render(view: View, fingerprint: str, record: Record) -> Image:
    return Image(
        auto_update=record.auto_update,
        properties=record.properties,
        public=record.public,
        aliases=[AliasName(alias.name, alias.description) for alias in rules.aliases(view, fingerprint)],
        architecture=record.architecture,
        cached=record.cached,
        filename=record.filename,
        fingerprint=fingerprint,
        size=record.size,
        created_at=_time(record.created_at),
        expires_at=_time(record.expires_at),
        last_used_at=_last_used(view.get(USES, fingerprint)),
        uploaded_at=_time(record.uploaded_at),
        update_source=UNSET if record.update_source is None else _source(record.update_source),
    )


def _source(source: Remote) -> UpdateSource:
    return UpdateSource(source.alias, source.certificate, source.protocol, source.server)
