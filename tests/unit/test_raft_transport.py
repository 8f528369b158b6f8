"""Links: frames come out as they went in, in order and however they were cut; the newest stream is the link."""

import random

import pytest
import trio
import trio.testing

from lxdnode.raft.core import Message
from lxdnode.raft.errors import HelloRefused
from lxdnode.raft.journal import Identity
from lxdnode.raft.transport import ARRIVAL, FRAME_LIMIT, PATIENCE, SILENCE, Transport, encode


class Side:
    """One member's transport, and what came over it."""

    def __init__(self, number: int, cluster: str = "c") -> None:
        self.received: list[Message] = []
        self.links: list[tuple[int, bool]] = []
        self.transport = Transport(Identity(cluster, 1, number), None, self._receive, self._link)

    def _receive(self, member: int, messages: list[Message]) -> None:
        self.received += [message for message in messages if message["type"] != "ping"]

    def _link(self, member: int, *, up: bool) -> None:
        self.links.append((member, up))


class Crumbs(trio.abc.ReceiveStream):
    """Gives what comes out of a stream in pieces of a few bytes."""

    def __init__(self) -> None:
        self.source = trio.testing.MemoryReceiveStream()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.source.receive_some(random.randint(1, 7))

    async def aclose(self) -> None:
        await self.source.aclose()


def _pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    return trio.testing.memory_stream_pair()


Streams = tuple[trio.abc.Stream, trio.abc.Stream]


async def _connect(nursery: trio.Nursery, one: Side, other: Side, streams: Streams) -> None:
    nursery.start_soon(one.transport.serve, streams[0], 2)
    nursery.start_soon(other.transport.serve, streams[1], 1)
    await trio.testing.wait_all_tasks_blocked()


async def test_messages_arrive_whole_and_in_order_however_they_are_cut(nursery: trio.Nursery) -> None:
    one, other = Side(1), Side(2)
    there, back = trio.testing.MemorySendStream(), trio.testing.MemorySendStream()
    here, crumbs = trio.testing.MemoryReceiveStream(), Crumbs()
    there.send_all_hook = lambda: _pump(there, crumbs.source)
    back.send_all_hook = lambda: _pump(back, here)
    await _connect(nursery, one, other, (trio.StapledStream(there, here), trio.StapledStream(back, crumbs)))
    sent = [{"type": "test", "number": number, "data": bytes(number % 50)} for number in range(200)]
    for message in sent:
        one.transport.deliver(2, message)
    with trio.fail_after(5):
        while len(other.received) < len(sent):  # noqa: ASYNC110 - whatever the pieces are
            await trio.sleep(0.01)
    assert other.received == sent
    nursery.cancel_scope.cancel()


async def _pump(sender: trio.testing.MemorySendStream, receiver: trio.testing.MemoryReceiveStream) -> None:
    receiver.put_data(sender.get_data_nowait())


async def test_the_newest_stream_is_the_link(nursery: trio.Nursery) -> None:
    one, other = Side(1), Side(2)
    await _connect(nursery, one, other, _pair())
    await _connect(nursery, one, other, _pair())
    assert one.links == [(2, True), (2, False), (2, True)]
    one.transport.deliver(2, {"type": "test"})
    await trio.testing.wait_all_tasks_blocked()
    assert other.received == [{"type": "test"}]
    nursery.cancel_scope.cancel()


async def test_a_silent_link_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    one = Side(1)
    ours, theirs = _pair()
    await theirs.send_all(encode({"type": "hello", "cluster": "c", "epoch": 1, "member": 2}))
    started = trio.current_time()
    await one.transport.serve(ours, 2)
    assert trio.current_time() - started == pytest.approx(SILENCE, abs=0.1)
    assert one.links == [(2, True), (2, False)]


async def test_links_that_carry_nothing_stay(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Side(1), Side(2)
    async with trio.open_nursery() as nursery:
        await _connect(nursery, one, other, _pair())
        await trio.sleep(60)
        assert one.links == [(2, True)]
        nursery.cancel_scope.cancel()


async def test_nobody_who_says_nothing_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(trio.TooSlowError):
        await Side(1).transport.serve(_pair()[0], 2)


async def test_what_is_no_frame_ends_the_link(nursery: trio.Nursery) -> None:
    one = Side(1)
    ours, theirs = _pair()
    await theirs.send_all(encode({"type": "hello", "cluster": "c", "epoch": 1, "member": 2}))
    nursery.start_soon(one.transport.serve, ours, 2)
    await trio.testing.wait_all_tasks_blocked()
    await theirs.send_all((FRAME_LIMIT + 1).to_bytes(4, "big"))
    await trio.testing.wait_all_tasks_blocked()
    assert one.links == [(2, True), (2, False)]
    assert "frame" in one.transport.failures[2]


async def test_another_member_than_expected_is_refused() -> None:
    ours, theirs = _pair()
    await theirs.send_all(encode({"type": "hello", "cluster": "c", "epoch": 1, "member": 3}))
    with pytest.raises(HelloRefused, match="member 3"):
        await Side(1).transport.serve(ours, 2)


async def test_dialling_is_tried_again_until_it_works(autojump_clock: trio.testing.MockClock) -> None:
    one, other = Side(1), Side(2)
    dialled: list[int] = []

    async with trio.open_nursery() as nursery:

        async def dial(member: int) -> trio.abc.Stream:
            dialled.append(member)
            if len(dialled) < 4:
                raise OSError("not yet")
            ours, theirs = _pair()
            nursery.start_soon(other.transport.serve, theirs, 1)
            return ours

        one.transport._dial = dial
        one.transport.dial_to((1, 2), nursery)
        await trio.sleep(5)
        assert dialled == [2, 2, 2, 2]
        assert one.links == [(2, True)]
        one.transport.dial_to((1,), nursery)
        one.transport.close()
        await trio.sleep(10)
        assert len(dialled) == 4
        nursery.cancel_scope.cancel()


async def test_who_has_just_started_does_not_wait_until_it_is_dialled(autojump_clock: trio.testing.MockClock) -> None:
    dialled: list[float] = []

    async def dial(member: int) -> trio.abc.Stream:
        dialled.append(trio.current_time())
        raise OSError("it starts as well")

    async with trio.open_nursery() as nursery:
        higher, started = Side(2), trio.current_time()
        higher.transport._dial = dial
        higher.transport.dial_to((1, 2), nursery)
        await trio.sleep(2)
        assert [at - started for at in dialled] == pytest.approx([ARRIVAL, ARRIVAL + PATIENCE])
        nursery.cancel_scope.cancel()


async def test_a_full_stream_keeps_the_order() -> None:
    """Real sockets whose buffers fill: what does not fit waits for the writer, and nothing overtakes it."""
    one, other = Side(1), Side(2)
    ends = trio.socket.socketpair()
    streams = (trio.SocketStream(ends[0]), trio.SocketStream(ends[1]))
    async with trio.open_nursery() as nursery:
        await _connect(nursery, one, other, streams)
        for number in range(300):
            one.transport.deliver(2, {"type": "test", "number": number, "data": bytes(20_000)})
        with trio.fail_after(10):
            while len(other.received) < 300:  # noqa: ASYNC110 - see above
                await trio.sleep(0.01)
        assert [message["number"] for message in other.received] == list(range(300))
        nursery.cancel_scope.cancel()
