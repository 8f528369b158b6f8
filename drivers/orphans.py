"""Tools that outlive the daemon which waits for them: it was killed, and they go on writing into what its successor
finishes or takes back.

Owns how such a tool is known; refuses to run any (`command.py` does)."""

import os
import select
import signal
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from lxdnode.drivers.runtime.process import Process, start_time

_MARK = "LXD_NODE_WAITS"
"""In the environment of a tool: pid and start time of the daemon that waits for it."""
_END_LIMIT = 5000
"""Milliseconds in which one that was killed has ended: it may be in the middle of a long call of the kernel."""


def mark(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a tool that is of no use without this daemon."""
    return {**environment, _MARK: _own()}


@cache
def _own() -> str:
    return f"{os.getpid()}.{start_time(os.getpid())}"


def end() -> None:
    """Kills the tools of daemons of this host that have ended, and waits for their end. Blocks for some milliseconds.

    One of another pid namespace is left alone: its daemon may be alive in a container."""
    ending = [process for process in _orphans() if process.signal(signal.SIGKILL)]
    for process in ending:
        ended = select.poll()
        ended.register(process.pidfd, select.POLLIN)
        ended.poll(_END_LIMIT)


def _orphans() -> Iterator[Process]:
    own = Path("/proc/self/ns/pid").stat().st_ino
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            waits = _waits(folder)
            if waits is not None and not _lives(*waits) and (folder / "ns/pid").stat().st_ino == own:
                process = Process.open(int(folder.name))
                if process is not None and _waits(folder) == waits:  # The number is still that process's.
                    yield process
        except (OSError, ValueError):
            continue  # It has just ended, or the mark is none of ours.


def _waits(folder: Path) -> tuple[int, int] | None:
    """The daemon that waits for a process of /proc, if one does. OSError."""
    for line in (folder / "environ").read_bytes().split(b"\0"):
        name, _, value = line.partition(b"=")
        if name == _MARK.encode():
            pid, _, started = value.decode().partition(".")
            return int(pid), int(started)
    return None


def _lives(pid: int, started: int) -> bool:
    return start_time(pid) == started
