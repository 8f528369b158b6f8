"""Keeps one kind of definition on this member, and waits for the others on behalf of a request.

Owns when a part is made, changed and removed and how that is reported; refuses to know what a part is made of (the
noun's `Host` does)."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.node.cluster.rules import is_clustered
from lxdnode.node.definitions import rules
from lxdnode.node.definitions.records import D, Definition, Noun, Part
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError
from lxdnode.node.node import Node
from lxdnode.node.reconcile.loop import Reconciler

CREATE_LIMIT = 10.0
CHANGE_LIMIT = 5.0
"""Seconds that a request waits for the members that can be reached."""
_TEND_EVERY = 15.0

T = TypeVar("T")
H = TypeVar("H", bound=Definition, contravariant=True)


class Host(Protocol[H]):
    """What a noun does on this host for one definition. Each method can be repeated, and raises DriverError."""

    async def make(self, record: H) -> dict[str, str]:
        """Makes this member's part, or brings what is there in line; returns its member keys."""

    async def remove(self, record: H) -> None:
        """Removes this member's part; nothing when there is none."""


class Keeper(Generic[D]):
    """The definitions of one noun on this member."""

    def __init__(self, node: Node, noun: Noun[D], host: Host[D]) -> None:
        self._node = node
        self._noun = noun
        self._host = host
        self._in_force: dict[str, int] = {}
        """Version of each definition that this process has seen in force on the host."""

    def reconciler(self) -> Reconciler:
        """What `node/reconcile/loop.py` runs."""
        return Reconciler(self._noun.table.name, self._ids, self.reconcile)

    def _ids(self) -> Iterable[str]:
        # Removals first: a new definition may have taken the name, and with it the place on the host.
        found = list(self._node.store.view().all(self._noun.table))
        return [id for id, _record in sorted(found, key=lambda item: item[1].phase != "deleting")]

    async def reconcile(self, id: str) -> None:
        """Makes this host match one definition, and reports it. Raises when it does not match afterwards."""
        record = self._node.store.view().get(self._noun.table, id)
        if record is None or record.phase == "defined":
            self._in_force.pop(id, None)
        elif record.phase == "deleting":
            await self._remove(id, record)
        elif self._in_force.get(id) != record.version or record.part(self._node.member).seen != record.version:
            await self._make(id, record)

    async def _make(self, id: str, record: D) -> None:
        part = record.part(self._node.member)
        try:
            self._check_place(id, record)
            config = await self._host.make(record)
        except (DriverError, OSError) as error:
            self._in_force.pop(id, None)
            failed = msgspec.structs.replace(part, reason=str(error), seen=record.version)
            if part.state != "created":
                failed = msgspec.structs.replace(failed, state="errored")
            await self._report(id, failed)
            if record.phase == "created":
                raise
            return
        self._in_force[id] = record.version
        await self._report(id, Part(state="created", config=config, seen=record.version))

    def _check_place(self, id: str, record: D) -> None:
        """A definition that was deleted and made again under its name waits until the old part is gone."""
        for other, old in self._node.store.view().all(self._noun.table):
            if other != id and old.name == record.name and str(self._node.member) in old.parts:
                raise DriverError(f"the {self._noun.kind} {record.name} that was deleted is still being removed")

    async def _remove(self, id: str, record: D) -> None:
        self._in_force.pop(id, None)
        me = self._node.member
        if str(me) not in record.parts:
            return
        try:
            await self._host.remove(record)
        except (DriverError, OSError) as error:
            part = msgspec.structs.replace(record.part(me), reason=str(error), seen=record.version)
            await self._report(id, part)
            raise
        await self._write(f"remove part of {self._noun.kind}", lambda draft: rules.forget(self._noun, draft, id, me))

    async def _report(self, id: str, part: Part) -> None:
        await self._write(
            f"report part of {self._noun.kind}",
            lambda draft: rules.report(self._noun, draft, id, self._node.member, part),
        )

    async def _write(self, request: str, rule: Callable[[Draft], T]) -> T:
        return await self._node.store.transact(rule, author=f"member:{self._node.member}", request=request)

    # What requests wait for.

    async def await_created(self, id: str) -> None:
        """Returns when every member that can be reached has made its part. NodeError, naming member and reason, when
        one failed: what was made is removed again."""
        await self._until(id, lambda record: rules.is_reported(record, self._reachable()), CREATE_LIMIT, keep_own=True)
        reachable = self._reachable()
        request = f"create {self._noun.kind}"
        failed = await self._write(request, lambda draft: rules.finish(self._noun, draft, id, reachable))
        self._raise(failed)

    async def await_changed(self, id: str) -> None:
        """Returns when every member that can be reached has the newest version in force. NodeError when one failed."""
        record = await self._until(
            id, lambda record: rules.is_reported(record, self._reachable()), CHANGE_LIMIT, keep_own=True
        )
        if record is not None:
            self._raise(rules.failures(record, self._node.store.view(), self._reachable()))

    async def await_removed(self, id: str) -> None:
        """Returns when every member that can be reached has removed its part. NodeError when one could not: it goes on
        trying."""

        def left(record: D) -> set[int]:
            return {int(number) for number in record.parts} & set(self._reachable())

        record = await self._until(id, lambda record: rules.is_reported(record, left(record)), CREATE_LIMIT)
        if record is not None:
            self._raise(rules.failures(record, self._node.store.view(), left(record)))

    def _reachable(self) -> Collection[int]:
        return self._node.cluster.reachable()

    def _raise(self, failed: dict[str, str]) -> None:
        if not failed:
            return
        if not is_clustered(self._node.store.view()):
            raise NodeError(next(iter(failed.values())))
        raise NodeError("; ".join(f"member {name}: {reason}" for name, reason in failed.items()))

    async def _until(self, id: str, is_done: Callable[[D], bool], limit: float, keep_own: bool = False) -> D | None:
        """Waits until the document is gone or as wanted, at most `limit` seconds; returns it as it is then.

        keep_own: without limit for this member's own part, whose end the request must know."""
        async with self._node.log.watch() as changes:
            deadline = trio.current_time() + limit
            while (record := self._node.store.view().get(self._noun.table, id)) is not None:
                waits = keep_own and not rules.is_reported(record, [self._node.member])
                if is_done(record) or (trio.current_time() >= deadline and not waits):
                    return record
                with trio.move_on_at(math.inf if waits else deadline):
                    await anext(changes)
        return None

    async def tend(self, *_: Any) -> None:
        """Finishes, on the leader's member, what a request began whose member has gone; runs until cancelled.

        What is found unfinished twice has no living request: those give up after `CREATE_LIMIT`. Nothing announces
        that a member will not come back, hence a timer."""
        before: set[str] = set()
        while True:
            await trio.sleep(_TEND_EVERY)
            if self._node.log.status().leader != self._node.member:
                before = set()
                continue
            found = {id for id, record in self._node.store.view().all(self._noun.table) if _is_unfinished(record)}
            for id in sorted(found & before):
                await self._finish(id)
            before = found

    async def _finish(self, id: str) -> None:
        reachable = self._reachable()

        def rule(draft: Draft) -> None:
            rules.finish(self._noun, draft, id, reachable)
            rules.forget(self._noun, draft, id, None)

        await self._write(f"finish {self._noun.kind}", rule)


def _is_unfinished(record: Definition) -> bool:
    return record.phase in ("creating", "deleting")
