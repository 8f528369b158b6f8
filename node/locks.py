"""Locks of objects by id, in this process: what changes one object on this host happens one after the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Locks:
    """A lock per id, made when it is first held and gone when nobody waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}
        self._holders: dict[str, str] = {}

    @asynccontextmanager
    async def hold(self, id: str, what: str) -> AsyncIterator[None]:
        """Holds the lock of an object while the block runs; `what` names the work (`start`) to those who ask."""
        lock = self._locks.setdefault(id, trio.Lock())
        try:
            async with lock:
                self._holders[id] = what
                try:
                    yield
                finally:
                    del self._holders[id]
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(id, None)

    def holder(self, id: str) -> str | None:
        """The work that holds the lock of an object, or None."""
        return self._holders.get(id)
