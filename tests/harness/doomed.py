"""`python -m tests.harness.doomed daemon`: the daemon, which dies before a line of its own that a test names.

Owns the tracing, in a program of its own so that the daemon needs to know nothing of it; which lines, and what must
hold afterwards, is `every_line.py`'s."""

import os
import signal
import sys
import threading
from collections import Counter
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from lxdnode.node.cli import main

RECORD = "record"
FILES, TIMES = "DOOMED_FILES", "DOOMED_TIMES"
"""Variables of the environment: the files of ours whose lines count, and how often each of them does."""
_files = frozenset(os.environ.get(FILES, "").split())


@cache
def _traced(path: str) -> str | None:
    name = path.rpartition("/lxdnode/")[2]
    return name if name in _files else None


class Doom:
    """An order is `record` (lines, the first `times` times of each, into `recorded`), the line to die before
    (`node/session.py:88`, `node/session.py:88#2` at its second time), or "". It is read from a file at each SIGUSR1."""

    def __init__(self, order: Path, recorded: Path, times: int) -> None:
        self._order = order
        self._recorded = recorded.open("a", buffering=1)  # Open: a thread may have entered a container's mounts.
        self._times = times
        self._target = ""
        self._seen: Counter[str] = Counter()
        threading.settrace(self._enter)  # Those that trio keeps for later work may begin before an order comes.
        signal.signal(signal.SIGUSR1, self._take)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self._target, self._seen = self._order.read_text(), Counter()
        sys.settrace(self._enter if self._target else None)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._reach if self._target and _traced(frame.f_code.co_filename) else None

    def _reach(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event != "line":
            return self._reach
        line = f"{_traced(frame.f_code.co_filename)}:{frame.f_lineno}"
        self._seen[line] += 1
        time = self._seen[line]
        named = line if time == 1 else f"{line}#{time}"
        if named == self._target:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._target == RECORD and time <= self._times:
            self._recorded.write(f"{named}\n")
        return self._reach


if __name__ == "__main__":
    state = os.environ["LXD_DIR"]
    Doom(Path(f"{state}.order"), Path(f"{state}.lines"), int(os.environ.get(TIMES, "1")))
    main()
