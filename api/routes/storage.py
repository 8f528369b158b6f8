"""/1.0/storage-pools (spec/rest.md 9, spec/storage.md). The volumes of a pool: `volumes.py`."""

from urllib.parse import quote

from quart.wrappers import Response

from lxdnode.api.etag import etag_of
from lxdnode.api.responses import created, empty, sync
from lxdnode.api.route import Call, route
from lxdnode.api.targets import target_of
from lxdnode.api.types.storage import Inodes, Pool, PoolPut, PoolsPost, Resources, Space
from lxdnode.node.definitions import rules as definitions
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError, NotFound
from lxdnode.node.storage import rules, volume_rules
from lxdnode.node.storage.records import POOLS
from lxdnode.node.storage.records import Pool as Record


@route("GET", "/1.0/storage-pools", extension="storage", answer=list[Pool])
async def list_pools(call: Call) -> Response:
    """URLs, or objects with recursion; sorted by name."""
    view = await call.view()
    found = sorted(
        ((id, record) for id, record in view.all(POOLS) if record.phase != "deleting"), key=lambda item: item[1].name
    )
    if call.recursion:
        return sync([_render(call, view, id, record, None) for id, record in found])
    return sync([_url(record.name) for _id, record in found])


@route("POST", "/1.0/storage-pools", extension="storage", target=True, body=PoolsPost)
async def create_pool(call: Call) -> Response:
    """Makes a pool on every member, or with `target` names a member for one that is made later."""
    body = await call.json(PoolsPost)
    node, view = call.node, call.node.store.view()
    record = rules.with_defaults(
        Record(name=body.name, driver=body.driver, description=body.description, config=body.config)
    )
    if call.query.get("target"):
        member = _defined_on(call, view)
        await call.transact(lambda draft: rules.define(draft, record, member))
        return created(_url(body.name))
    id = await call.transact(lambda draft: rules.begin(draft, record, node.member))
    await node.storage.await_created(id)
    return created(_url(body.name))


@route("GET", "/1.0/storage-pools/<name>", extension="storage", target=True, answer=Pool)
async def show_pool(call: Call) -> Response:
    """One pool, with its ETag; the keys that each member has for itself only with `target`."""
    view = await call.view()
    id, record = rules.find(view, call.arguments["name"])
    target = target_of(call, view)
    return sync(_render(call, view, id, record, target), etag=_etag(call, view, record, target))


@route("PUT", "/1.0/storage-pools/<name>", extension="storage", body=PoolPut)
async def replace_pool(call: Call) -> Response:
    """Replaces description and config; an absent one becomes empty."""
    return await _change(call, merges=False)


@route("PATCH", "/1.0/storage-pools/<name>", extension="storage", body=PoolPut)
async def patch_pool(call: Call) -> Response:
    """Lays config over by key; what is absent stays."""
    return await _change(call, merges=True)


@route("DELETE", "/1.0/storage-pools/<name>", extension="storage")
async def delete_pool(call: Call) -> Response:
    """Deletes a pool that nobody uses, on every member."""
    id = await call.transact(lambda draft: rules.remove(draft, call.arguments["name"]))
    await call.node.storage.await_removed(id)
    return empty()


@route("GET", "/1.0/storage-pools/<name>/resources", extension="resources", answer=Resources)
async def show_resources(call: Call) -> Response:
    """How full the answering member's part of a pool is."""
    await call.view()
    try:
        found = await call.node.storage.driver(call.arguments["name"]).resources()
    except NotFound as error:
        # A missing pool is LXD's 500 here, not its 404.
        raise NodeError(str(error)) from None
    return sync(Resources(Space(found.total, found.used), Inodes(found.inodes_used, found.inodes_total)))


def _defined_on(call: Call, view: View) -> int:
    """The member that a definition names; an unknown one is LXD's 404 here, not its 500."""
    try:
        member = target_of(call, view)
    except NodeError:
        raise NotFound from None
    assert member is not None
    return member


async def _change(call: Call, *, merges: bool) -> Response:
    body = await call.json(PoolPut)
    view = await call.view()
    id, record = rules.find(view, call.arguments["name"])
    call.match(_etag(call, view, record, None))
    description, config = body.description, body.config or {}
    if merges:
        description = record.description if description is None else description
        config = rules.shown_config(view, record, call.node.member, None) | config
    await call.transact(lambda draft: rules.replace(draft, id, description or "", config, call.node.member))
    await call.node.storage.await_changed(id)
    return empty()


def _etag(call: Call, view: View, record: Record, target: int | None) -> str:
    return etag_of([record.name, record.driver, rules.shown_config(view, record, call.node.member, target)])


def _url(name: str) -> str:
    return f"/1.0/storage-pools/{quote(name, safe='')}"


def _render(call: Call, view: View, id: str, record: Record, target: int | None) -> Pool:
    return Pool(
        config=rules.shown_config(view, record, call.node.member, target),
        description=record.description,
        name=record.name,
        driver=record.driver,
        used_by=_used_by(call, view, id, record),
        status=definitions.status(record),
        locations=definitions.locations(record, view),
    )


def _used_by(call: Call, view: View, id: str, record: Record) -> list[str]:
    """The volumes on the answering member, then the profiles with a disk in the pool."""
    me = call.node.member
    roots = sorted(name for name, member in volume_rules.root_volumes(view, record.name) if member == me)
    custom = sorted(one.name for _id, one in volume_rules.all_volumes(view, id) if one.member == me)
    return [
        *map(volume_rules.owner_url, roots),
        *(f"{_url(record.name)}/volumes/custom/{quote(name, safe='')}" for name in custom),
        *(f"/1.0/profiles/{quote(name, safe='')}" for name in rules.profiles(view, record.name)),
    ]
