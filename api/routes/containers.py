"""/1.0/containers: the containers of all members, through any member (spec/rest.md 3)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import msgspec
from quart.wrappers import Response

from lxdnode.api import filtering
from lxdnode.api.etag import etag_of
from lxdnode.api.forward import forward
from lxdnode.api.rendering import Containers, show, show_backup, show_snapshot
from lxdnode.api.responses import empty, operation, sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.migrations import receive_container, send_container
from lxdnode.api.types.containers import (
    Container,
    ContainerPost,
    ContainerPut,
    ContainersPost,
    Settle,
    Source,
    State,
    StatePut,
)
from lxdnode.drivers.images.architectures import canonical, number
from lxdnode.node.containers import (
    backup_rules,
    names,
    placement,
    rules,
    sizes,
    snapshot_rules,
    source,
    state,
    states,
    tarballs,
    volatile,
)
from lxdnode.node.containers.containers import new_id
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.records import CONTAINERS, KIND, STOPPED
from lxdnode.node.documents import View
from lxdnode.node.errors import Forbidden, Invalid, NodeError
from lxdnode.node.images.records import Source as Remote
from lxdnode.node.operations import Operation

BACKUP = "application/octet-stream"
_rendered = Containers()


@route("GET", "/1.0/containers", answer=list[Container])
async def list_containers(call: Call) -> Response:
    """URLs, or objects with recursion, sorted by name; `filter` keeps those that match. With recursion=2 the objects
    have `state`, `snapshots` and `backups` (container_full)."""
    view = await call.view()
    found = sorted((container.name, id) for id, container in view.all(CONTAINERS))
    reachable = _reachable(call)
    text = call.query.get("filter", "")
    if text:
        matches = filtering.parse(text)
        found = [(name, id) for name, id in found if matches(show(view, expand(view, id), reachable))]
    if not call.recursion:
        return sync([url(name) for name, _ in found])
    ids = [id for _, id in found]
    if call.query["recursion"] == "2":
        return sync(await _full(call, view, ids))
    return sync(await _rendered.render_all(view, ids, reachable))


async def _full(call: Call, view: View, ids: list[str]) -> msgspec.Raw:
    """Containers with all that belongs to them. Those of a member that does not answer are Error, their state null."""
    members = {id: container.member for id, container in view.all(CONTAINERS)}
    found = await states.of_members(call.node, view, {members[id] for id in ids})

    def more(id: str) -> dict[str, Any]:
        snapshots = [show_snapshot(view, id, one) for _, one in snapshot_rules.all_of(view, id)]
        name = expand(view, id).name
        backups = [show_backup(name, one) for _, one in backup_rules.all_of(view, id)]
        return {"state": found.get(members[id], {}).get(id), "snapshots": snapshots, "backups": backups}

    return await _rendered.render_all(view, ids, found, more)


@route("POST", "/1.0/containers", target=True, body=ContainersPost)
async def create_container(call: Call) -> Response:
    """Makes a container, on `target` or on the member with the fewest; a copy is made where its source is."""
    if call.headers.get("Content-Type", "") == BACKUP:
        return await _import(call)
    body = await call.json(ContainersPost)
    names.refuse_snapshot(body.name)
    view = await call.view()
    rules.check_any_pool(view)
    member = _place(call, view, body.source)
    if member != call.node.member:
        return forward(call, member)
    _check_state(body)
    origin = source.find(view, call.node, body.source)
    wanted = _wanted(view, body, origin)
    if body.source.type == "migration":
        return await receive_container(call, body.source, wanted)
    return begin(call, "Creating container", wanted.name, _creation(call, wanted, origin), *origin.resources)


def _wanted(view: View, body: ContainersPost, origin: source.Origin) -> rules.Wanted:
    config = sizes.limits(body.instance_type) if body.instance_type else {}
    return rules.Wanted(
        name=body.name or names.draw(lambda name: view.find(KIND, name) is not None),
        architecture=origin.architecture or _architecture(body.architecture),
        description=body.description,
        ephemeral=body.ephemeral,
        config=origin.config | config | volatile.of_client(body.config),
        devices=origin.devices | body.devices,
        profiles=origin.profiles if body.profiles is None else body.profiles,
        trigger=origin.trigger,
    )


async def _import(call: Call) -> Response:
    """Makes a container of a backup's tarball, on `target` or here."""
    view, target = await call.view(), call.query.get("target", "")
    member = placement.choose(view, call.node, target, forwarded=True)
    if member != call.node.member:
        return forward(call, member)
    tarball = await tarballs.receive(call.node.containers.backups.directory, call.stream())
    restore, author = tarballs.restore, call.caller.author
    return begin(call, "Restoring backup", tarball.index.name, lambda op: restore(call.node, tarball, op.id, author))


def _place(call: Call, view: View, asked: Source) -> int:
    target, forwarded = call.query.get("target", ""), call.caller.member is not None
    if asked.type == "copy" and not target and not forwarded:
        return source.holder(view, asked)
    return placement.choose(view, call.node, target, forwarded)


def _check_state(body: ContainersPost) -> None:
    """The state of processes goes with a container of the same name only. Invalid with LXD's words."""
    if body.source.type == "copy" and body.stateful and body.name != body.source.source.partition("/")[0]:
        raise Invalid(
            f'Copying stateful containers requires that source "{body.source.source}" and target "{body.name}" '
            "name be identical"
        )


def _creation(call: Call, wanted: rules.Wanted, origin: source.Origin) -> Callable[[Any], Awaitable[None]]:
    async def create(op: Operation) -> None:
        made, found = wanted, origin
        if origin.remote is not None:
            found = await _download(call, op, origin.remote, origin.secret)
            made = replace(wanted, architecture=found.architecture, config={**found.config, **wanted.config})
        await call.node.containers.create(new_id(), made, found, op.id, call.caller.author)

    return create


async def _download(call: Call, op: Operation, remote: Remote, secret: str) -> source.Origin:
    """The image of another server that a container is made of, which is here then."""
    downloads, author = call.node.images.downloads, call.caller.author
    with op.interruptible():
        fingerprint = await downloads.for_container(remote, author, op.progress("download_progress"), secret=secret)
    return source.of_image(call.node.store.view(), fingerprint)


@route("GET", "/1.0/containers/<name>", answer=Container)
async def show_container(call: Call) -> Response:
    """One container, with its ETag."""
    view = await call.view()
    found = expand(view, rules.find(view, call.arguments["name"]))
    return sync(show(view, found, _reachable(call)), etag=_etag(found))


@route("PUT", "/1.0/containers/<name>", body=ContainerPut)
async def replace_container(call: Call) -> Response:
    """Replaces config, devices, profiles, ephemeral and description, by an operation."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    call.match(_etag(here))
    body = await call.json(ContainerPut)
    if body.restore:
        restore, author = call.node.containers.snapshots.restore, call.caller.author
        return begin(
            call,
            "Restoring snapshot",
            here.name,
            lambda _op: restore(here.id, body.restore, body.stateful, author),
        )

    async def update(_op: Any) -> None:
        fields = {
            "config": body.config or {},
            "devices": body.devices or {},
            "profiles": body.profiles or [],
            "ephemeral": bool(body.ephemeral),
            "description": body.description or "",
        }
        await _update(call, here.id, lambda old: fields | _kept_architecture(old, body))

    return begin(call, "Updating container", here.name, update)


@route("PATCH", "/1.0/containers/<name>", extension="patch", body=ContainerPut)
async def patch_container(call: Call) -> Response:
    """Lays config over by key and devices by name; what is absent stays."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    call.match(_etag(here))
    body = await call.json(ContainerPut)
    if body.restore:
        raise Invalid("Can't call PATCH in restore mode.")
    await _update(call, here.id, lambda old: _merged(old, body))
    return empty()


def _merged(old: Expanded, body: ContainerPut) -> dict[str, Any]:
    return {
        "config": old.local | (body.config or {}),
        "devices": old.container.devices | (body.devices or {}),
        "profiles": old.profiles if body.profiles is None else body.profiles,
        "ephemeral": old.container.ephemeral if body.ephemeral is None else body.ephemeral,
        "description": old.container.description if body.description is None else body.description,
    } | _kept_architecture(old, body)


def _kept_architecture(old: Expanded, body: ContainerPut) -> dict[str, str]:
    """Another architecture; an unknown or absent one keeps the old."""
    try:
        return {"architecture": canonical(body.architecture)}
    except ValueError:
        return {"architecture": old.container.architecture}


async def _update(call: Call, id: str, change: Callable[[Expanded], Mapping[str, Any]]) -> None:
    await call.node.containers.update(id, call.caller.author, lambda old: call.match(_etag(old)), change)


@route("POST", "/1.0/containers/<name>", target=True, body=ContainerPost)
async def rename_container(call: Call) -> Response:
    """Gives the container another name, moves it to the member `target`, or sends it to another server."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    body = await call.json(ContainerPost)
    if body.migration and call.query.get("target"):
        return _move(call, here, body.name or here.name)
    if body.migration:
        call.node.containers.migrations.check(here.id, body.live)
        return await send_container(call, here, body.target, container_only=body.container_only)
    rules.check_free(call.node.store.view(), body.name)
    return begin(
        call,
        "Renaming container",
        here.name,
        lambda _op: call.node.containers.rename(here.id, body.name, call.caller.author),
    )


def _move(call: Call, here: Expanded, name: str) -> Response:
    """Moves a stopped container to another member, data and all (spec/clustering.md 8)."""
    view, author = call.node.store.view(), call.caller.author
    target = placement.choose(view, call.node, call.query["target"], forwarded=True)
    if target == call.node.member:
        raise Invalid(f"Container {here.name} is on member {call.query['target']} already")
    if target not in call.node.cluster.reachable():
        raise Invalid("Target node is offline")
    if here.status.state != STOPPED:
        raise Invalid("Container is running")
    if name != here.name:
        rules.check_free(view, name)
    send = call.node.containers.moves.send
    return begin(call, "Moving container", here.name, lambda op: send(here.id, target, name, op.id, author))


@route("DELETE", "/1.0/containers/<name>")
async def delete_container(call: Call) -> Response:
    """Deletes a stopped container."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    rules.check_stopped(here)
    return begin(
        call, "Deleting container", here.name, lambda _op: call.node.containers.delete(here.id, call.caller.author)
    )


@route("GET", "/1.0/containers/<name>/state", answer=State)
async def show_state(call: Call) -> Response:
    """What the container uses now."""
    here = await find_here(call)
    return here if isinstance(here, Response) else sync(await state.read(call.node, here))


@dataclass(frozen=True)
class _Action:
    description: str
    run: Callable[[Any, str, StatePut], Awaitable[None]]


_ACTIONS = {
    "start": _Action("Starting container", lambda own, id, body: own.start(id, stateful=body.stateful)),
    "stop": _Action(
        "Stopping container",
        lambda own, id, body: own.stop(id, timeout=body.timeout, force=body.force, stateful=body.stateful),
    ),
    "restart": _Action(
        "Restarting container", lambda own, id, body: own.restart(id, timeout=body.timeout, force=body.force)
    ),
    "freeze": _Action("Freezing container", lambda own, id, body: own.freeze(id)),
    "unfreeze": _Action("Unfreezing container", lambda own, id, body: own.unfreeze(id)),
}


@route("PUT", "/1.0/containers/<name>/state", body=StatePut)
async def change_state(call: Call) -> Response:
    """Starts, stops, restarts, freezes or unfreezes the container."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    body = await call.json(StatePut)
    action = _ACTIONS.get(body.action)
    if action is None:
        raise Invalid(f"unknown action {body.action}")
    await call.node.ready.wait()
    return begin(call, action.description, here.name, lambda _op: action.run(call.node.containers, here.id, body))


@route("GET", "/internal/containers/states")
async def list_states(call: Call) -> Response:
    """The states of this member's containers by id; only members may ask."""
    if call.caller.member is None:
        raise Forbidden()
    return sync(await states.here(call.node, call.node.store.view()))


@route("POST", "/internal/containers/settle", body=Settle)
async def settle(call: Call) -> Response:
    """Brings a profile that another member changed to the containers of this one; only members may ask."""
    if call.caller.member is None:
        raise Forbidden()
    body = await call.json(Settle)
    await call.view()
    await call.node.containers.profiles.apply(body.profile, check=True)
    return empty()


async def find_here(call: Call) -> Expanded | Response:
    """The container that a request names, when this member holds it; else the answer that sends the request there."""
    view: View = await call.view()
    found = expand(view, rules.find(view, call.arguments["name"]))
    if found.container.member != call.node.member:
        return forward(call, found.container.member)
    return found


def _reachable(call: Call) -> set[int]:
    """The numbers of the members that were heard just now; of the others nobody knows how their containers are."""
    return {call.node.member, *call.node.cluster.reachable()}


def url(name: str) -> str:
    """Where a container is read; a snapshot's `CT/SNAP` keeps its slash."""
    return f"/1.0/containers/{quote(name)}"


def begin(call: Call, description: str, name: str, run: Callable[[Any], Awaitable[None]], *more: str) -> Response:
    """202 with an operation on a container (and on others)."""
    resources = {"containers": [url(name), *(url(one) for one in more)]}
    return operation(
        call.node.operations.create(
            kind="task", description=description, resources=resources, run=run, author=call.caller.author
        )
    )


def _architecture(name: str) -> str:
    try:
        return canonical(name) if name else ""
    except ValueError as error:
        raise NodeError(str(error)) from None


def _etag(found: Expanded) -> str:
    container = found.container
    return etag_of(
        [number(container.architecture), found.local, container.devices, container.ephemeral, found.profiles]
    )
