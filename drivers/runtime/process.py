"""A process of this host, held by a pidfd: never confused with a later one of the same number.

Owns signals to it and the wait for its end; refuses to reap (none of them is our child)."""

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

import trio


@dataclass(frozen=True)
class Process:
    """`pid` and `started` (clock ticks since boot, /proc/PID/stat) name it for ever; `pidfd` holds it."""

    pid: int
    started: int
    pidfd: int

    @classmethod
    def open(cls, pid: int, started: int | None = None) -> "Process | None":
        """Holds a process that runs now; None when it is gone, or is not the one that started then."""
        try:
            pidfd = os.pidfd_open(pid)
        except (ProcessLookupError, OSError):
            return None
        found = start_time(pid)
        if found is None or (started is not None and found != started):
            os.close(pidfd)
            return None
        return cls(pid, found, pidfd)

    @property
    def alive(self) -> bool:
        """Whether it has not ended (a zombie has)."""
        poll = select.poll()  # Not select(), which takes no descriptor above 1023.
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    async def wait(self) -> None:
        """Returns when it has ended."""
        own = os.dup(self.pidfd)  # Two tasks cannot wait for one descriptor.
        try:
            await trio.lowlevel.wait_readable(own)
        finally:
            os.close(own)

    def signal(self, number: int) -> bool:
        """Sends a signal; False when it has ended already."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def __del__(self) -> None:
        # Not a method for callers: a task that still waits for its end must not find another file's descriptor.
        os.close(self.pidfd)


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command, so that [1] is the parent; None when it is gone. The command is
    any bytes that a process of a container likes."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(b")")[2].decode().split()


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which a process started; None when it is gone or dead."""
    fields = stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def parent(pid: int) -> int | None:
    """The pid of a process's parent; None when it is gone."""
    fields = stat(pid)
    return None if fields is None else int(fields[1])
