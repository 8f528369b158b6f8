"""The loop of the reconcilers: which objects may no longer match, and when to try each again.

Owns the queue, the backoff and the log line of a failure; refuses to know any kind of object. Level-triggered: a
reconciler reads the whole document, so that changes that come together cost one run."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
import trio

from lxdnode.raft.log import Log, Reset

log = structlog.get_logger(__name__)

_FIRST_DELAY, _LAST_DELAY = 0.5, 60.0


@dataclass(frozen=True)
class Reconciler:
    """Makes one kind of object match: `table` is the documents that trigger it, `ids` lists those that exist (after a
    start or a Reset), `reconcile` acts on one by id and raises when the host does not match afterwards."""

    table: str
    ids: Callable[[], Iterable[str]]
    reconcile: Callable[[str], Awaitable[None]]


class Loop:
    """Runs reconcilers one object at a time per kind, so that two runs on one object never meet."""

    def __init__(self, reconcilers: Sequence[Reconciler]) -> None:
        self._reconcilers = reconcilers

    async def run(self, log: Log) -> None:
        """Follows the log until cancelled."""
        async with trio.open_nursery() as nursery:
            for reconciler in self._reconcilers:
                nursery.start_soon(_Queue(reconciler).run, log)


class _Queue:
    def __init__(self, reconciler: Reconciler) -> None:
        self._kind = reconciler
        self._due: dict[str, float] = {}
        self._delays: dict[str, float] = {}
        self._changed = trio.Event()

    async def run(self, log: Log) -> None:
        async with trio.open_nursery() as nursery, log.watch(self._kind.table) as changes:
            self._add(self._kind.ids())
            nursery.start_soon(self._work)
            async for change in changes:
                if isinstance(change, Reset):
                    self._add(self._kind.ids())
                else:
                    self._add(name for table, _group, name in change.keys if table == self._kind.table)

    def _add(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._due[id] = 0.0
            self._delays.pop(id, None)
        self._changed.set()

    async def _work(self) -> None:
        while True:
            id = await self._next()
            try:
                await self._kind.reconcile(id)
            except Exception as error:
                # Any failure of one object is retried; it must not end the reconciling of the others.
                delay = min(self._delays.get(id, _FIRST_DELAY) * 2, _LAST_DELAY)
                log.warning("not as wanted yet", table=self._kind.table, id=id, error=str(error), retry_in=delay)
                self._delays[id] = delay
                self._due.setdefault(id, trio.current_time() + delay)

    async def _next(self) -> str:
        """Waits for the object that is due first and takes it out of the queue."""
        while True:
            if self._due:
                id = min(self._due, key=self._due.__getitem__)
                if self._due[id] <= trio.current_time():
                    del self._due[id]
                    return id
            with trio.move_on_at(min(self._due.values(), default=float("inf"))):
                await self._changed.wait()
            self._changed = trio.Event()
