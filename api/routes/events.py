"""/1.0/events: a websocket with what happens on the cluster (spec/rest.md 1.8)."""

import re
from collections.abc import Awaitable

import trio

from lxdnode.api.route import Call, route
from lxdnode.node.errors import Invalid
from lxdnode.node.events import TYPES, Listener, encode, lifecycle

_SINCE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?")
_POLICY, _RESTART = 1008, 1012
"""Codes of a close (RFC 6455 7.4.1)."""


@route("GET", "/1.0/events", websocket=True, extension="event_lifecycle")
async def listen(call: Call) -> None:
    """Sends events until either side ends; `type=a,b` chooses. A member gets this member's own only.

    `since=INDEX` or the `id` of an event: first the lifecycle events that followed it, without gap or duplicate, from
    whichever member; what nobody knows any more is an event of type gap. Such a reader may take its time."""
    types = frozenset(call.query.get("type", "").split(",")) & frozenset(TYPES) or frozenset(TYPES)
    local, since = call.caller.member is not None, _since(call.query.get("since", ""))
    replayed = since is not None and "lifecycle" in types and not local
    with call.node.events.listen(types - {"lifecycle"} if replayed else types, local) as listener:
        await call.socket.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_with_client, call, nursery.cancel_scope)
            if replayed and since is not None:
                nursery.start_soon(_until_gone, _replay(call, since))
            await _until_gone(_send(call, listener))
            nursery.cancel_scope.cancel()


def _since(text: str) -> tuple[int, float] | None:
    """(index, number) of the last event that a client has seen; a bare index stands for all of it."""
    if not text:
        return None
    match = _SINCE.fullmatch(text)
    if match is None:
        raise Invalid(f"since '{text}' is neither an index nor the id of an event (INDEX.NUMBER)")
    return int(match[1]), float(match[2] or "inf")


async def _until_gone(sending: Awaitable[None]) -> None:
    try:
        await sending
    except trio.BrokenResourceError:
        return


async def _send(call: Call, listener: Listener) -> None:
    async for message in listener:
        await call.socket.send(message)
    # It did not keep up: it must not take the gap for silence.
    await call.socket.close(_POLICY, "too slow: events were lost")


async def _replay(call: Call, since: tuple[int, float]) -> None:
    index, number = since
    async for item in call.node.history.replay(call.node.log, index if number == float("inf") else index - 1):
        for message in lifecycle(item, after=since):
            await call.socket.send(encode(message))
    await call.socket.close(_RESTART, "this member has another store now: indexes mean something else")


async def _end_with_client(call: Call, scope: trio.CancelScope) -> None:
    try:
        while True:
            await call.socket.receive()
    except trio.EndOfChannel:
        scope.cancel()
