"""Operations: ids that name their member, a life from Pending to gone, and what the API shows of it."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from lxdnode.node import operations as module
from lxdnode.node.errors import Invalid, NodeError, NotFound
from lxdnode.node.operations import Operation, Operations, operation_id, parse_id
from lxdnode.node.sockets import Sockets, receive_into, send_from
from tests.harness.api import Site, alone


def make(nursery: trio.Nursery, told: list[Any] | None = None) -> Operations:
    return Operations(nursery, 3, 7, lambda operation: told.append(operation.render()) if told is not None else None)


async def at_once(_: Operation) -> None:
    await trio.lowlevel.checkpoint()


async def for_ever(_: Operation) -> None:
    await trio.sleep_forever()


@given(st.integers(1, 65535), st.integers(0, 2**32 - 1))
def test_an_id_is_a_uuid4_that_names_member_and_incarnation(member: int, incarnation: int) -> None:
    id = operation_id(member, incarnation)
    parsed = uuid.UUID(id)
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert parse_id(id) == (member, incarnation)


def test_other_ids_name_nobody() -> None:
    foreign = [parse_id(str(uuid.uuid4())) for _ in range(1000)]
    assert sum(parsed is not None for parsed in foreign) < 20
    for text in ("", "x", operation_id(1, 1).upper(), operation_id(1, 1).replace("-", "")):
        assert parse_id(text) is None


def test_ids_differ() -> None:
    assert len({operation_id(1, 1)[:13] for _ in range(1000)}) == 1000


async def test_work_runs_at_once_and_ends_well(autojump_clock: trio.testing.MockClock) -> None:
    told: list[Any] = []

    async def run(operation: Operation) -> None:
        operation.update(metadata={"progress": "1"})
        await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        operations = make(nursery, told)
        operation = operations.create(
            kind="task", description="Working", run=run, resources={"containers": ["/1.0/containers/c1"]}
        )
        assert operation.render()["status"] == "Running"
        await operation.wait(0)
        assert not operation.is_final
        await operation.wait()
        shown = operation.render()
        assert (shown["status"], shown["status_code"], shown["err"]) == ("Success", 200, "")
        assert list(shown) == [
            "id",
            "class",
            "description",
            "created_at",
            "updated_at",
            "status",
            "status_code",
            "resources",
            "metadata",
            "may_cancel",
            "err",
        ]
        assert [event["status_code"] for event in told] == [105, 103, 103, 200]
        assert told[1]["updated_at"] == told[0]["updated_at"] < told[2]["updated_at"] == told[3]["updated_at"]
        with pytest.raises(Invalid):
            operation.update(metadata={})


async def test_a_final_operation_is_kept_for_5_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        operations = make(nursery)
        operation = operations.create(kind="task", description="", run=at_once)
        await operation.wait()
        await trio.sleep(4.9)
        assert operations.get(operation.id) is operation and operations.all() == [operation]
        await trio.sleep(0.2)
        with pytest.raises(NotFound, match="not found"):
            operations.get(operation.id)


@pytest.mark.parametrize(
    ("failure", "words"),
    [(NotFound(), "not found"), (Invalid("no good"), "no good"), (ExceptionGroup("g", [OSError("disk")]), "disk")],
)
async def test_a_failure_becomes_err(autojump_clock: trio.testing.MockClock, failure: Exception, words: str) -> None:
    async def run(_: Operation) -> None:
        raise failure

    async with trio.open_nursery() as nursery:
        operation = make(nursery).create(kind="task", description="", run=run)
        await operation.wait()
        assert (operation.status, operation.err) == (400, words)


async def test_cancelling_interrupts_the_work(autojump_clock: trio.testing.MockClock) -> None:
    undone = []

    async def run(_: Operation) -> None:
        try:
            await trio.sleep_forever()
        finally:
            undone.append(True)

    async with trio.open_nursery() as nursery:
        operations = make(nursery)
        fixed = operations.create(kind="task", description="", run=for_ever)
        with pytest.raises(Invalid, match="This operation can't be cancelled"):
            fixed.cancel()
        operation = operations.create(kind="task", description="", run=run, cancel=True)
        assert operation.may_cancel
        await trio.testing.wait_all_tasks_blocked()
        operation.cancel()
        assert operation.render()["status"] == "Cancelling"
        await operation.wait()
        assert (operation.status, undone, operation.may_cancel) == (401, [True], False)
        with pytest.raises(Invalid, match="Only running operations can be cancelled"):
            operation.cancel()
        nursery.cancel_scope.cancel()


async def test_a_token_stays_until_it_is_withdrawn(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        token = make(nursery).create(kind="token", description="Image download token")
        assert token.metadata is not None and len(token.metadata["secret"]) == 64
        await trio.sleep(3600)
        assert token.render()["status"] == "Running" and token.may_cancel
        token.cancel()
        await token.wait()
        assert token.render()["status"] == "Cancelled"


async def test_who_waits_is_told_when_the_daemon_ends() -> None:
    told: list[Any] = []
    async with trio.open_nursery() as nursery:
        make(nursery, told).create(kind="task", description="", run=for_ever)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert told[-1]["status"] == "Failure"


# Over the API.


def create(site: Site, run: Any, **more: Any) -> Operation:
    return site.node.operations.create(kind="task", description="Working", run=run, **more)


async def test_an_operation_is_listed_shown_waited_for_and_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 0.3)
    done = trio.Event()
    async with alone(tmp_path) as site:
        operation = create(site, lambda _: done.wait())
        assert (await site.ask("GET", "/1.0/operations")).metadata == {"running": [operation.url]}
        assert (await site.ask("GET", "/1.0/operations?recursion=1")).metadata["running"][0]["id"] == operation.id
        shown = (await site.ask("GET", operation.url)).metadata
        assert (shown["description"], shown["class"], shown["may_cancel"]) == ("Working", "task", False)
        assert shown["created_at"].endswith("Z")
        assert (await site.ask("GET", f"{operation.url}/wait?timeout=0")).metadata["status"] == "Running"
        answer = await site.ask("DELETE", operation.url)
        assert (answer.status, answer.json["error"]) == (400, "This operation can't be cancelled")
        assert (await site.ask("GET", f"{operation.url}/wait?timeout=x")).status == 500
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_success, site, operation)
            await trio.sleep(0.05)
            done.set()
        await trio.sleep(0.4)
        for method, path in (("GET", ""), ("GET", "/wait"), ("DELETE", "")):
            assert (await site.ask(method, operation.url + path)).status == 404
        assert (await site.ask("GET", "/1.0/operations")).metadata == {}


async def _expect_success(site: Site, operation: Operation) -> None:
    # Some tools send an empty body with Content-Length 0 (spec/client.md).
    assert (await site.ask("GET", f"{operation.url}/wait")).metadata["status"] == "Success"


async def test_a_failed_operation_is_still_200_for_who_waits(tmp_path: Path) -> None:
    async def run(_: Operation) -> None:
        raise NotFound

    async with alone(tmp_path) as site:
        answer = await site.ask("GET", f"{create(site, run).url}/wait")
        assert (answer.status, answer.metadata["status_code"], answer.metadata["err"]) == (200, 400, "not found")


async def test_an_operation_of_an_earlier_start_has_failed(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        url = f"/1.0/operations/{operation_id(1, 0)}"
        shown = (await site.ask("GET", f"{url}/wait")).metadata
        assert (shown["status"], shown["err"]) == ("Failure", "the daemon was started anew")
        assert (await site.ask("DELETE", url)).status == 404


async def connect(site: Site, nursery: trio.Nursery, url: str, secret: str) -> WebSocketConnection:
    stream: Any = (await site.connect()).stream
    return await wrap_client_stream(nursery, stream, "lxd", f"{url}/websocket?secret={secret}")


async def test_websockets_of_an_operation_carry_bytes_until_the_empty_message(tmp_path: Path) -> None:
    """An exec without a terminal, with `cat` played by a pipe."""
    sockets = Sockets(("0", "1", "control"))

    async def run(operation: Operation) -> None:
        stdin, stdout = await sockets.get("0"), await sockets.get("1")
        send, receive = trio.testing.memory_stream_one_way_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_from, receive.receive_some, stdout)
            await receive_into(stdin, send.send_all)
            await send.aclose()
        operation.update(metadata={"return": 0})

    async with alone(tmp_path) as site, trio.open_nursery() as nursery:
        operation = site.node.operations.create(
            kind="websocket",
            description="Executing command",
            run=run,
            sockets=sockets,
            metadata={"fds": sockets.secrets},
        )
        refused = await (await site.connect()).upgrade(f"{operation.url}/websocket?secret={'0' * 64}")
        assert (refused.status, refused.json["error"]) == (500, "permission denied")
        stdin = await connect(site, nursery, operation.url, sockets.secrets["0"])
        stdout = await connect(site, nursery, operation.url, sockets.secrets["1"])
        sent = [bytes([i]) * 50_000 for i in range(100)]
        received = b""

        async def write() -> None:
            for message in sent:
                await stdin.send_message(message)
            await stdin.send_message("")
            await stdin.aclose()

        nursery.start_soon(write)
        while (message := await stdout.get_message()) != "":
            assert isinstance(message, bytes)
            received += message
        assert received == b"".join(sent)
        await operation.wait()
        assert (operation.status, operation.metadata) == (200, {"return": 0})
        with pytest.raises(ConnectionClosed) as closed:
            await stdout.get_message()
        assert closed.value.reason is not None and closed.value.reason.code == 1000


async def test_a_socket_that_is_not_read_holds_its_sender_back(tmp_path: Path) -> None:
    sockets = Sockets(("0",))

    async def run(_: Operation) -> None:
        await sockets.get("0")
        await trio.sleep_forever()

    async with alone(tmp_path) as site, trio.open_nursery() as nursery:
        operation = site.node.operations.create(kind="websocket", description="", run=run, sockets=sockets)
        socket = await connect(site, nursery, operation.url, sockets.secrets["0"])
        sent = 0
        with trio.move_on_after(0.5):
            for _ in range(1000):
                await socket.send_message(b"x" * 65536)
                sent += 65536
        assert sent < 10 * 2**20
        nursery.cancel_scope.cancel()


async def test_strangers_need_the_secret_and_nothing_else(tmp_path: Path) -> None:
    sockets = Sockets(("0",))

    async def run(_: Operation) -> None:
        await (await sockets.get("0")).send(b"welcome")

    async with alone(tmp_path) as site, trio.open_nursery() as nursery:
        operation = site.node.operations.create(kind="websocket", description="", run=run, sockets=sockets)
        url = f"{operation.url}/websocket?secret="
        stranger = await site.dial()
        assert (await stranger.ask("GET", operation.url)).status == 403
        for secret, status in ((sockets.secrets["0"][:-1] + "g", 500), ("", 500), ("%C3%A9", 500)):
            assert (await (await site.dial()).upgrade(url + secret)).status == status
        stream: Any = (await site.dial()).stream
        socket = await wrap_client_stream(nursery, stream, "lxd", url + sockets.secrets["0"])
        assert await socket.get_message() == b"welcome"


async def test_who_comes_after_the_end_is_told_so(tmp_path: Path) -> None:
    sockets = Sockets(("0",))

    async def run(_: Operation) -> None:
        return None

    async with alone(tmp_path) as site:
        operation = site.node.operations.create(kind="websocket", description="", run=run, sockets=sockets)
        await operation.wait()
        refused = await (await site.connect()).upgrade(f"{operation.url}/websocket?secret={sockets.secrets['0']}")
        assert (refused.status, refused.json["error"]) == (500, "Only running operations can be connected")


def test_a_secret_is_64_hex_digits_and_checked_whole() -> None:
    sockets = Sockets(("0", "control"))
    assert all(len(secret) == 64 and int(secret, 16) for secret in sockets.secrets.values())
    assert sockets.check(sockets.secrets["control"]) == "control"
    with pytest.raises(NodeError, match="^permission denied$"):
        sockets.check(sockets.secrets["0"][:10])
