"""Runs commands in running containers.

Owns a command's pid, its signals and its exit status; refuses to move its input and output (who runs it does)."""

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.cgroup import Groups
from lxdnode.drivers.runtime.spawning import Channel, Spawner

_LEAF = ".lxc"
"""Where liblxc puts commands in version 2: a group that passes its controllers on takes no processes itself."""
UNKNOWN = -1
"""The status of a command whose end nobody saw."""


class Command:
    """A command that runs in a container. Close it after its end: it holds descriptors, not the command."""

    def __init__(self, channel: Channel, pid: int, pidfd: int) -> None:
        self._channel = channel
        self.pid = pid
        self._pidfd = pidfd

    async def wait(self) -> int:
        """Its exit status as a shell gives it: 128 + N when signal N ended it, 127 not found, 126 not executable,
        -1 when its end was not seen."""
        try:
            status = int(await self._channel.receive())
        except DriverError:
            return UNKNOWN
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Sends a signal; nothing when it has ended, or for a number that no signal has."""
        if number in signal.valid_signals():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        """Lets go of the command."""
        self._channel.close()
        os.close(self._pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def attach(
    spawner: Spawner,
    directory: Path,
    name: str,
    command: Sequence[str],
    streams: tuple[int, int, int],
    *,
    groups: Groups,
    configuration: Path,
    environment: Mapping[str, str],
    working_directory: str = "/",
) -> Command:
    """Starts `command` as root of the container `name` (below the LXC path `directory`) in its control `groups`, with
    exactly that environment, and `streams` as its standard input, output and error. Its resource limits are those of
    the file `configuration`, which the container was started with.

    Streams that are one terminal become the command's controlling one. DriverError when it cannot be started; a
    command that does not exist ends with 127."""
    channel, pid = await spawner.open(
        "attach",
        *streams,
        path=str(directory),
        name=name,
        tasks=[f"{group}/tasks" for group in groups.first_version],
        leaf=groups.second_version and f"{groups.second_version}/{_LEAF}",
        configuration=str(configuration),
        command=list(command),
        environment=dict(environment),
        directory=working_directory,
    )
    return Command(channel, int(pid), channel.take_descriptor())
