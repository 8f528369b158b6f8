"""/1.0/storage-pools/POOL/volumes (spec/rest.md 9.2, spec/storage.md 5)."""

from urllib.parse import quote

import msgspec
from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.forward import forward
from lxdnode.api.responses import created, empty, operation, sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.migrations import receive_volume, send_volume
from lxdnode.api.targets import target_of
from lxdnode.api.types.storage import Volume, VolumePost, VolumePut, VolumesPost
from lxdnode.node.cluster.rules import name_of
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid, NodeError, NotFound, NotImplementedHere
from lxdnode.node.operations import Operation
from lxdnode.node.storage import rules, volume_rules
from lxdnode.node.storage.records import Pool
from lxdnode.node.storage.records import Volume as Record

_PLURAL = {"container": "containers", "image": "images", "custom": "custom"}
"""The type in the URLs of lists, which is another word than that of requests."""


@route("GET", "/1.0/storage-pools/<pool>/volumes", extension="storage", answer=list[Volume])
async def list_volumes(call: Call) -> Response:
    """The volumes of all members; URLs, or objects with recursion."""
    view = await call.view()
    return _list(call, _all(view, *rules.find(view, call.arguments["pool"])))


@route("GET", "/1.0/storage-pools/<pool>/volumes/<type>", extension="storage", answer=list[Volume])
async def list_volumes_of_type(call: Call) -> Response:
    """The volumes of one type on the answering member."""
    kind = volume_rules.check_type(call.arguments["type"])
    view = await call.view()
    own = name_of(view, call.node.member)
    found = _all(view, *rules.find(view, call.arguments["pool"]))
    return _list(call, [volume for volume in found if volume.type == kind and volume.location == own])


@route("POST", "/1.0/storage-pools/<pool>/volumes", extension="storage", target=True, body=VolumesPost)
@route("POST", "/1.0/storage-pools/<pool>/volumes/<type>", extension="storage", target=True, body=VolumesPost)
async def create_volume(call: Call) -> Response:
    """Makes an empty custom volume at once, or a copy as an operation; on the member that `target` names, else here."""
    body = await call.json(VolumesPost)
    view = await call.view()
    pool = call.arguments["pool"]
    rules.find(view, pool)
    member = target_of(call, view)
    if member not in (None, call.node.member):
        return forward(call, member)
    volume_rules.check_new(call.arguments.get("type", body.type), body.name)
    fresh = Record(name=body.name, member=call.node.member, description=body.description, config=body.config)
    if body.source.type not in ("", "copy", "migration"):
        raise Invalid(f"unknown source type {body.source.type}")
    if body.source.type == "migration":
        if body.source.mode not in ("pull", "push"):
            raise NotImplementedHere(f"Mode '{body.source.mode}' not implemented")
        return receive_volume(call, pool, body.source, fresh)
    if not body.source.name:
        await call.node.storage.volumes.create(pool, fresh, call.caller.author)
        return empty()
    return operation(_copy(call, pool, fresh, body.source.pool or pool, body.source.name))


def _copy(call: Call, pool: str, fresh: Record, source_pool: str, source: str) -> Operation:
    volumes, author = call.node.storage.volumes, call.caller.author
    kept = volumes.copied_config(pool, source_pool, source)
    copied = msgspec.structs.replace(fresh, config=kept | fresh.config)

    async def run(_operation: Operation) -> None:
        await volumes.copy(pool, copied, source_pool, source, author)

    return call.node.operations.create(kind="task", description="Copying storage volume", run=run, author=author)


@route("GET", "/1.0/storage-pools/<pool>/volumes/<type>/<path:name>", extension="storage", target=True, answer=Volume)
async def show_volume(call: Call) -> Response:
    """One volume, with its ETag, of the member that `target` names, or of the only one that has it."""
    view = await call.view()
    found = _find(call, view)
    return sync(found, etag=_etag(found))


@route("PUT", "/1.0/storage-pools/<pool>/volumes/<type>/<path:name>", extension="storage", target=True, body=VolumePut)
async def replace_volume(call: Call) -> Response:
    """Replaces description and config; an absent one becomes empty."""
    return await _change(call, merges=False)


@route(
    "PATCH", "/1.0/storage-pools/<pool>/volumes/<type>/<path:name>", extension="storage", target=True, body=VolumePut
)
async def patch_volume(call: Call) -> Response:
    """Lays config over by key; what is absent stays."""
    return await _change(call, merges=True)


@route(
    "POST",
    "/1.0/storage-pools/<pool>/volumes/<type>/<path:name>",
    extension="storage_api_volume_rename",
    target=True,
    body=VolumePost,
)
async def rename_volume(call: Call) -> Response:
    """Gives a custom volume another name; as an operation, moves it into another pool or sends it to another server."""
    body = await call.json(VolumePost)
    if call.arguments["type"] != "custom":
        raise Invalid(f"Renaming storage volumes of type {call.arguments['type']} is not allowed")
    pool = call.arguments["pool"]
    view = await call.view()
    member, id = _locate(call, view)
    if member != call.node.member:
        return forward(call, member)
    if body.migration:
        if not body.name:
            raise Invalid("No name provided")
        return await send_volume(call, pool, id, call.arguments["name"], body.target)
    if body.pool and body.pool != pool:
        rules.find(view, body.pool)
        volume_rules.check_new("custom", body.name)
        return operation(_move(call, pool, id, body))
    await call.node.storage.volumes.rename(pool, id, body.name, call.caller.author)
    return created(_url(pool, "custom", body.name))


def _move(call: Call, pool: str, id: str, body: VolumePost) -> Operation:
    volumes, author = call.node.storage.volumes, call.caller.author

    async def run(_operation: Operation) -> None:
        await volumes.move(pool, id, body.pool, body.name, author)

    return call.node.operations.create(kind="task", description="Moving storage volume", run=run, author=author)


@route("DELETE", "/1.0/storage-pools/<pool>/volumes/<type>/<path:name>", extension="storage", target=True)
async def delete_volume(call: Call) -> Response:
    """Deletes a custom volume that nobody uses."""
    kind = volume_rules.check_type(call.arguments["type"])
    if kind == "container":
        raise Invalid(f'storage volumes of type "{kind}" cannot be deleted with the storage api')
    view = await call.view()
    member, id = _locate(call, view)
    if member != call.node.member:
        return forward(call, member)
    await call.node.storage.volumes.delete(call.arguments["pool"], id, call.caller.author)
    return empty()


async def _change(call: Call, *, merges: bool) -> Response:
    view = await call.view()
    found = _find(call, view)
    call.match(_etag(found))
    body = await call.json(VolumePut)
    if found.type != "custom":
        raise NotImplementedHere(f"Changing storage volumes of type {found.type} is not served by this version")
    description, config = body.description, body.config or {}
    if merges:
        description = found.description if description is None else description
        config = found.config | config
    _member, id = _locate(call, view)
    await call.transact(
        lambda draft: volume_rules.replace(
            draft, rules.find(draft, call.arguments["pool"]), id, description or "", config
        )
    )
    return empty()


def _locate(call: Call, view: View) -> tuple[int, str]:
    """(member, id) of the custom volume in the path. NotFound; NodeError when several members have the name."""
    pool_id, _pool = rules.find(view, call.arguments["pool"])
    name = call.arguments["name"]
    if volume_rules.check_type(call.arguments["type"]) != "custom":
        raise NotFound
    holders = volume_rules.holders(view, pool_id, name)
    if (target := target_of(call, view)) is not None:
        holders = {member: id for member, id in holders.items() if member == target}
    if not holders:
        raise NotFound
    if len(holders) > 1:
        raise NodeError(f"more than one node has a volume named {name}")
    return next(iter(holders.items()))


def _find(call: Call, view: View) -> Volume:
    """The volume in the path as clients see it."""
    kind, name = volume_rules.check_type(call.arguments["type"]), call.arguments["name"]
    pool_id, pool = rules.find(view, call.arguments["pool"])
    if kind == "custom":
        member, id = _locate(call, view)
        return _custom(view, pool.name, volume_rules.get(view, pool_id, id), member)
    for volume in _all(view, pool_id, pool):
        if (volume.type, volume.name) == (kind, name):
            return volume
    raise NotFound


def _all(view: View, pool_id: str, pool: Pool) -> list[Volume]:
    """Containers with their snapshots first, then custom ones, each by name and member."""
    containers = [
        Volume({}, "", name, "container", [volume_rules.owner_url(name)], name_of(view, member))
        for name, member in volume_rules.root_volumes(view, pool.name)
    ]
    custom = [_custom(view, pool.name, one, one.member) for _id, one in volume_rules.all_volumes(view, pool_id)]
    return sorted([*containers, *custom], key=lambda volume: (volume.type, volume.name, volume.location))


def _custom(view: View, pool: str, volume: Record, member: int) -> Volume:
    used_by = volume_rules.users(view, pool, volume)
    return Volume(volume.config, volume.description, volume.name, "custom", used_by, name_of(view, member))


def _list(call: Call, found: list[Volume]) -> Response:
    if call.recursion:
        return sync(found)
    return sync([_url(call.arguments["pool"], _PLURAL[volume.type], volume.name) for volume in found])


def _etag(volume: Volume) -> str:
    return etag_of([volume.name, volume.type, volume.config])


def _url(pool: str, kind: str, name: str) -> str:
    return f"/1.0/storage-pools/{quote(pool, safe='')}/volumes/{kind}/{quote(name)}"
