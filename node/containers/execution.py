"""Commands in containers for clients: with websockets, with recorded output, or with neither (spec/containers.md 5).

Owns streams, environment and the exit status of a command that a client runs; refuses to start it."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from lxdnode.drivers.host.idmap import of_process, to_host
from lxdnode.drivers.runtime.attach import Command, attach
from lxdnode.drivers.runtime.terminal import open_terminal, resize
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.output import Output
from lxdnode.node.containers.starting import environment
from lxdnode.node.errors import Invalid
from lxdnode.node.sockets import NONSENSE, Socket, Sockets, receive_into, send_from

if TYPE_CHECKING:
    from lxdnode.node.node import Node
    from lxdnode.node.operations import Operation

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONTROL = "control"


@dataclass(frozen=True)
class Wanted:
    """What a client wants to run. `width`, `height`: size of the terminal, 0 = not given."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    interactive: bool = False
    record: bool = False
    width: int = 0
    height: int = 0


class Execution:
    """One command of a client in a container of this member."""

    def __init__(self, node: "Node", found: Expanded, wanted: Wanted) -> None:
        self._node = node
        self._found = found
        self._wanted = wanted
        if not wanted.command:
            raise Invalid("No command was given")
        if any("\0" in text for text in (*wanted.command, *wanted.environment, *wanted.environment.values())):
            raise Invalid("A command and its environment hold no zero bytes")
        live = node.containers.host.live(found.id)
        if live is None or not live.running.alive:
            raise Invalid("Container is not running.")
        if live.running.frozen:
            raise Invalid("Container is frozen.")
        self._running = live.running

    def sockets(self) -> Sockets:
        """The websockets that the client must connect."""
        return Sockets(("0", CONTROL) if self._wanted.interactive else ("0", "1", "2", CONTROL))

    async def run(self, operation: "Operation") -> None:
        """Runs the command with what the client connects, or without any websocket, and leaves its status."""
        if operation.sockets is None:
            await self._run_alone(operation)
        elif self._wanted.interactive:
            await self._run_in_terminal(operation, operation.sockets)
        else:
            await self._run_with_pipes(operation, operation.sockets)

    async def _run_with_pipes(self, operation: "Operation", sockets: Sockets) -> None:
        connected = [await sockets.get(name) for name in ("0", "1", "2")]
        inside, ours = _pipes()
        async with trio.lowlevel.FdStream(ours[0]) as stdin:
            with (
                closing(Output(ours[1])) as out,
                closing(Output(ours[2])) as err,
                await self._attach(inside) as command,
            ):
                async with trio.open_nursery() as helpers:
                    helpers.start_soon(_feed, connected[0], stdin)
                    helpers.start_soon(_control, sockets, command, None)
                    helpers.start_soon(_heed_death, sockets, connected[1:], command)
                    async with trio.open_nursery() as streams:
                        streams.start_soon(_show, out, connected[1])
                        streams.start_soon(_show, err, connected[2])
                        status = await command.wait()
                        out.finish()
                        err.finish()
                    helpers.cancel_scope.cancel()
        operation.update(metadata={"return": status})

    async def _run_in_terminal(self, operation: "Operation", sockets: Sockets) -> None:
        socket = await sockets.get("0")
        pid = self._running.init.pid
        master, slave = open_terminal(pid, *to_host(of_process(pid), 0, 0))
        resize(master, self._wanted.width, self._wanted.height)
        async with trio.lowlevel.FdStream(master) as keyboard:
            with (
                closing(Output(os.dup(master))) as output,
                await self._attach((slave, slave, slave), close=(slave,)) as command,
            ):
                async with trio.open_nursery() as helpers:
                    helpers.start_soon(receive_into, socket, keyboard.send_all)
                    helpers.start_soon(_control, sockets, command, master)
                    helpers.start_soon(_heed_death, sockets, [socket], command)
                    async with trio.open_nursery() as streams:
                        streams.start_soon(_show, output, socket)
                        status = await command.wait()
                        output.finish()
                    helpers.cancel_scope.cancel()
        with suppress(trio.BrokenResourceError):
            await socket.close()
        operation.update(metadata={"return": status})

    async def _run_alone(self, operation: "Operation") -> None:
        logs = self._node.containers.host.paths(self._found.name).logs
        names = [f"exec_{operation.id}.{stream}" for stream in ("stdout", "stderr")]
        stdin = os.open(os.devnull, os.O_RDWR)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        recorded = [os.open(logs / name, flags, 0o600) for name in names] if self._wanted.record else [stdin, stdin]
        with await self._attach((stdin, *recorded), close=(stdin, *recorded)) as command:
            metadata: dict[str, Any] = {"return": await command.wait()}
        if self._wanted.record:
            url = f"/1.0/containers/{self._found.name}/logs"
            metadata["output"] = {str(number): f"{url}/{name}" for number, name in enumerate(names, 1)}
        operation.update(metadata=metadata)

    async def _attach(self, streams: tuple[int, ...], close: tuple[int, ...] | None = None) -> Command:
        """Starts the command with three streams, which are closed on our side."""
        stdin, stdout, stderr = streams
        variables = self._environment()
        runtime = self._node.containers.host.runtime
        try:
            return await attach(
                runtime.spawner,
                runtime.directory,
                self._found.name,
                self._wanted.command,
                (stdin, stdout, stderr),
                groups=self._running.groups,
                configuration=self._node.containers.host.paths(self._found.name).configuration,
                environment=variables,
                working_directory=variables["HOME"],
            )
        finally:
            for descriptor in set(streams if close is None else close):
                os.close(descriptor)

    def _environment(self) -> dict[str, str]:
        """The container's, then the request's, then what is missing; nothing of ours."""
        given = environment(self._found.config) | dict(self._wanted.environment)
        snaps = ":/snap/bin" if os.path.lexists(f"/proc/{self._running.init.pid}/root/snap") else ""
        defaults = {"PATH": _PATH + snaps, "HOME": "/root", "USER": "root", "LANG": "C.UTF-8"}
        return defaults | given


def _pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Three pipes: the ends of a command (standard input, output, error), and ours."""
    stdin, ours = os.pipe()
    read_out, stdout = os.pipe()
    read_error, stderr = os.pipe()
    return (stdin, stdout, stderr), (ours, read_out, read_error)


async def _feed(socket: Socket, stdin: trio.lowlevel.FdStream) -> None:
    await receive_into(socket, stdin.send_all)
    await stdin.aclose()


async def _show(output: Output, socket: Socket) -> None:
    """Passes what the command writes on; when the client has gone, the command may go on writing to nobody."""
    try:
        await send_from(output.receive_some, socket)
    except trio.BrokenResourceError:
        while await output.receive_some():
            continue


async def _control(sockets: Sockets, command: Command, terminal: int | None) -> None:
    """Signals and window sizes; what cannot be read is ignored. A client that dies takes its command along, one that
    says goodbye does not (spec/rest.md 4.2)."""
    control = await sockets.get(CONTROL)
    with suppress(trio.EndOfChannel):
        while True:
            with suppress(*NONSENSE):
                _obey(json.loads(await control.receive()), command, terminal)
    if control.is_broken:
        command.signal(signal.SIGKILL)


async def _heed_death(sockets: Sockets, outputs: Sequence[Socket], command: Command) -> None:
    """Ends a command whose client died and never had a control socket to show it: nobody hears what it writes."""
    for output in outputs:
        await output.wait_gone()
    if sockets.find(CONTROL) is None and all(output.is_broken for output in outputs):
        command.signal(signal.SIGKILL)


def _obey(message: Any, command: Command, terminal: int | None) -> None:
    if message["command"] == "signal":
        command.signal(int(message["signal"]))
    elif message["command"] == "window-resize" and terminal is not None:
        resize(terminal, int(message["args"]["width"]), int(message["args"]["height"]))
