"""/1.0/operations: of all members, through any member (spec/rest.md 10)."""

import re
from typing import Any

from quart.wrappers import Response

from lxdnode.api.forward import forward
from lxdnode.api.responses import empty, sync
from lxdnode.api.route import Call, route
from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.errors import Invalid, NodeError, NotFound
from lxdnode.node.operations import RUNNING, lost, parse_id
from lxdnode.node.sockets import NO_SECRET

_NUMBER = re.compile(r"-?[0-9]{1,9}")


@route("GET", "/1.0/operations")
async def list_operations(call: Call) -> Response:
    """URLs by status word, or objects with recursion; of all members that can be reached."""
    found = [one.render() for one in call.node.operations.all()]
    if call.caller.member is None:
        found += await call.node.feeds.operations()
    shown: dict[str, list[Any]] = {}
    for one in found:
        item = one if call.recursion else f"/1.0/operations/{one['id']}"
        shown.setdefault(one["status"].lower(), []).append(item)
    return sync(shown)


@route("GET", "/1.0/operations/<id>")
async def show_operation(call: Call) -> Response:
    """One operation; for KEPT seconds after its end."""
    return _elsewhere(call) or sync(call.node.operations.get(call.arguments["id"]).render())


@route("DELETE", "/1.0/operations/<id>")
async def cancel_operation(call: Call) -> Response:
    """Interrupts the work, or withdraws a token."""
    if elsewhere := _elsewhere(call):
        return elsewhere
    call.node.operations.get(call.arguments["id"]).cancel()
    return empty()


@route("GET", "/1.0/operations/<id>/wait", long=True)
async def wait_for_operation(call: Call) -> Response:
    """The operation when it is final, or after `timeout` seconds as it is then: 200 whatever its state."""
    if elsewhere := _elsewhere(call):
        return elsewhere
    operation = call.node.operations.get(call.arguments["id"])
    await operation.wait(_timeout(call.query.get("timeout", "")))
    return sync(operation.render())


@route("GET", "/1.0/operations/<id>/websocket", websocket=True, guest=True)
async def connect_operation(call: Call) -> None:
    """A socket of an operation: the secret is the right (spec/security.md 3). Of other members' operations the
    connection is handed over before it comes here (`api/forward.py`)."""
    secret = call.query.get("secret", "")
    try:
        operation = call.node.operations.get(call.arguments["id"])
    except NotFound:
        raise NotFound if secret else Invalid(NO_SECRET) from None
    if operation.sockets is None:
        raise NodeError("Only websocket operations can be connected")
    if operation.status != RUNNING:
        raise NodeError("Only running operations can be connected")
    operation.sockets.check(secret)
    await call.socket.accept()
    await operation.sockets.attach(secret, call.socket)


def _elsewhere(call: Call) -> Response | None:
    """The answer for an operation that is not this daemon's, or None. One whose member has gone has failed."""
    id = call.arguments["id"]
    if call.node.operations.is_over(id):
        return _lost(call, "the daemon was started anew")
    number = call.node.operations.owner(id)
    if number is None:
        return None
    owner, parsed = find_member(call.node.store.view(), number), parse_id(id)
    if owner is None or parsed is None:
        raise NotFound
    if owner.phase == "removed" or owner.incarnation > parsed[1]:
        return _lost(call, f"member {owner.name} went away")
    return forward(call, number)


def _lost(call: Call, words: str) -> Response:
    if call.method == "DELETE":
        raise NotFound
    return sync(lost(call.arguments["id"], words))


def _timeout(text: str) -> float | None:
    """Seconds to wait; None for without limit. Not a number: 500, as LXD has it."""
    if text and not _NUMBER.fullmatch(text):
        raise NodeError(f"Invalid timeout '{text}': it must be a number of seconds")
    seconds = int(text or -1)
    return None if seconds < 0 else seconds
