"""Consoles of running containers: the terminal of init, for one user at a time, and what it has written so far.

Owns the child that keeps a console open and the files that liblxc writes; refuses to move bytes between them."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime import terminal
from lxdnode.drivers.runtime.files import Root
from lxdnode.drivers.runtime.spawning import Channel, Spawner

LOG_SIZE = 128 * 2**10
"""Bytes of the console's log that are kept, as LXD's ring buffer keeps."""


class Console:
    """An open console. `master` is a terminal; it works as long as this is not closed."""

    def __init__(self, channel: Channel, master: int) -> None:
        self._channel = channel
        self.master = master

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()
        os.close(self.master)


async def attach(spawner: Spawner, directory: Path, name: str) -> Console:
    """Opens the console of a container. DriverError, also when somebody has it open."""
    channel, _ = await spawner.open("console", path=str(directory), name=name)
    return Console(channel, channel.take_descriptor())


def resize(pid: int, width: int, height: int) -> None:
    """Sets the size of the console of init `pid`, whose foreground process gets a SIGWINCH. Blocks for microseconds.

    On the container's own end: liblxc stands between that and our `master`, and passes no size on. Whatever else
    the container has put there is left alone."""
    with suppress(OSError), Root(f"/proc/{pid}/root", ()) as root, root.at("/dev/console") as found:
        status = os.fstat(found)
        if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) not in _TERMINALS:
            return
        slave = os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            terminal.resize(slave, width, height)
        finally:
            os.close(slave)


_TERMINALS = range(136, 144)
"""The majors of pseudo-terminals."""


def read_log(file: Path) -> bytes:
    """The last `LOG_SIZE` bytes that the console has written: `file`, and the one before it that liblxc has turned
    over. FileNotFoundError when it never ran."""
    current = file.read_bytes()
    former = _former(file)
    before = former.read_bytes() if former.exists() else b""
    return (before + current)[-LOG_SIZE:]


def clear_log(file: Path) -> None:
    """Empties the log; liblxc goes on at its new end. DriverError for what is no regular file."""
    if not stat.S_ISREG(file.lstat().st_mode):
        raise DriverError("The console log is not a regular file")
    _former(file).unlink(missing_ok=True)
    os.truncate(file, 0)


def _former(file: Path) -> Path:
    return file.with_name(file.name + ".1")
