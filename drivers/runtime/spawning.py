"""The daemon's side of the spawner: keeps one alive and sends it requests.

Owns the spawner's process and the channels to its children; refuses to know what a request means."""

import importlib.util
import marshal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from lxdnode.drivers.errors import DriverError

_START = "import sys; sys.path += sys.argv[1:]; from lxdnode.drivers.runtime.spawner import main; main()"
_RESTART_PAUSE = 0.5
"""Seconds between a spawner's death and the next one: one that dies at once must not take a processor."""


class Spawner:
    """A spawner that lives as long as the block of `open_spawner`, started again when it dies.

    Containers and commands are no children of it: they survive its end and the daemon's."""

    def __init__(self) -> None:
        self._socket: trio.socket.SocketType | None = None
        self._ready = trio.Event()
        self.pid = 0

    async def _keep(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        while True:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                # Isolated and without `site`, whose imports each fork would copy (see spawner.py).
                command = [sys.executable, "-I", "-S", "-c", _START, *_directories()]
                process = await trio.lowlevel.open_process(command, stdin=theirs.fileno(), cwd="/")
            self._socket, self.pid = trio.socket.from_stdlib_socket(ours), process.pid
            self._ready.set()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            try:
                await process.wait()
            finally:
                self._ready = trio.Event()
                self._socket.close()  # Its end, when it is not that already.
                with trio.CancelScope(shield=True):
                    await process.wait()
            await trio.sleep(_RESTART_PAUSE)

    async def ask(self, action: str, *descriptors: int, **fields: Any) -> str:
        """One request with one answer. DriverError with liblxc's words, or when the child went without one."""
        channel, answer = await self.open(action, *descriptors, **fields)
        channel.close()
        return answer

    async def open(self, action: str, *descriptors: int, **fields: Any) -> "tuple[Channel, str]":
        """Sends a request; returns its first answer, and the channel on which its child sends more."""
        while True:
            await self._ready.wait()
            ours, theirs = socket.socketpair()
            channel = Channel(action, ours)
            try:
                with theirs:
                    await channel.send({"action": action, **fields})
                    await self._pass(theirs.fileno(), *descriptors)
                return channel, await channel.receive()
            except (BrokenPipeError, ConnectionResetError, trio.ClosedResourceError):
                channel.close()  # The spawner ended before a child read the request: nothing was done.
                await trio.sleep(_RESTART_PAUSE / 10)
            except BaseException:
                channel.close()
                raise

    async def _pass(self, *descriptors: int) -> None:
        """Hands descriptors to the spawner."""
        rights = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
        if self._socket is None or self._socket.fileno() < 0:
            raise BrokenPipeError("the spawner has just ended")
        await self._socket.sendmsg([b"r"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


class Channel:
    """The line to one child of the spawner: a request went out, answers come in.

    A plain socket: trio's gives way to other tasks at each call, also where nothing is waited for."""

    def __init__(self, action: str, ours: socket.socket) -> None:
        self._action = action
        self._socket = ours
        ours.setblocking(False)
        self._buffer = b""
        self._descriptors: deque[int] = deque()

    def close(self) -> None:
        """Ends the line, and closes what came on it and was not taken."""
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        while self._descriptors:
            socket.close(self._descriptors.popleft())

    async def send(self, request: dict[str, Any]) -> None:
        """Writes the request and says that it is complete."""
        data = memoryview(marshal.dumps(request))
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
        self._socket.shutdown(socket.SHUT_WR)

    async def receive(self) -> str:
        """The value of the next answer. DriverError when it is an error, or when the child is gone;
        ConnectionResetError when nobody has read the request."""
        while b"\n" not in self._buffer:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(4 * 4), socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            for _, _, rights in ancillary:
                self._descriptors.extend(
                    int.from_bytes(rights[i : i + 4], sys.byteorder) for i in range(0, len(rights), 4)
                )
            if not data:
                raise DriverError(f"the spawner's child that was asked to {self._action} went without an answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        name, _, value = line.decode().partition(" ")
        if name == "error":
            raise DriverError(value)
        return value

    def take_descriptor(self) -> int:
        """The first descriptor that came with an answer and was not taken; the caller closes it."""
        return self._descriptors.popleft()


def _directories() -> list[str]:
    """Where the spawner finds our package, and liblxc's binding."""
    binding = importlib.util.find_spec("_lxc")
    if binding is None or binding.origin is None:
        raise DriverError("the Python package lxc is not installed: no container can run")
    return [str(Path(__file__).parents[3]), str(Path(binding.origin).parent)]


@asynccontextmanager
async def open_spawner() -> AsyncIterator[Spawner]:
    """Starts a spawner and keeps one alive; at the end of the block it goes, containers stay."""
    spawner = Spawner()
    async with trio.open_nursery() as nursery:
        await nursery.start(spawner._keep)
        yield spawner
        nursery.cancel_scope.cancel()
