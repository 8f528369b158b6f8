"""The replicated log as the rest of the program sees it: commit, barrier, state, watch, status.

Owns the trio side of the driver: when it steps, who waits for it, and the threads of its disk."""

import os
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Self

import trio
import trio.lowlevel

from lxdnode.raft import driver as drivers
from lxdnode.raft import machine, membership
from lxdnode.raft.core import Message
from lxdnode.raft.disk import Directory
from lxdnode.raft.driver import Driver, Limits
from lxdnode.raft.entry import Members
from lxdnode.raft.errors import DiskFull, MembershipRefused, NotProposed, OutcomeUnknown, Outdated, Stale, TooLarge
from lxdnode.raft.history import Change, Reset
from lxdnode.raft.journal import Identity
from lxdnode.raft.lateness import Lateness
from lxdnode.raft.past import Past
from lxdnode.raft.proposals import Full, Refused, Result, Unreachable
from lxdnode.raft.recovery import Position, back_up
from lxdnode.raft.state import State
from lxdnode.raft.status import Status
from lxdnode.raft.transaction import LEVEL, TRANSACTION_LIMIT, Outcome, Put, Transaction, encode
from lxdnode.raft.transport import Dial, Transport
from lxdnode.raft.watch import Watch
from lxdnode.raft.worker import ThreadWorker

COMMIT_TIMEOUT = 5.0
BARRIER_TIMEOUT = 0.5

_NOBODY = Members()


class Log:
    """A member's log. Make one with `create`, `open` or `join`, then `await nursery.start(log.run)`.

    `off` names rules that are switched off in this process, and `sync`: for tests, which must find that.
    """

    off: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, directory: Path, dial: Dial | None = None, limits: Limits | None = None, copy_until: int = 0
    ) -> None:
        """Opens what `directory` holds; raises framing.Damaged, with a message that says how to go on.

        `dial(member)` gives a stream to a member, or raises OSError or trio.BrokenResourceError; without it links come
        by `serve` alone.
        """
        self._disk = Directory(directory, sync="sync" not in self.off)
        self._workers = ThreadWorker("raft journal"), ThreadWorker("raft snapshot")
        self._ends_well = self._closed = False
        self._advanced, self._leads = trio.Event(), trio.Event()
        self._dialled = _NOBODY
        try:
            self._driver = Driver(
                self._disk,
                trio.current_time(),
                random.Random(),
                *self._workers,
                deliver=lambda member, message: self._transport.deliver(member, message),
                limits=limits or Limits(),
                off=self.off,
                copy_until=copy_until,
                clock=time.time,
            )
        except BaseException:
            self._close()
            raise
        self.identity = self._driver.identity
        self.past = Past(self._disk, self._driver.archive, self._workers[1], self._call_step)
        self._transport = Transport(self.identity, dial, self._receive, self._link)
        self.lateness = Lateness()
        self._wake = trio.Event()
        self._due = trio.current_time()
        self._watchers: set[Watch] = set()
        self._nursery: trio.Nursery | None = None

    @classmethod
    def create(
        cls, directory: Path, *, cluster: str, initial: Transaction, member: int = 1, dial: Dial | None = None
    ) -> Self:
        """A new cluster of one voter, whose first entry is `initial`: it must contain the document of that member.

        FileExistsError if there is a log already.
        """
        first = machine.apply(State(), 1, [initial]).state
        if membership.configuration(first) != Members((member,)):
            raise ValueError(f"the first transaction must make member {member}, and only it, a voter")
        _create(directory, Identity(cluster, 1, member), Members((member,)), encode(initial))
        return cls(directory, dial)

    @classmethod
    def open(cls, directory: Path, dial: Dial | None = None, limits: Limits | None = None) -> Self:
        """The log that `directory` holds; FileNotFoundError if there is none."""
        return cls(directory, dial, limits)

    @classmethod
    def join(cls, directory: Path, *, cluster: str, member: int, epoch: int = 1, dial: Dial | None = None) -> Self:
        """An empty log that will receive everything as a learner, from the members that link to it."""
        _create(directory, Identity(cluster, epoch, member), Members(), None)
        return cls(directory, dial)

    @classmethod
    def rejoin(
        cls,
        directory: Path,
        identity: Identity,
        others: Iterable[int],
        *,
        term: int,
        index: int,
        dial: Dial | None = None,
    ) -> Self:
        """Like `join`, for a member whose store was lost, after the others have committed that it has no vote; it dials
        the `others`.

        `term` and `index` are of that commit or later: until the log holds `index` this member must not be restarted
        on it, since the configurations before it say that it votes (DESIGN.md, "A member that lost its log").
        """
        _create(directory, identity, Members((), tuple(sorted(others))), None, lost_term=term)
        return cls(directory, dial, copy_until=index)

    # What others call.

    @property
    def state(self) -> State:
        """The newest state that was applied here: a snapshot that stays as it is."""
        return self._driver.state

    async def commit(self, transaction: Transaction, timeout: float = COMMIT_TIMEOUT) -> Outcome:
        """The outcome, after it was applied here.

        Raises TooLarge, NotProposed, DiskFull and Outdated (surely not done), OutcomeUnknown (repeat it with the same
        id) and MembershipRefused.
        """
        driver = self._driver
        data = _checked(transaction)
        if driver.needs_level is not None:
            raise Outdated(driver.needs_level)
        if missing := driver.missing(trio.current_time()):
            raise _not_proposed(driver, missing)
        if driver.disk_full:
            raise DiskFull
        results: list[Result] = []
        arrived = trio.Event()

        def listener(result: Result) -> None:
            results.append(result)
            arrived.set()

        waiter = driver.proposals.wait(transaction, data, listener)
        self._call_step()
        try:
            with trio.move_on_after(timeout):
                await arrived.wait()
        finally:
            driver.proposals.give_up(waiter, listener)
        if not results:
            raise OutcomeUnknown(transaction.id) if waiter.proposed else NotProposed((), "there is no leader")
        if isinstance(results[0], Refused):
            raise MembershipRefused(results[0].reason)
        if isinstance(results[0], Full):
            raise OutcomeUnknown(transaction.id) if waiter.proposed else DiskFull
        if isinstance(results[0], Unreachable):
            raise _not_proposed(driver, results[0].missing)
        return results[0]

    async def barrier(self, timeout: float = BARRIER_TIMEOUT) -> None:
        """Return when all that was committed anywhere before this call is applied here; else raise Stale.

        At once when no majority can be reached, or this program cannot apply it, unless the caller has all the time
        (`caught_up`).
        """
        hopeless = self._driver.missing(trio.current_time()) or self._driver.needs_level is not None
        if timeout < float("inf") and hopeless:
            raise Stale(self.state.index)
        arrived = trio.Event()
        self._driver.reads.wait(arrived.set)
        self._call_step()
        try:
            with trio.move_on_after(timeout):
                await arrived.wait()
        finally:
            self._driver.reads.give_up(arrived.set)
        if not arrived.is_set():
            raise Stale(self.state.index)

    async def caught_up(self) -> None:
        """Return when this log has all that was committed before this call on its disk, however long that takes."""
        await self.barrier(float("inf"))
        index = self.state.index
        while self._driver.journal.durable < index:
            await self._advanced.wait()

    def watch(self, *tables: str) -> Watch:
        """`async with log.watch() as changes: async for change in changes`: each Change behind now, or a Reset.

        `tables`: only what touches a document of one of these; nobody is woken for the rest."""
        return Watch(self._watchers, frozenset(tables))

    async def news(self, index: int) -> bool:
        """Return when something behind `index` was applied here; False: this log has ended, nothing more comes."""
        while self.state.index <= index and not self._closed:
            await self._advanced.wait()
        return not self._closed

    async def removal(self) -> bool:
        """Return when the others said that this is no member any more; False: this log has ended."""
        while not self._driver.removed and not self._closed:
            await self._advanced.wait()
        return self._driver.removed

    def changes_since(self, index: int) -> tuple[Change, ...] | None:
        """The changes behind `index` that are still in memory; None when some are not."""
        return self._driver.history.since(index)

    def status(self) -> Status:
        return Status.of(self._driver, self._transport.failures, trio.current_time())

    @property
    def is_leader(self) -> bool:
        return self._driver.core.is_leader

    async def leading(self) -> None:
        """Return when this member leads and knows what is committed: at once, or when that comes about. It may be over
        at any time."""
        await self._leads.wait()

    def caught_up_members(self) -> frozenset[int]:
        """As leader: the members that hold the log to within a few entries of its end; empty elsewhere."""
        driver = self._driver
        if not driver.core.is_leader:
            return frozenset()
        near = driver.journal.last - 100
        others = driver.journal.members.all - {self.identity.member}
        return frozenset(member for member in others if driver.core.match(member) >= near) | {self.identity.member}

    def liveness(self) -> dict[int, float]:
        """Seconds since each member was heard: by the leader, as its last heartbeat told, else by this member."""
        driver = self._driver
        return driver.liveness.ages(driver.journal.members.all, trio.current_time(), driver.core.leader)

    def skews(self) -> dict[int, float]:
        """Seconds by which the wall clock of each member is ahead of the leader's, as far as the leader has told;
        wrong by at most half of TRIP_LIMIT."""
        return dict(self._driver.liveness.skews)

    def report(self, payload: bytes) -> None:
        """What this member lets all others know of itself, by the leader's heartbeats; small, opaque, not logged."""
        self._driver.liveness.report = payload

    def reports(self) -> dict[int, bytes]:
        """The newest report known of each member."""
        liveness = self._driver.liveness
        return {**liveness.reports, liveness.own: liveness.report}

    async def serve(self, stream: trio.abc.Stream, member: int) -> None:
        """Use an accepted stream of `member` until it breaks. Raises transport.BROKEN."""
        await self._transport.serve(stream, member)

    async def dismiss(self, stream: trio.abc.Stream, member: int) -> None:
        """Tell one that was removed so, on an accepted stream, which is closed then. Raises transport.BROKEN."""
        await self._transport.dismiss(stream, member, {"type": "removed", "term": self._driver.core.term})

    async def hand_over(self, timeout: float = 3.0) -> bool:
        """As leader: let another voter lead. False when there is none or it did not come about."""
        self._driver.election.hand_over(trio.current_time(), self._driver.connected)
        self._call_step()
        with trio.move_on_after(timeout):
            while self.is_leader and len(self._driver.journal.members.voters) > 1:
                await self._advanced.wait()
        return not self.is_leader

    def position(self) -> Position:
        """How much of the log this member holds, committed or not."""
        journal = self._driver.journal
        return Position(journal.last_term, journal.last)

    def back_up(self) -> Iterator[bytes]:
        """The applied state as a file (`recovery.read_backup`), a frame at a time."""
        return back_up(self.identity, self._driver.journal, self.state)

    # The loop.

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled. Started when a cluster of one has applied all, else at once. Ends by raising when
        the disk fails: nothing may be acknowledged after that."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for worker in self._workers:
                    nursery.start_soon(self._collect, worker.descriptor)
                await self._loop(task_status)
        finally:
            self._nursery = None
            self._transport.close()  # accepted streams belong to tasks of others
            self._close()

    async def _loop(self, task_status: trio.TaskStatus[None]) -> None:
        started = False
        while True:
            self._wake = trio.Event()
            self.lateness.record(trio.current_time() - self._due)
            self._step()
            if not started and self._is_ready():
                started = True
                task_status.started()
            try:
                with trio.move_on_at(self._due):
                    await self._wake.wait()
                await self._read_first()
            except trio.Cancelled:
                self._ends_well = True
                raise

    def _call_step(self) -> None:
        """There is something to do: the step is due now."""
        if not self._wake.is_set():
            self._due = min(self._due, trio.current_time())
            self._wake.set()

    def _is_ready(self) -> bool:
        core, journal = self._driver.core, self._driver.journal
        alone = journal.members.voters == (self.identity.member,)
        return not alone or (core.established and core.applied == core.commit) or self._driver.needs_level is not None

    async def _read_first(self) -> None:
        """After a long pause of the process what lies in the sockets comes before any deadline."""
        if trio.current_time() - self._due > drivers.LATE:
            await trio.lowlevel.checkpoint()

    def _step(self) -> None:
        driver = self._driver
        self._due = driver.step(trio.current_time())
        news, driver.news = driver.news, []
        for change in news:
            tables = {table for table, _group, _name in change.keys} if isinstance(change, Change) else set()
            for watch in self._watchers:
                watch.add(change, tables)
        members = _NOBODY if driver.removed else driver.journal.members
        if self._nursery is not None and members is not self._dialled:
            self._dialled = members
            self._transport.dial_to(_neighbours(members, self.identity.member), self._nursery)
        self._advanced.set()
        self._advanced = trio.Event()
        if driver.core.established:
            self._leads.set()
        elif self._leads.is_set():
            self._leads = trio.Event()

    async def _collect(self, descriptor: int) -> None:
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            os.eventfd_read(descriptor)
            self._call_step()

    def _receive(self, member: int, messages: list[Message]) -> None:
        self._driver.inbox.extend((member, message) for message in messages)
        self._call_step()

    def _link(self, member: int, *, up: bool) -> None:
        self._driver.link(member, up=up)
        self._call_step()

    def _close(self) -> None:
        """End the threads. After a cancellation, not a failure, what is left is written."""
        for worker in self._workers:
            worker.close()
        try:
            if self._ends_well:
                for worker in self._workers:
                    worker.collect()
                self._driver.finish()
        finally:
            self._disk.close()
            self._closed = True
            self._advanced.set()


def _create(
    directory: Path, identity: Identity, members: Members, initial: bytes | None, *, lost_term: int = 0
) -> None:
    disk = Directory(directory)
    try:
        drivers.create(disk, identity, members, initial, lost_term=lost_term)
    finally:
        disk.close()


def _neighbours(members: Members, own: int) -> frozenset[int]:
    """Whom a member keeps links to: who has no vote needs them to those that can lead only. A copy that begins anew
    does not know who that is."""
    among_learners = own not in members.voters and bool(members.voters)
    return frozenset(members.voters) if among_learners else members.all


def _checked(transaction: Transaction) -> bytes:
    if transaction.level > LEVEL:
        raise ValueError(f"transaction of level {transaction.level}: this version knows {LEVEL}")
    data = encode(transaction)
    if len(data) > TRANSACTION_LIMIT:
        puts = [write for write in transaction.writes if isinstance(write, Put)]
        largest = max(puts, key=lambda put: len(put.value), default=None)
        name = f"{largest.table}/{largest.group}/{largest.name}" if largest else transaction.request
        raise TooLarge(name, len(data), TRANSACTION_LIMIT)
    return data


def _not_proposed(driver: Driver, missing: tuple[int, ...]) -> NotProposed:
    return NotProposed(missing, "this member was removed from the cluster") if driver.removed else NotProposed(missing)


__all__ = [
    "Change",
    "DiskFull",
    "Limits",
    "Log",
    "MembershipRefused",
    "NotProposed",
    "OutcomeUnknown",
    "Outdated",
    "Reset",
    "Stale",
    "Status",
    "TooLarge",
    "Watch",
]
