"""/1.0/containers/NAME/exec and /logs: commands in containers, and what they and LXC wrote (spec/rest.md 4.1, 4)."""

import re
from typing import Any
from urllib.parse import quote

import trio
from quart.wrappers import Response

from lxdnode.api.responses import empty, operation, raw, sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.containers import find_here, url
from lxdnode.api.types.containers import ExecPost
from lxdnode.node.containers.execution import Execution, Wanted
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.errors import Invalid, NodeError

_KEPT = ("lxc.log", "lxc.conf")
_LOG = re.compile(r"lxc\.log|lxc\.conf|(migration_|snapshot_|exec_)[^/]*")


@route("POST", "/1.0/containers/<name>/exec", body=ExecPost)
async def execute(call: Call) -> Response:
    """Runs a command, with websockets for its streams or without any."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    body = await call.json(ExecPost)
    interactive = body.interactive and body.wait_for_websocket
    record = body.record_output and not body.wait_for_websocket
    wanted = Wanted(body.command, body.environment, interactive, record, body.width, body.height)
    execution = Execution(call.node, here, wanted)
    sockets = execution.sockets() if body.wait_for_websocket else None
    return operation(
        call.node.operations.create(
            kind="websocket" if sockets else "task",
            description="Executing command",
            resources={"containers": [url(here.name)]},
            metadata={"fds": sockets.secrets} if sockets else None,
            sockets=sockets,
            run=execution.run,
            author=call.caller.author,
        )
    )


@route("GET", "/1.0/containers/<name>/logs")
async def list_logs(call: Call) -> Response:
    """The URLs of the logs that can be read."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    folder = trio.Path(_folder(call, here))
    found = [path.name for path in await folder.iterdir()] if await folder.is_dir() else []
    return sync([f"{url(here.name)}/logs/{quote(name)}" for name in sorted(found) if _LOG.fullmatch(name)])


@route("GET", "/1.0/containers/<name>/logs/<file>")
async def show_log(call: Call) -> Response:
    """The text of one log."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    path = _log(call, here)
    try:
        return raw(await path.read_bytes(), {"Content-Disposition": f"inline;filename={path.name}"})
    except FileNotFoundError:
        raise NodeError(f"Log {path.name} of container {here.name}: no such file or directory") from None


@route("DELETE", "/1.0/containers/<name>/logs/<file>")
async def delete_log(call: Call) -> Response:
    """Removes the log of a command."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    path = _log(call, here)
    if path.name in _KEPT:
        raise Invalid("lxc.log and lxc.conf may not be deleted")
    try:
        await path.unlink()
    except FileNotFoundError:
        raise NodeError(f"Log {path.name} of container {here.name}: no such file or directory") from None
    return empty()


def _folder(call: Call, here: Expanded) -> Any:
    return call.node.containers.host.paths(here.name).logs


def _log(call: Call, here: Expanded) -> trio.Path:
    name = call.arguments["file"]
    if not _LOG.fullmatch(name):
        raise Invalid(f"log file name {name} not valid")
    return trio.Path(_folder(call, here)) / name
