"""/internal/containers/ID: what members ask of each other while a container moves. Only members may ask."""

from quart.wrappers import Response

from lxdnode.api.responses import empty, raw
from lxdnode.api.route import Call, route
from lxdnode.node.containers.moves import Request
from lxdnode.node.errors import Forbidden


@route("POST", "/internal/containers/<id>/receive", long=True, body=Request)
async def receive_container(call: Call) -> Response:
    """Fetches a container from the asking member and takes it over; answers when that is done."""
    if call.caller.member is None:
        raise Forbidden()
    await call.node.containers.moves.receive(call.arguments["id"], await call.json(Request))
    return empty()


@route("GET", "/internal/containers/<id>/volume")
async def send_volume(call: Call) -> Response:
    """The volume of a container that moves away, or of its snapshot `snapshot`, as a stream."""
    if call.caller.member is None:
        raise Forbidden()
    return raw(call.node.containers.moves.volume(call.arguments["id"], call.query.get("snapshot", "")))
