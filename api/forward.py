"""The only place where a request changes member: a tunnel between the client's connection and one to the member.

Owns the rewritten head and what may be tried again (DESIGN.md 4); refuses to look into bodies, and to decide which
member it is: handlers do, and the id of an operation."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import h11
import trio
from quart.wrappers import Response
from quart_trio.wrappers import TrioResponse

from lxdnode.api import responses
from lxdnode.api.access import AUTHOR, GUEST, identify, identity_headers
from lxdnode.api.bodies import Body
from lxdnode.api.links import WINDOW, Broken, Link, Links
from lxdnode.api.route import Call, Headers
from lxdnode.api.waiting import unless
from lxdnode.node.callers import Caller
from lxdnode.node.errors import Unavailable
from lxdnode.node.node import Node

_MISDIRECTED = 421
_NOT_THERE = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "expect", AUTHOR, GUEST})
_NOT_BACK = frozenset({"connection", "keep-alive", "date"})
_FRAMING = frozenset({"content-length", "transfer-encoding"})


class Forward(TrioResponse):
    """What a handler returns for a request that another member must answer: the connection then opens the tunnel."""

    def __init__(self, call: Call, member: int) -> None:
        super().__init__(b"", _MISDIRECTED)
        self.call = call
        self.member = member


def forward(call: Call, member: int) -> Response:
    """Sends the request of `call` to `member` (its number), which then answers the client. A handler returns it before
    it has done anything; it may have read the body. A request that was forwarded already is refused with 421, and its
    sender looks once more after a barrier."""
    if call.caller.member is not None:
        return responses.error(_MISDIRECTED, f"{call.path} is not on this member")
    return Forward(call, member)


class Client(Protocol):
    """The client's side of a websocket's tunnel (`api/protocol.py`)."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...


async def relay(links: Links, forwarded: Forward, scope: Mapping[str, Any], send: Any, last: bool) -> bool:
    """Has the member answer the client. False when it is not the owner (and not `last`): nothing was done then.

    A request is sent a second time only over a kept connection that ended without an answer, and only a GET: a
    change may have been made (Unavailable says so)."""
    call, body = forwarded.call, scope["lxdnode.body"]
    for fresh in (False, True):
        async with links.open(forwarded.member, fresh) as link:
            try:
                head = await unless(partial(_ask, link, _head(call, scope, body), body), link.wait_away)
            except Broken as broken:
                if link.reused and call.method == "GET":
                    continue
                words = f"The connection to member {link.name} broke before it answered {call.request}"
                raise Unavailable(words + _advice(call)) from broken
            if head is None:
                words = (
                    f"Member {link.name} is not heard and did not answer {call.request}: start it, or mend its network"
                )
                raise Unavailable(words + _advice(call))
            if head.status_code == _MISDIRECTED and not body.started and not last:
                return False
            if head.status_code == 202:
                await call.node.feeds.ready(forwarded.member)
            await _answer(link, head, send)
            return True
    raise AssertionError("a fresh connection is not reused")


async def _ask(link: Link, head: h11.Request, body: Body) -> h11.Response:
    """Sends the request and returns the head of the answer. A body that is still to be read leaves only when the
    member asks for it, so that a refusal costs nothing and can be followed by another try."""
    if body.kept is not None or body.is_empty:
        kept = [h11.Data(data=body.kept)] if body.kept else []
        await link.send(head, *kept, h11.EndOfMessage())
        return await _response(link)
    await link.send(head)
    if isinstance(first := await link.next(), h11.Response):
        return first
    answered: list[h11.Response] = []

    async def listen() -> None:
        answered.append(await _response(link))

    async def pass_on() -> None:
        async for chunk in body:
            await link.send(h11.Data(data=chunk))
        await link.send(h11.EndOfMessage())

    # An owner may answer before it has read all, and read no more.
    await unless(pass_on, listen)
    return answered[0] if answered else await _response(link)


async def _response(link: Link) -> h11.Response:
    while not isinstance(event := await link.next(), h11.Response):
        pass
    return event


async def _answer(link: Link, head: h11.Response, send: Any) -> None:
    """Passes the answer on to the client."""
    headers = [(name, value) for name, value in head.headers if name.decode() not in _NOT_BACK]
    await send({"type": "http.response.start", "status": head.status_code, "headers": headers})
    while not isinstance(event := await link.next(), h11.EndOfMessage):
        if isinstance(event, h11.Data):
            await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _head(call: Call, scope: Mapping[str, Any], body: Body) -> h11.Request:
    """The request's head as the member gets it: whose it is, framed for a body that is at hand or to be asked for."""
    headers = _headers(call.caller, scope["headers"])
    if body.kept is not None:
        headers = [(name, value) for name, value in headers if name.decode() not in _FRAMING]
        headers.append((b"content-length", str(len(body.kept)).encode()))
    elif not body.is_empty:
        headers.append((b"expect", b"100-continue"))
    return h11.Request(method=call.method, target=_target(scope), headers=headers)


def _headers(caller: Caller, raw: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in raw if name.decode().lower() not in _NOT_THERE]
    return kept + identity_headers(caller)


def _target(scope: Mapping[str, Any]) -> bytes:
    path, query = scope["raw_path"], scope["query_string"]
    return bytes(path + b"?" + query if query else path)


def _advice(call: Call) -> str:
    return "" if call.method == "GET" else ". Look whether it was done before you repeat it"


async def tunnel(
    links: Links, member: int, caller: Caller, scope: Mapping[str, Any], client: Client, http: h11.Connection
) -> None:
    """Connects a client's websocket request with `member`, bytes both ways, until either side ends. `http` is the
    client's connection as h11 knows it, after the request's head."""
    async with links.open(member, fresh=True) as link:
        headers = [*_headers(caller, scope["headers"]), (b"connection", b"Upgrade")]
        await link.send(h11.Request(method="GET", target=_target(scope), headers=headers), h11.EndOfMessage())
        head = await link.next()
        if not isinstance(head, h11.InformationalResponse):
            await _reject(link, head, client, http)
            return
        await client.write(http.send(h11.InformationalResponse(status_code=101, headers=head.headers)) or b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pump_out, client, link, http.trailing_data[0], nursery.cancel_scope)
            await _pump_back(client, link, nursery.cancel_scope)
    client.end()


async def _reject(link: Link, head: h11.Response, client: Client, http: h11.Connection) -> None:
    """Passes on that the member did not accept the websocket."""
    data = bytearray()
    while not isinstance(event := await link.next(), h11.EndOfMessage):
        data += event.data
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    answer = h11.Response(status_code=head.status_code, headers=headers)
    parts = (answer, h11.Data(data=bytes(data)), h11.EndOfMessage())
    await client.write(b"".join(http.send(part) or b"" for part in parts))
    client.end()


async def _pump_out(client: Client, link: Link, first: bytes, scope: trio.CancelScope) -> None:
    data = first or await client.read()
    while data:
        await link.stream.send_all(data)
        data = await client.read()
    scope.cancel()


async def _pump_back(client: Client, link: Link, scope: trio.CancelScope) -> None:
    data = link.connection.trailing_data[0] or await link.stream.receive_some(WINDOW)
    while data:
        await client.write(bytes(data))
        data = await link.stream.receive_some(WINDOW)
    scope.cancel()


def websocket_owner(node: Node, scope: Mapping[str, Any]) -> tuple[int, Caller] | None:
    """(member, caller) of a websocket request that another member must answer: only operations have such."""
    headers: Headers = scope["lxdnode.headers"]
    path: str = scope["path"]
    prefix, suffix = "/1.0/operations/", "/websocket"
    if not (path.startswith(prefix) and path.endswith(suffix)):
        return None
    member = node.operations.owner(path[len(prefix) : -len(suffix)])
    caller = identify(node.trust, scope["state"]["peer"], headers)
    return None if member is None or caller.member is not None else (member, caller)
