"""One duplex stream to each other member, over streams that are given: framing, hello, dialling and silence.

Owns which stream is the link to a member; refuses to know TLS, addresses or what the messages mean."""

import math
import os
import struct
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import msgspec
import trio

from lxdnode.raft.core import Message
from lxdnode.raft.errors import HelloRefused
from lxdnode.raft.journal import Identity

Dial = Callable[[int], Awaitable[trio.abc.Stream]]

FRAME_LIMIT = 8 * 1024 * 1024
BACKLOG_LIMIT = 32 * 1024 * 1024
PING = 0.7  # a link that carries nothing else says so often that it lives
SILENCE = 2.5  # a link that carried nothing for so long is dead
CONNECT = 3.0  # for dialling and hello
REDIAL = 0.1, 2.0  # first and longest pause
PATIENCE = 1.5  # the lower number dials; the higher one only when nothing came for so long
ARRIVAL = 0.2  # and when it has just started: the other's pause may have grown while it was away

FAREWELL = 1.0  # the link to one that is no member any more lasts so long: it may be told so

_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)
BROKEN = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    msgspec.DecodeError,
    HelloRefused,
)
"""How a stream ends, and what a hello that fails raises."""


def encode(message: Message) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class _Frames:
    """Messages out of a stream of bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def read(self) -> list[Message]:
        """All messages that one read completed; none at the end of the stream."""
        while True:
            received = await self._stream.receive_some(256 * 1024)
            if not received:
                return []
            self._data += received
            if messages := self._cut():
                return messages

    def _cut(self) -> list[Message]:
        messages, offset = [], 0
        while len(self._data) - offset >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data, offset)
            if length > FRAME_LIMIT:
                raise trio.BrokenResourceError(f"a frame of {length} bytes")
            end = offset + _LENGTH.size + length
            if end > len(self._data):
                break
            messages.append(_decoder.decode(self._data[offset + _LENGTH.size : end]))
            offset = end
        del self._data[:offset]
        return messages


class _Link:
    """A stream that said hello. What the stream does not take at once waits for the writer."""

    def __init__(self, stream: trio.abc.Stream, frames: _Frames) -> None:
        self.stream = stream
        self.frames = frames
        self.scope = trio.CancelScope()
        self.sent_at = trio.current_time()
        self._backlog = bytearray()
        self._work = trio.Event()
        self._writing = False

    def send(self, data: bytes) -> None:
        self.sent_at = trio.current_time()
        if self._backlog or self._writing:
            self._backlog += data
        elif not self._send_now(data):
            self._work.set()
        if len(self._backlog) > BACKLOG_LIMIT:
            self.scope.cancel()

    def _send_now(self, data: bytes) -> bool:
        """Without waiting; whether all went out. What did not is in the backlog, or kept by the stream itself."""
        send_nowait = getattr(self.stream, "send_nowait", None)
        if send_nowait is not None:
            try:
                return bool(send_nowait(data))
            except trio.BrokenResourceError:
                self.scope.cancel()
                return True
        if isinstance(self.stream, trio.SocketStream):
            with suppress(OSError):  # full, or broken: then the writer meets the error
                data = data[os.write(self.stream.socket.fileno(), data) :]
        self._backlog += data
        return not data

    async def write(self) -> None:
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while True:
                data, self._backlog = bytes(self._backlog), bytearray()
                self._writing = True
                await self.stream.send_all(data)  # first what the stream kept, also when nothing else is left
                self._writing = False
                if not self._backlog:
                    break

    async def ping(self) -> None:
        while True:
            await trio.sleep_until(self.sent_at + PING)
            if trio.current_time() >= self.sent_at + PING:
                self.send(encode({"type": "ping"}))


class Transport:
    """`receive(member, messages)` and `link(member, up=...)` are called for what comes; `deliver` sends."""

    def __init__(
        self,
        identity: Identity,
        dial: Dial | None,
        receive: Callable[[int, list[Message]], None],
        link: Callable[..., None],
    ) -> None:
        self._identity = identity
        self._dial = dial
        self._receive = receive
        self._link = link
        self._links: dict[int, _Link] = {}
        self._gone: dict[int, trio.Event] = {}
        self._dialers: dict[int, trio.CancelScope] = {}
        self._closed = False
        self.failures: dict[int, str] = {}

    def deliver(self, member: int, message: Message) -> None:
        link = self._links.get(member)
        if link is not None:
            link.send(encode(message))

    def dial_to(self, members: Iterable[int], nursery: trio.Nursery) -> None:
        """Keep links to exactly these members, of which this may be one."""
        wanted = {member for member in members if member != self._identity.member} if self._dial else set()
        for member in self._dialers.keys() - wanted:
            self._dialers.pop(member).deadline = trio.current_time() + FAREWELL
        for member in wanted - self._dialers.keys():
            scope = self._dialers[member] = trio.CancelScope()
            nursery.start_soon(self._keep_dialling, member, scope)

    def close(self) -> None:
        """Break all links, and take no more."""
        self._closed = True
        for link in list(self._links.values()):
            link.scope.cancel()

    async def _keep_dialling(self, member: int, scope: trio.CancelScope) -> None:
        assert self._dial is not None
        pause, patience = REDIAL[0], ARRIVAL
        with scope:
            while self._dialers.get(member) is scope:
                if member in self._links:
                    await self._gone[member].wait()
                    pause = REDIAL[0]
                await trio.sleep(pause if self._identity.member < member else max(pause, patience))
                patience = PATIENCE
                if member in self._links or self._dialers.get(member) is not scope:
                    continue
                try:
                    with trio.fail_after(CONNECT):
                        stream = await self._dial(member)
                    await self.serve(stream, member)
                    pause = REDIAL[0]
                except BROKEN as error:
                    self.failures[member] = str(error)
                    pause = min(pause * 2, REDIAL[1])

    async def serve(self, stream: trio.abc.Stream, member: int) -> None:
        """Use a stream, accepted or dialled, as the link to `member` until it breaks; it is closed then.

        Raises HelloRefused when the other end is not that member of this cluster and epoch, and what breaks the hello.
        """
        try:
            frames, first = await self._greet(stream, member)
            if self._closed:
                raise trio.BrokenResourceError("the log is closed")
            self._receive(member, first)
            await self._run(_Link(stream, frames), member)
        finally:
            await trio.aclose_forcefully(stream)

    async def dismiss(self, stream: trio.abc.Stream, member: int, message: Message) -> None:
        """Say one thing to who is no member any more, and listen to nothing. Raises what `serve` does."""
        try:
            frames, _first = await self._greet(stream, member)
            with trio.move_on_after(FAREWELL):
                await stream.send_all(encode(message))
                while await frames.read():  # closed with something unread, the stream would lose what was sent
                    pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _greet(self, stream: trio.abc.Stream, member: int) -> tuple[_Frames, list[Message]]:
        """The hellos; gives what came right behind the other one."""
        own = self._identity
        hello = {"type": "hello", "cluster": own.cluster, "epoch": own.epoch, "member": own.member}
        frames = _Frames(stream)
        with trio.fail_after(CONNECT):
            await stream.send_all(encode(hello))
            messages = await frames.read()
        if not messages:
            raise trio.BrokenResourceError("the other end closed the stream")
        theirs = messages[0]
        wanted = {"type": "hello", "cluster": own.cluster, "epoch": own.epoch, "member": member}
        for key, value in wanted.items():
            if theirs.get(key) != value:
                raise HelloRefused(f"the other end says {key} {theirs.get(key)}, member {member} here has {value}")
        return frames, messages[1:]

    async def _run(self, link: _Link, member: int) -> None:
        """The newest stream is the link: an older one may be dead without knowing it."""
        previous = self._links.get(member)
        if previous is not None:
            previous.scope.cancel()
            self._link(member, up=False)
        self._links[member] = link
        self._gone.setdefault(member, trio.Event())
        self.failures.pop(member, None)
        self._link(member, up=True)
        try:
            with link.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, link, member, nursery.cancel_scope)
                    nursery.start_soon(link.write)
                    nursery.start_soon(link.ping)
        except* BROKEN as errors:
            self.failures[member] = str(errors.exceptions[0])
        finally:
            if self._links.get(member) is link:
                del self._links[member]
                self._gone.pop(member).set()
                self._link(member, up=False)

    async def _read(self, link: _Link, member: int, scope: trio.CancelScope) -> None:
        with trio.CancelScope() as silence:
            while True:
                silence.deadline = trio.current_time() + SILENCE
                messages = await link.frames.read()
                silence.deadline = math.inf
                if not messages:
                    break
                self._receive(member, messages)
        scope.cancel()
