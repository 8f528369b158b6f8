"""/1.0/containers/NAME/snapshots (spec/rest.md 5): read on any member, changed on the one that holds the container."""

from urllib.parse import quote

from quart.wrappers import Response

from lxdnode.api.rendering import show_snapshot
from lxdnode.api.responses import sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.containers import begin, find_here, url
from lxdnode.api.routes.migrations import send_container
from lxdnode.api.types.containers import Snapshot, SnapshotPost, SnapshotsPost
from lxdnode.node.containers import rules, snapshot_rules
from lxdnode.node.errors import Invalid

_PATH = "/1.0/containers/<name>/snapshots"


@route("GET", _PATH, answer=list[Snapshot])
async def list_snapshots(call: Call) -> Response:
    """URLs, or objects with recursion, oldest first."""
    view, name = await call.view(), call.arguments["name"]
    id = rules.find(view, name)
    found = snapshot_rules.all_of(view, id)
    if call.recursion:
        return sync([show_snapshot(view, id, snapshot) for _, snapshot in found])
    return sync([f"{url(name)}/snapshots/{quote(snapshot.name, safe='')}" for _, snapshot in found])


@route("POST", _PATH, body=SnapshotsPost)
async def create_snapshot(call: Call) -> Response:
    """Makes a snapshot of a container, running or not."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    body = await call.json(SnapshotsPost)
    snapshot_rules.check_name(body.name)
    create, author = call.node.containers.snapshots.create, call.caller.author
    return begin(
        call,
        "Snapshotting container",
        here.name,
        lambda _op: create(here.id, body.name, body.stateful, author),
    )


@route("GET", f"{_PATH}/<snapshot>", answer=Snapshot)
async def read_snapshot(call: Call) -> Response:
    """One snapshot; LXD gives it no ETag."""
    view = await call.view()
    id = rules.find(view, call.arguments["name"])
    _, snapshot = snapshot_rules.find(view, id, call.arguments["snapshot"])
    return sync(show_snapshot(view, id, snapshot))


@route("POST", f"{_PATH}/<snapshot>", body=SnapshotPost)
async def rename_snapshot(call: Call) -> Response:
    """Gives a snapshot another name."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    view, old = call.node.store.view(), call.arguments["snapshot"]
    snapshot_rules.find(view, here.id, old)
    body = await call.json(SnapshotPost)
    if body.migration:
        _check_migration(here.name, body)
        return await send_container(call, here, body.target, snapshot=old)
    snapshot_rules.check_name(body.name)
    snapshot_rules.check_free(view, f"{here.name}/{body.name}")
    rename, author = call.node.containers.snapshots.rename, call.caller.author
    return begin(call, "Renaming snapshot", here.name, lambda _op: rename(here.id, old, body.name, author))


def _check_migration(container: str, body: SnapshotPost) -> None:
    if not body.name:
        raise Invalid("A new name for the container must be provided")
    if body.live and body.name != container:
        raise Invalid(
            f'Copying stateful containers requires that source "{container}" and target "{body.name}" name be identical'
        )


@route("DELETE", f"{_PATH}/<snapshot>")
async def delete_snapshot(call: Call) -> Response:
    """Removes a snapshot."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    name = call.arguments["snapshot"]
    snapshot_rules.find(call.node.store.view(), here.id, name)
    delete, author = call.node.containers.snapshots.delete, call.caller.author
    return begin(call, "Deleting snapshot", f"{here.name}/{name}", lambda _op: delete(here.id, name, author))
