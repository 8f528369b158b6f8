"""Requests that change member: bytes both ways, whose request it is, and what is never done twice."""

from pathlib import Path
from typing import Any

import h11
import pytest
import trio
from quart.wrappers import Response
from trio_websocket import wrap_client_stream

from lxdnode.api import links, responses
from lxdnode.api.forward import forward
from lxdnode.api.route import Call, route
from lxdnode.node.errors import NodeError, NotFound
from lxdnode.node.operations import Operation, operation_id
from lxdnode.node.sockets import Sockets, receive_into
from tests.harness.api import Client, Site, cluster, routes_of

MIB = 2**20


def owner(call: Call) -> int | None:
    """The number of the other member that a test has made the owner of everything, as this member sees it."""
    number: int = getattr(call.node, "owner", 2)
    return None if number == call.node.member else number


@route("GET", "/box")
async def show_box(call: Call) -> Response:
    if number := owner(call):
        return forward(call, number)
    return responses.sync([call.node.member, call.caller.author, call.query, call.caller.trusted], etag="e")


@route("PUT", "/box")
async def fill_box(call: Call) -> Response:
    if number := owner(call):
        return forward(call, number)
    call.node.fills = getattr(call.node, "fills", 0) + 1
    size = 0
    async for chunk in call.stream():
        size += len(chunk)
    return responses.created(f"/box/{size}")


@route("POST", "/box")
async def change_box(call: Call) -> Response:
    body = await call.json(dict)
    if number := owner(call):
        return forward(call, number)
    return responses.sync(body)


@route("DELETE", "/box")
async def drop_box(call: Call) -> Response:
    if number := owner(call):
        return forward(call, number)
    failure = getattr(call.node, "failure", None)
    if failure is not None:
        raise failure
    return responses.empty()


@route("GET", "/box/content")
async def read_box(call: Call) -> Response:
    if number := owner(call):
        return forward(call, number)

    async def chunks() -> Any:
        for _ in range(16):
            yield b"x" * MIB

    return responses.raw(chunks(), {"X-LXD-type": "file"})


@route("POST", "/box/shake")
async def shake_box(call: Call) -> Response:
    if number := owner(call):
        return forward(call, number)

    async def run(_: Operation) -> None:
        await trio.lowlevel.checkpoint()

    return responses.operation(call.node.operations.create(kind="task", description="Shaking", run=run))


@route("POST", "/box/sink")
async def sink_box(call: Call) -> Response:
    if number := owner(call):
        return forward(call, number)
    async for _chunk in call.stream():
        call.node.sinking.set()
        await trio.sleep_forever()
    return responses.empty()


ROUTES = routes_of(a=show_box, b=fill_box, c=change_box, d=drop_box, e=read_box, f=shake_box, g=sink_box)


async def test_a_request_is_answered_by_its_owner_in_the_name_of_its_client(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, _):
        answer = await a.ask("GET", "/box?x=1&y=%20")
        assert answer.metadata == [2, "unix:0", {"x": "1", "y": " "}, True]
        assert (answer.headers["etag"], answer.headers["content-type"]) == ("e", "application/json")
        assert len([name for name in answer.headers if name == "date"]) == 1


async def test_identity_is_believed_from_members_only(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (_, b):
        forged = {"X-LXD-Node-Author": "unix:77"}
        assert (await b.ask("GET", "/box", headers=forged)).metadata[1] == "unix:0"
        member = await b.dial(b.node.own)
        assert (await member.ask("GET", "/box", headers=forged)).metadata[1] == "unix:77"
        refused = await member.ask("GET", "/box", headers={**forged, "X-LXD-Node-Guest": "1"})
        assert refused.status == 403


async def test_bodies_pass_in_both_directions_over_kept_connections(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        client = await a.connect()
        for _ in range(3):
            put = await client.ask("PUT", "/box", b"x" * (7 * MIB + 3))
            assert (put.status, put.headers["location"]) == (201, f"/box/{7 * MIB + 3}")
            content = await client.ask("GET", "/box/content")
            assert (len(content.body), content.headers["x-lxd-type"]) == (16 * MIB, "file")
            assert (await client.ask("POST", "/box", {"a": "1"})).metadata == {"a": "1"}
        assert len(b.server._connections) == 1


async def test_a_chunked_body_passes(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, _):
        client = await a.connect()
        headers = [("host", "l"), ("transfer-encoding", "chunked")]
        await client.send(h11.Request(method="PUT", target="/box", headers=headers))
        for _ in range(100):
            await client.send(h11.Data(data=b"x" * 1000))
        await client.send(h11.EndOfMessage())
        assert (await client.answer()).headers["location"] == "/box/100000"


async def test_errors_of_the_owner_reach_the_client(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        for failure, status in ((NotFound("no box"), 404), (NodeError("broken"), 500)):
            b.node.failure = failure  # type: ignore[attr-defined]
            answer = await a.ask("DELETE", "/box")
            assert (answer.status, answer.json["error"]) == (status, str(failure))


async def test_an_answer_that_comes_before_the_body_is_passed_on_at_once(tmp_path: Path) -> None:
    """DELETE does not read: nothing of the body is carried over."""
    async with cluster(tmp_path, 2, ROUTES) as (a, _):
        client = await a.connect()
        headers = [("host", "l"), ("content-length", str(64 * MIB))]
        await client.send(h11.Request(method="DELETE", target="/box", headers=headers))
        with trio.fail_after(5):
            assert (await client.answer()).status == 200


async def test_a_member_that_is_no_longer_the_owner_refuses_and_the_sender_looks_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, ROUTES) as (a, b, c):
        c.node.owner = 3  # type: ignore[attr-defined]
        b.node.owner = 3  # type: ignore[attr-defined]

        class Moved:
            """a sees the old owner first, and the new one after its barrier."""

            looks = iter((2, 3))

        a.node.__class__ = type("Looking", (type(a.node),), {"owner": property(lambda _: next(Moved.looks))})
        assert (await a.ask("PUT", "/box", b"x" * MIB)).headers["location"] == f"/box/{MIB}"
        assert (getattr(b.node, "fills", 0), c.node.fills) == (0, 1)  # type: ignore[attr-defined]


async def test_two_members_that_point_at_each_other_end_with_an_error(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        b.node.owner = 1  # type: ignore[attr-defined]
        with trio.fail_after(5):
            answer = await a.ask("GET", "/box")
        assert (answer.status, answer.json["type"]) == (421, "error")


async def test_a_member_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        await b.network.listen([])
        for method in ("GET", "DELETE"):
            answer = await a.ask(method, "/box")
            assert answer.status == 503
            assert answer.json["error"].startswith("Unable to connect to: ")


async def test_a_kept_connection_that_the_member_closed_is_not_used(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        assert (await a.ask("DELETE", "/box")).status == 200
        for connection in list(b.server._connections):
            connection.end()
        await trio.sleep(0.1)
        assert (await a.ask("DELETE", "/box")).status == 200


async def test_a_change_is_never_sent_twice(tmp_path: Path) -> None:
    """The owner reads the request and dies: nobody knows whether it was done, and the client is told so."""
    async with cluster(tmp_path, 2, ROUTES) as (a, b), trio.open_nursery() as nursery:
        seen: list[bytes] = []

        async def swallow(stream: trio.abc.Stream) -> None:
            seen.append(bytes(await stream.receive_some(65536)))
            await trio.aclose_forcefully(stream)

        await _replace(nursery, b, swallow)
        answer = await a.ask("DELETE", "/box")
        assert answer.status == 503
        assert "Look whether it was done before you repeat it" in answer.json["error"]
        assert len(seen) == 1
        nursery.cancel_scope.cancel()


async def _replace(nursery: trio.Nursery, site: Site, handler: Any) -> None:
    """Has `handler` serve the connections of a member instead of its API."""

    async def serve(stream: trio.abc.Stream, _peer: Any) -> None:
        await handler(stream)

    site.network._server.serve = serve  # type: ignore[method-assign]
    await trio.lowlevel.checkpoint()


async def test_an_operation_of_another_member_is_reached_through_any(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3, ROUTES) as (a, b, c):
        done = trio.Event()

        async def run(operation: Operation) -> None:
            await done.wait()

        operation = b.node.operations.create(kind="task", description="Working", run=run, cancel=True)
        for site in (a, b, c):
            assert (await site.ask("GET", operation.url)).metadata["description"] == "Working"
            assert (await site.ask("GET", f"{operation.url}/wait?timeout=0")).metadata["status"] == "Running"
        assert (await c.ask("DELETE", operation.url)).status == 200
        assert (await a.ask("GET", f"{operation.url}/wait")).metadata["status"] == "Cancelled"
        assert (await a.ask("GET", f"/1.0/operations/{operation_id(9, 1)}")).status == 404


async def test_a_202_comes_through_and_its_end_is_heard(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, _), trio.open_nursery() as nursery:
        stream: Any = (await a.connect()).stream
        events = await wrap_client_stream(nursery, stream, "lxd", "/1.0/events")
        answer = await a.ask("POST", "/box/shake")
        assert (answer.status, answer.json["type"]) == (202, "async")
        assert answer.headers["location"] == answer.json["operation"]
        with trio.fail_after(5):
            while f'"{answer.metadata["id"]}"' not in (text := await events.get_message()) or '"Success"' not in text:
                pass
        nursery.cancel_scope.cancel()


async def test_websockets_of_another_member_are_tunnelled(tmp_path: Path) -> None:
    sockets = Sockets(("0",))

    async def echo(operation: Operation) -> None:
        socket = await sockets.get("0")
        await receive_into(socket, socket.send)
        await socket.send("")

    async with cluster(tmp_path, 2) as (a, b), trio.open_nursery() as nursery:
        operation = b.node.operations.create(kind="websocket", description="", run=echo, sockets=sockets)
        url = f"{operation.url}/websocket?secret="
        refused = await (await a.connect()).upgrade(url + "0" * 64)
        assert (refused.status, refused.json["error"]) == (500, "permission denied")
        # A stranger with the secret, as servers that copy containers are.
        stream: Any = (await a.dial()).stream
        socket = await wrap_client_stream(nursery, stream, "lxd", url + sockets.secrets["0"])
        await socket.send_message(b"x" * MIB)
        echoed = b""
        while len(echoed) < MIB:
            message = await socket.get_message()
            assert isinstance(message, bytes)
            echoed += message
        await socket.send_message("")
        assert await socket.get_message() == ""
        await socket.aclose()
        await operation.wait(2)
        assert operation.status == 200


async def test_a_websocket_to_a_member_that_is_away_gets_an_error(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b):
        await b.network.listen([])
        refused = await (await a.connect()).upgrade(f"/1.0/operations/{operation_id(2, 1)}/websocket?secret=x")
        assert (refused.status, refused.json["type"]) == (503, "error")


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_stranger_is_refused_before_anything_is_sent(tmp_path: Path, method: str) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        stranger: Client = await a.dial()
        assert (await stranger.ask(method, "/box")).status == 403
        assert not b.server._connections


async def test_a_member_that_breaks_in_the_middle_of_an_upload_is_named(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2, ROUTES) as (a, b), trio.open_nursery() as nursery:
        begun = b.node.sinking = trio.Event()  # type: ignore[attr-defined]

        async def cut() -> None:
            await begun.wait()
            for connection in list(b.server._connections):
                await trio.aclose_forcefully(connection.stream)

        nursery.start_soon(cut)
        with trio.fail_after(5):
            answer = await a.ask("POST", "/box/sink", b"x" * MIB)
        assert answer.status == 503
        assert answer.json["error"].startswith("The connection to member m2 broke before it answered POST /box/sink")


async def test_a_member_that_is_not_heard_any_more_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "AWAY", 0.3)
    async with cluster(tmp_path, 2, ROUTES) as (a, b):
        b.node.sinking = trio.Event()  # type: ignore[attr-defined]
        with trio.fail_after(5):
            answer = await a.ask("POST", "/box/sink", b"x")
        assert answer.status == 503
        assert "Look whether it was done" in answer.json["error"]
