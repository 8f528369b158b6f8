"""The last changes in memory, for listeners that come late: what they missed, or that it is no longer known.

Owns Change and Reset as the rest of the program sees them; refuses to keep anything on the disk (`archive.py` does)."""

from collections import deque
from dataclasses import dataclass
from itertools import islice

from lxdnode.raft.machine import Key
from lxdnode.raft.transaction import Event

KEPT = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """What the entry at `index` wrote, and the events that it meant: the n-th of them is (index, n) everywhere.

    `at`: when it was asked for, in seconds since the epoch, by the clock of the member that was asked."""

    index: int
    keys: tuple[Key, ...] = ()
    events: tuple[Event, ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Reset:
    """Changes up to `index` are not told (a snapshot was installed, or the watcher was too slow): read again."""

    index: int


class History:
    """Changes in the order of their indexes, without gaps since `complete_since`."""

    def __init__(self, index: int) -> None:
        self._changes: deque[Change] = deque()
        self._complete_since = index

    def add(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) > KEPT:
            self._complete_since = self._changes.popleft().index

    def reset(self, index: int) -> None:
        self._changes.clear()
        self._complete_since = index

    def since(self, index: int) -> tuple[Change, ...] | None:
        """The changes behind `index`; None: some of them are not known here (a gap)."""
        if index < self._complete_since:
            return None
        missing = self._changes[-1].index - index if self._changes else 0
        return tuple(islice(reversed(self._changes), missing))[::-1]
