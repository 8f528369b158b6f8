"""/1.0/events: a websocket with what happens on the cluster (spec/rest.md 1.8)."""

import trio

from lxdnode.api.route import Call, route
from lxdnode.node.events import TYPES, Listener


@route("GET", "/1.0/events", websocket=True, extension="event_lifecycle")
async def listen(call: Call) -> None:
    """Sends events until either side ends; `type=a,b` chooses. A member gets this member's own only."""
    types = frozenset(call.query.get("type", "").split(",")) & frozenset(TYPES) or frozenset(TYPES)
    with call.node.events.listen(types, local=call.caller.member is not None) as listener:
        await call.socket.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_with_client, call, nursery.cancel_scope)
            await _send(call, listener)
            nursery.cancel_scope.cancel()


async def _send(call: Call, listener: Listener) -> None:
    try:
        async for message in listener:
            await call.socket.send(message)
        # It did not keep up: it must not take the gap for silence.
        await call.socket.close(1008, "too slow: events were lost")
    except trio.BrokenResourceError:
        return


async def _end_with_client(call: Call, scope: trio.CancelScope) -> None:
    try:
        while True:
            await call.socket.receive()
    except trio.EndOfChannel:
        scope.cancel()
