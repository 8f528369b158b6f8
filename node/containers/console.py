"""The console of a container for a client: attached by websockets, and its log (spec/containers.md 6).

Owns how a session begins and ends; refuses to open the terminal (`drivers/runtime/console.py` does)."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from lxdnode.drivers.runtime import console
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.live import Live
from lxdnode.node.errors import Invalid, NodeError
from lxdnode.node.sockets import NONSENSE, Socket, Sockets, receive_into, send_from

if TYPE_CHECKING:
    from lxdnode.node.node import Node
    from lxdnode.node.operations import Operation

CONTROL = "control"


class Session:
    """One client at the console of a container of this member."""

    def __init__(self, node: "Node", found: Expanded, width: int, height: int) -> None:
        self._node = node
        self._found = found
        self._size = width, height
        live = node.containers.host.live(found.id)
        if live is None or not live.running.alive:
            raise Invalid("Container is not running")
        if live.running.frozen:
            raise Invalid("Container is frozen")
        self._live: Live = live
        self.sockets = Sockets(("0", CONTROL))

    async def run(self, _operation: "Operation") -> None:
        """Joins client and console until the client lets go of control, or the container ends."""
        terminal, control = [await self.sockets.get(name) for name in ("0", CONTROL)]
        runtime = self._node.containers.host.runtime
        with await console.attach(runtime.spawner, runtime.directory, self._found.name) as opened:
            self._resize(*self._size)
            async with (
                trio.lowlevel.FdStream(os.dup(opened.master)) as output,
                trio.lowlevel.FdStream(os.dup(opened.master)) as keyboard,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(receive_into, terminal, keyboard.send_all)
                nursery.start_soon(self._show, output, terminal, nursery.cancel_scope)
                nursery.start_soon(self._await_end, nursery.cancel_scope)
                await self._obey(control)
                nursery.cancel_scope.cancel()
        for socket in (terminal, control):
            with suppress(trio.BrokenResourceError):
                await socket.close()

    async def _show(self, output: trio.lowlevel.FdStream, terminal: Socket, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            await send_from(output.receive_some, terminal)
        scope.cancel()

    async def _await_end(self, scope: trio.CancelScope) -> None:
        """The console's terminal outlives its container: the child that keeps it does."""
        await self._live.ended.wait()
        scope.cancel()

    async def _obey(self, control: Socket) -> None:
        """Window sizes, until the client says goodbye; what cannot be read is ignored."""
        with suppress(trio.EndOfChannel):
            while True:
                with suppress(*NONSENSE):
                    message = json.loads(await control.receive())
                    if message["command"] == "window-resize":
                        self._resize(int(message["args"]["width"]), int(message["args"]["height"]))

    def _resize(self, width: int, height: int) -> None:
        console.resize(self._live.running.init.pid, width, height)


async def read_log(file: Path) -> bytes:
    """What the console has written, the last 128 KiB of it; also of a container that runs no more. NodeError when it
    never ran."""
    try:
        return await trio.to_thread.run_sync(console.read_log, file)
    except FileNotFoundError:
        raise NodeError(f"{file.parent.name} has no console log: it never ran") from None


async def clear_log(file: Path) -> None:
    """Empties the log. DriverError for what is no regular file; NodeError when there is none."""
    try:
        await trio.to_thread.run_sync(console.clear_log, file)
    except FileNotFoundError:
        raise NodeError(f"{file.parent.name} has no console log: it never ran") from None
