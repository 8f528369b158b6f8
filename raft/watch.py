"""What a follower of the log is told: the changes that were applied, in order.

Owns what is kept for one that does not read in time; refuses to know what a change means."""

from collections import deque
from collections.abc import Set
from types import TracebackType
from typing import Self

import trio

from lxdnode.raft.history import Change, Reset

WATCH_LIMIT = 4096


class Watch:
    """Changes behind the moment of its entering, in order; Reset after a snapshot or when it was not read in time."""

    def __init__(self, watchers: set["Watch"], tables: frozenset[str]) -> None:
        self._watchers = watchers
        self._tables = tables
        self._news: deque[Change | Reset] = deque()
        self._arrived = trio.Event()

    def add(self, change: Change | Reset, tables: Set[str]) -> None:
        """Something happened to documents of `tables`."""
        if self._tables and isinstance(change, Change) and self._tables.isdisjoint(tables):
            return
        if len(self._news) >= WATCH_LIMIT or isinstance(change, Reset):
            self._news.clear()
            change = Reset(change.index)
        self._news.append(change)
        self._arrived.set()

    async def __aenter__(self) -> Self:
        self._watchers.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchers.discard(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change | Reset:
        while not self._news:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._news.popleft()
