"""Keeps one kind of definition on this member, and waits for the others on behalf of a request.

Owns when a part is made, changed and removed and how that is reported; refuses to know what a part is made of (the
noun's own class does)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import ClassVar, Generic, TypeVar

import msgspec
import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.node.cluster.accept import Joiner, member_values
from lxdnode.node.cluster.rules import is_clustered
from lxdnode.node.definitions import rules
from lxdnode.node.definitions.records import D, Noun, Part
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import NodeError, Unavailable
from lxdnode.node.node import Node
from lxdnode.node.reconcile.loop import Reconciler
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

CREATE_LIMIT = 10.0
CHANGE_LIMIT = 5.0
"""Seconds that a request waits for the members that can be reached."""
OWN_LIMIT = 120.0
"""Seconds that a request waits for its own member, whose outcome it must know."""
_TEND_EVERY = 15.0
_LOOK = 0.25

T = TypeVar("T")


class Keeper(ABC, Generic[D]):
    """The definitions of one noun on this member. `make` and `unmake` can be repeated, and raise DriverError."""

    entity: ClassVar[str]
    """The noun in a `member_config`."""

    def __init__(self, node: Node, noun: Noun[D]) -> None:
        self._node = node
        self._noun = noun
        self._in_force: dict[str, int] = {}
        """Version of each definition that this process has seen in force on the host."""
        self._settled: set[str] = set()
        """The definitions whose parts a join has made, for the way back."""

    @abstractmethod
    async def make(self, record: D) -> dict[str, str]:
        """Makes this member's part, or brings what is there in line; returns its member keys."""

    @abstractmethod
    async def unmake(self, record: D) -> None:
        """Removes this member's part; nothing when there is none."""

    def reconcilers(self) -> list[Reconciler]:
        """What `node/reconcile/loop.py` runs."""
        return [Reconciler(self._noun.table.name, self._ids, self.reconcile)]

    async def start(self) -> None:
        """Returns when this host was made to match once; what failed is tried again by the loop."""
        for id in self._ids():
            try:
                await self.reconcile(id)
            except (DriverError, OSError, NodeError) as error:
                log.warning("not as wanted at the start", kind=self._noun.kind, id=id, error=str(error))

    def _ids(self) -> Iterable[str]:
        # Removals first: a new definition may have taken the name, and with it the place on the host.
        found = list(self._node.store.view().all(self._noun.table))
        return [id for id, _record in sorted(found, key=lambda item: item[1].phase != "deleting")]

    async def reconcile(self, id: str) -> None:
        """Makes this host match one definition, and reports it. Raises when it does not match afterwards."""
        async with self._node.locks.hold(f"{self._noun.kind}:{id}", "reconcile"):
            await self._reconcile(id)

    async def _reconcile(self, id: str) -> None:
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
            config = await self.make(record)
        except Exception as error:
            # Whatever it is, the request that waits has to learn it; what nobody foresaw is logged by the loop.
            self._in_force.pop(id, None)
            failed = msgspec.structs.replace(part, reason=str(error), seen=record.version)
            if part.state != "created":
                failed = msgspec.structs.replace(failed, state="errored")
            await self._report(id, failed)
            if record.phase == "created" or not isinstance(error, DriverError | OSError):
                raise
            return
        self._in_force[id] = record.version
        if part.state != "created":
            self._settled.add(id)
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
            await self.unmake(record)
        except Exception as error:
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

    def _dry_run(self, rule: Callable[[Draft], object]) -> None:
        """Runs a rule on the newest snapshot for its refusals alone, before the host is touched."""
        rule(Draft(self._node.log.state))

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
        return self._node.cluster.reachable() | {self._node.member}

    def _raise(self, failed: dict[str, str]) -> None:
        if not failed:
            return
        if not is_clustered(self._node.store.view()):
            raise NodeError(next(iter(failed.values())))
        raise NodeError("; ".join(f"member {name}: {reason}" for name, reason in failed.items()))

    async def _until(self, id: str, is_done: Callable[[D], bool], limit: float, keep_own: bool = False) -> D | None:
        """Waits until the document is gone or as wanted, at most `limit` seconds; returns it as it is then.

        keep_own: up to `OWN_LIMIT` for this member's own part. Unavailable when even that did not do."""
        async with self._node.log.watch(self._noun.table.name) as changes:
            begun = trio.current_time()
            while (record := self._node.store.view().get(self._noun.table, id)) is not None:
                waited = trio.current_time() - begun
                waits = keep_own and not rules.is_reported(record, [self._node.member])
                if is_done(record) or (waited >= limit and not waits):
                    return record
                if waited >= OWN_LIMIT:
                    raise Unavailable(f"{self._noun.kind} {record.name}: not done after {OWN_LIMIT:g} s; it goes on")
                # A member that goes silent writes nothing, so the wait is cut into looks at who can be reached.
                with trio.move_on_after(_LOOK):
                    await anext(changes)
        return None

    async def tend(self, own: Log) -> None:
        """Finishes, on the leader's member, what a request began whose member has gone; runs until cancelled.

        What is found unfinished twice has no living request: those give up after `CREATE_LIMIT`. Nothing announces
        that a member will not come back, hence a timer."""
        before: set[str] = set()
        while True:
            await own.leading()
            await trio.sleep(_TEND_EVERY)
            found = self._node.store.view().all(self._noun.table)
            unfinished = {id for id, record in found if record.phase in ("creating", "deleting")}
            for id in sorted(unfinished & before):
                await self._finish(id)
            before = unfinished

    async def _finish(self, id: str) -> None:
        reachable = self._reachable()

        def rule(draft: Draft) -> None:
            rules.finish(self._noun, draft, id, reachable)
            rules.forget(self._noun, draft, id, None)

        try:
            await self._write(f"finish {self._noun.kind}", rule)
        except NodeError as error:
            # The lead or the quorum was lost meanwhile: who leads next goes on.
            log.info("not finished", kind=self._noun.kind, id=id, error=str(error))

    # Members that come and go.

    def definitions(self, view: View | None = None) -> dict[str, tuple[str, dict[str, str]]]:
        """Name -> (driver, configuration without member keys) of what a joining member must have."""
        found = rules.shared(self._noun, view or self._node.store.view())
        return {name: (getattr(record, "driver", ""), dict(record.config)) for name, record in found.items()}

    def member_keys(self, view: View) -> Iterator[tuple[str, str]]:
        """(name, key) of each key that a joining member may give a value for: those that this member has."""
        for name, record in sorted(rules.shared(self._noun, view).items()):
            for key in sorted(record.part(self._node.member).config):
                if not key.startswith("volatile."):
                    yield name, key

    def add_member(self, draft: Draft, number: int, joiner: Joiner) -> None:
        """Gives a joining member its part of every definition."""
        rules.add_member(self._noun, draft, number, lambda name: member_values(joiner, self.entity, name))

    def remove_member(self, draft: Draft, number: int) -> None:
        """Drops a member's parts."""
        rules.remove_member(self._noun, draft, number)

    async def settle_own(self) -> None:
        """Makes this member's part of everything, as a part of its join. NodeError when one cannot be made."""
        self._in_force.clear()
        self._settled.clear()
        for id in self._ids():
            await self.reconcile(id)
            record = self._node.store.view().get(self._noun.table, id)
            part = record.part(self._node.member) if record else None
            if record is not None and part is not None and part.reason:
                raise NodeError(f"{self._noun.kind} {record.name} cannot be made on this server: {part.reason}")

    async def remove_own(self, only_settled: bool = False) -> None:
        """Removes this member's parts: of everything when it leaves, `only_settled` of what `settle_own` has made."""
        for id, record in self._node.store.view().all(self._noun.table):
            if not only_settled or id in self._settled:
                await self.unmake(record)
        self._in_force.clear()
        self._settled.clear()
