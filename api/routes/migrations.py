"""Containers and volumes between servers: the operations of both sides (spec/migration.md 2 and 7). The routes are
those of containers, snapshots and volumes.

Owns which side dials and which waits; refuses to know what is sent (`node/containers/migrations.py`,
`node/storage/volumes.py`)."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import trio
from quart.wrappers import Response

from lxdnode.api.responses import operation as answer
from lxdnode.api.route import Call
from lxdnode.api.types.containers import Source, Target
from lxdnode.node.containers import migrations, rules
from lxdnode.node.containers.containers import new_id
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.documents import Draft
from lxdnode.node.errors import Invalid, NodeError
from lxdnode.node.migration.dial import dialled
from lxdnode.node.migration.session import NAMES, Named, Report
from lxdnode.node.operations import Operation
from lxdnode.node.sockets import Sockets
from lxdnode.node.storage.records import Volume

Work = Callable[[Operation, Named, Report], Awaitable[None]]
Resources = Mapping[str, list[str]] | None
_PROGRESS = "fs_progress"
_NO_CRIU = "Unable to perform container live migration. CRIU isn't installed on the destination server."


class Origin(Protocol):
    """What a sink is told of its source. `secrets`: by name of socket."""

    mode: str
    operation: str
    certificate: str
    secrets: dict[str, str]


async def send_container(
    call: Call, here: Expanded, target: Target | None, *, snapshot: str = "", container_only: bool = False
) -> Response:
    """202 with the operation that sends a container, or one of its snapshots: to who connects with its secrets, or to
    the operation of another server."""
    send = call.node.containers.migrations.send

    async def work(_operation: Operation, sockets: Named, report: Report) -> None:
        await send(here.id, snapshot, container_only, sockets, report)

    description = "Transferring snapshot" if snapshot else "Migrating container"
    return await _send(call, description, {"containers": [rules.url(here.name)]}, work, target)


async def send_volume(call: Call, pool: str, id: str, name: str, target: Target | None) -> Response:
    """202 with the operation that sends a custom volume of this member."""
    send = call.node.storage.volumes.send

    async def work(_operation: Operation, sockets: Named, report: Report) -> None:
        await send(pool, id, sockets, report)

    resources = {"storage_volumes": [f"/1.0/storage_volumes/{pool}/volumes/custom/{name}"]}
    return await _send(call, "Migrating storage volume", resources, work, target)


async def _send(call: Call, description: str, resources: Resources, work: Work, target: Target | None) -> Response:
    if target is None:
        return answer(_wait(call, description, resources, work, cancel=True))
    unknown = sorted(set(target.secrets) - set(NAMES))
    if unknown:
        raise NodeError(f"Unknown secret provided: {unknown[0]}")
    return await _send_to(call, description, resources, work, target)


async def _send_to(call: Call, description: str, resources: Resources, work: Work, target: Target) -> Response:
    """The answer comes once the other server's sockets are connected; a failure to do so is the request's."""
    connected, failures = trio.Event(), list[Exception]()

    async def dial(operation: Operation) -> None:
        try:
            async with dialled(target.operation, target.secrets, target.certificate) as sockets:
                connected.set()
                await work(operation, sockets, operation.progress(_PROGRESS))
        except NodeError as error:
            failures.append(error)
            raise
        finally:
            connected.set()

    made = _begin(call, description, resources, dial)
    await connected.wait()
    if failures:
        raise failures[0]
    return answer(made)


async def receive_container(call: Call, source: Source, wanted: rules.Wanted) -> Response:
    """202 with the operation that makes a container of what another server sends; the container is there by then."""
    if not wanted.architecture:
        raise Invalid("Architecture isn't supported: ")
    if (source.live and source.mode == "push") or "criu" in source.secrets:
        raise NodeError(_NO_CRIU)
    wanted = migrations.placed(call.node.store.view(), wanted)
    own = call.node.containers
    rules.reserve(Draft(call.node.log.state), new_id(), wanted, own.place, "")  # For its refusals, which LXD answers.
    receive, author = own.migrations.receive, call.caller.author

    reserved = trio.Event()

    async def work(operation: Operation, sockets: Named, report: Report) -> None:
        try:
            await receive(wanted, sockets, operation.id, author, report, reserved.set)
        finally:
            reserved.set()

    answered = _receive(call, "Creating container", {"containers": [rules.url(wanted.name)]}, work, source)
    if source.mode == "push":  # Who pulls has dialled first, which may fail.
        await reserved.wait()
    return answered


def receive_volume(call: Call, pool: str, source: Origin, fresh: Volume) -> Response:
    """202 with the operation that makes a custom volume of what another server sends."""
    receive, author = call.node.storage.volumes.receive, call.caller.author

    async def work(_operation: Operation, sockets: Named, report: Report) -> None:
        await receive(pool, fresh, sockets, report, author)

    description = "Creating storage volume" if source.mode == "push" else "Copying storage volume"
    return _receive(call, description, None, work, source)


def _receive(call: Call, description: str, resources: Resources, work: Work, source: Origin) -> Response:
    """The sink waits to be connected (push), or connects to the source's operation (pull)."""
    if source.mode == "push":
        return answer(_wait(call, description, resources, work))
    _check_secrets(source.secrets)

    async def pull(operation: Operation) -> None:
        async with dialled(source.operation, source.secrets, source.certificate) as sockets:
            await work(operation, sockets, operation.progress(_PROGRESS))

    return answer(_begin(call, description, resources, pull))


def _check_secrets(secrets: Iterable[str]) -> None:
    for name in NAMES:
        if name not in secrets:
            raise NodeError(f"Missing {name} secret")


def _wait(call: Call, description: str, resources: Resources, work: Work, cancel: bool = False) -> Operation:
    """The operation of a side that is connected to: it shows the secrets of its sockets."""
    sockets = Sockets(NAMES)

    async def run(operation: Operation) -> None:
        await work(operation, sockets, operation.progress(_PROGRESS))

    return _begin(call, description, resources, run, sockets, cancel)


def _begin(
    call: Call,
    description: str,
    resources: Resources,
    run: Callable[[Operation], Awaitable[None]],
    sockets: Sockets | None = None,
    cancel: bool = False,
) -> Operation:
    return call.node.operations.create(
        kind="websocket" if sockets else "task",
        description=description,
        resources=resources,
        metadata=dict(sockets.secrets) if sockets else None,
        sockets=sockets,
        run=run,
        cancel=cancel,
        author=call.caller.author,
    )
