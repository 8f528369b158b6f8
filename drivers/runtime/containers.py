"""Containers that run on this host: start them, find them again, stop and freeze them, and see them end.

Owns what stands for a running container (its init, its monitor, its control groups); refuses to know why one
starts and what follows its end (node/containers does). All but the start goes without liblxc."""

import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.cgroup import Groups, Layout, remove
from lxdnode.drivers.runtime import checkpoint
from lxdnode.drivers.runtime.configure import PAYLOAD, Configuration, group_names, render
from lxdnode.drivers.runtime.process import Process, parent
from lxdnode.drivers.runtime.spawning import Spawner

Target = Literal["stop", "reboot"]
_KILL_LIMIT = 30.0
_FREEZE_LIMIT = 10.0
_FREEZE_PAUSES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)


@dataclass(frozen=True)
class Running:
    """A container whose init lives. `monitor` is liblxc's process: the container has stopped when *it* has ended
    (a start between init's end and the monitor's fails). Only a monitor that was killed ends before init."""

    name: str
    init: Process
    monitor: Process
    groups: Groups
    stopped: Path

    async def ended(self) -> Target:
        """Waits until everything of it has gone, and tells a stop from a reboot from inside."""
        await self.monitor.wait()
        alone = self.init.alive
        if alone:  # The monitor died before init: nobody looks after this container any more.
            await self.kill()
        await trio.to_thread.run_sync(self.groups.remove, group_names(self.groups.name.removeprefix(PAYLOAD)))
        return "stop" if alone else await self._target()

    async def _target(self) -> Target:
        with contextlib.suppress(FileNotFoundError):
            if (await trio.Path(self.stopped).read_text()).strip() == "reboot":
                return "reboot"
        return "stop"

    async def kill(self) -> None:
        """Ends it at once, frozen or not. DriverError when it is still there after 30 s."""
        self.init.signal(signal.SIGKILL)
        if self.groups.frozen:  # A frozen process does not die before it is thawed; it dies, and does not run.
            self.groups.freeze(False)
        with trio.move_on_after(_KILL_LIMIT):
            await self.init.wait()
            await self.monitor.wait()
            return
        raise DriverError(f"Container {self.name} cannot be killed: init {self.init.pid} has not ended in 30 seconds")

    def shut_down(self) -> None:
        """Asks init to end, in the language that it knows; `ended` tells when it has."""
        comm = Path(f"/proc/{self.init.pid}/comm")
        is_systemd = self.alive and comm.read_bytes().strip() == b"systemd"
        self.init.signal(signal.SIGRTMIN + 3 if is_systemd else signal.SIGPWR)

    async def freeze(self, frozen: bool) -> None:
        """Stops or continues all of its processes. DriverError when the kernel has not done it in 10 s."""
        self.groups.freeze(frozen)
        pauses = iter(_FREEZE_PAUSES)
        with trio.move_on_after(_FREEZE_LIMIT):
            # Version 1 has no event for it; it takes 0.3 ms (measured).
            while self.groups.frozen != frozen:  # noqa: ASYNC110
                await trio.sleep(next(pauses, _FREEZE_PAUSES[-1]))
            return
        raise DriverError(f"Container {self.name} does not {'freeze' if frozen else 'thaw'}")

    @property
    def frozen(self) -> bool:
        """Whether it is frozen, by its control group."""
        return self.groups.frozen

    @property
    def alive(self) -> bool:
        """Whether init lives."""
        return self.init.alive


class Containers:
    """The containers below one LXC path of this host (`directory`, which holds NAME/rootfs)."""

    def __init__(self, spawner: Spawner, layout: Layout, directory: Path) -> None:
        self.spawner = spawner
        self.layout = layout
        self.directory = directory

    async def start(self, configuration: Configuration, file: Path, state: Path | None = None) -> Running:
        """Writes the configuration to `file` and starts the container, with the processes of a `state` that was written
        before (checkpoint.py) if one is given. DriverError with liblxc's or CRIU's words."""
        await trio.to_thread.run_sync(self._prepare, configuration, file)
        try:
            if state is None:
                pid = await self.spawner.ask(
                    "start", path=str(self.directory), name=configuration.name, configuration=str(file)
                )
            else:
                pid = await checkpoint.restore(self.spawner, self.directory, configuration, file, state)
        except DriverError as error:
            words = await trio.to_thread.run_sync(_log_words, configuration.log) if state is None else ""
            raise DriverError(f"Container {configuration.name} cannot be started: {words or error}") from None
        running = self.hold(configuration.name, int(pid), configuration.stopped)
        if running is None:
            raise DriverError(f"Container {configuration.name} ended right after its start")
        return running

    async def check(self, lines: str) -> None:
        """Lets liblxc read lines of a configuration. DriverError when it refuses them."""
        file = os.memfd_create("lines")
        try:
            os.write(file, lines.encode())
            await self.spawner.ask("check", file)
        finally:
            os.close(file)

    @asynccontextmanager
    async def dumped(
        self, name: str, configuration: Path, state: Path, folder: Path, stop: bool
    ) -> AsyncIterator[None]:
        """Writes the state of a container's processes (checkpoint.py)."""
        async with checkpoint.dumped(self.spawner, self.directory, name, configuration, state, folder, stop=stop):
            yield

    async def set_group(self, name: str, file: str, value: str) -> None:
        """Changes what only liblxc can on both versions: the rules of the control group for devices (`devices.allow`).
        DriverError."""
        await self.spawner.ask("group", path=str(self.directory), name=name, file=file, value=value)

    def _prepare(self, configuration: Configuration, file: Path) -> None:
        remove(self.layout, group_names(configuration.group))
        configuration.stopped.unlink(missing_ok=True)
        if configuration.log.exists():
            configuration.log.rename(configuration.log.with_name(configuration.log.name + ".old"))
        file.write_text(render(configuration, self.layout))

    def scan(self) -> Iterator[tuple[str, int]]:
        """Name and init's pid of every container of this directory, by the command lines of the monitors."""
        prefix = f"[lxc monitor] {self.directory} "
        monitors = {}
        children: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*"):
            pid = int(path.name)
            with contextlib.suppress(OSError):
                line = (path / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
                if line.startswith(prefix) and _is_of_host(pid):
                    monitors[pid] = line.removeprefix(prefix)
                children[parent(pid) or 0] = pid
        return ((name, children[pid]) for pid, name in monitors.items() if pid in children)

    def hold(self, name: str, pid: int, stopped: Path) -> Running | None:
        """The container whose init has the pid now; None when it has ended."""
        init, number = Process.open(pid), parent(pid)
        if init is None:
            return None
        monitor = Process.open(number) if number else None
        if monitor is None or not _is_monitor(monitor.pid, name):
            return None
        return Running(name, init, monitor, Groups(self.layout, pid, PAYLOAD), stopped)


def _is_monitor(pid: int, name: str) -> bool:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    return line.startswith("[lxc monitor]") and line.endswith(f" {name}") and _is_of_host(pid)


def _is_of_host(pid: int) -> bool:
    """Whether a process is in our own pid namespace: one in a container may call itself a monitor, too."""
    return Path(f"/proc/{pid}/ns/pid").stat().st_ino == Path("/proc/self/ns/pid").stat().st_ino


_LOG_LINE = re.compile(r"^lxc \S+ \S+ ERROR +(?P<where>\S+) - \S+ - (?P<words>.*)$")


def _log_words(log: Path) -> str:
    """The first error in liblxc's log, which is the cause; those that follow come from it."""
    if not log.exists():
        return ""
    for line in log.read_text(errors="replace").splitlines():
        if match := _LOG_LINE.match(line):
            return match["words"]
    return ""
