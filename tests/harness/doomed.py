"""`python -m tests.harness.doomed daemon`: the daemon, which dies before a line of its own that a test names.

Owns the tracing, in a program of its own so that the daemon needs to know nothing of it; which lines, and what must
hold afterwards, is `every_line.py`'s. It costs nothing before the first order comes."""

import os
import signal
import sys
import threading
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from lxdnode.node.cli import main

RECORD = "record"
TRACED = (
    "node/cluster/join.py",
    "node/cluster/accept.py",
    "node/cluster/membership.py",
    "node/cluster/rules.py",
    "node/cluster/voters.py",
    "node/definitions/keeper.py",
    "node/definitions/rules.py",
    "node/exchange.py",
    "node/first.py",
    "node/keypair.py",
    "node/networks/networks.py",
    "node/node.py",
    "node/session.py",
    "node/storage/storage.py",
    "raft/membership.py",
    "raft/segments.py",
)
"""What joins, leaves and removals run through."""


@cache
def _traced(path: str) -> str | None:
    name = path.rpartition("/lxdnode/")[2]
    return name if name in TRACED else None


class Doom:
    """An order is `record` (lines, once each, into RECORDED), the line to die before (`node/session.py:88`), or "".
    It is read from a file at each SIGUSR1; threads follow that begin after it."""

    def __init__(self, order: Path, recorded: Path) -> None:
        self._order = order
        self._recorded = recorded
        self._target = ""
        self._seen: set[str] = set()
        signal.signal(signal.SIGUSR1, self._take)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self._target, self._seen = self._order.read_text(), set()
        trace = self._enter if self._target else None
        threading.settrace(trace)  # None ends it
        sys.settrace(trace)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._reach if _traced(frame.f_code.co_filename) else None

    def _reach(self, frame: FrameType, event: str, _argument: Any) -> Any:
        line = f"{_traced(frame.f_code.co_filename)}:{frame.f_lineno}"
        if event == "line" and line == self._target:
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "line" and self._target == RECORD and line not in self._seen:
            self._seen.add(line)
            with self._recorded.open("a") as file:
                file.write(f"{line}\n")
        return self._reach


if __name__ == "__main__":
    state = os.environ["LXD_DIR"]
    Doom(Path(f"{state}.order"), Path(f"{state}.lines"))
    main()
