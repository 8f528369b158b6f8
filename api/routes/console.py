"""/1.0/containers/NAME/console: its terminal by websockets, and what it has written (spec/rest.md 4.3)."""

from quart.wrappers import Response

from lxdnode.api.responses import empty, operation, raw
from lxdnode.api.route import Call, route
from lxdnode.api.routes.containers import find_here, url
from lxdnode.api.types.containers import ConsolePost
from lxdnode.node.containers import console


@route("POST", "/1.0/containers/<name>/console", extension="console", body=ConsolePost)
async def attach_console(call: Call) -> Response:
    """Attaches to the console, with a websocket for the terminal and one for control."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    body = await call.json(ConsolePost)
    session = console.Session(call.node, here, body.width, body.height)
    return operation(
        call.node.operations.create(
            kind="websocket",
            description="Showing console",
            resources={"containers": [url(here.name)]},
            metadata={"fds": session.sockets.secrets},
            sockets=session.sockets,
            run=session.run,
            author=call.caller.author,
        )
    )


@route("GET", "/1.0/containers/<name>/console", extension="console")
async def show_console_log(call: Call) -> Response:
    """What the console has written."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    return raw(await console.read_log(call.node.containers.host.paths(here.name).console))


@route("DELETE", "/1.0/containers/<name>/console", extension="console")
async def clear_console_log(call: Call) -> Response:
    """Empties the log of the console."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    await console.clear_log(call.node.containers.host.paths(here.name).console)
    return empty()
