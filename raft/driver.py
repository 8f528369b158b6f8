"""One member of the cluster as a synchronous machine: messages, finished disk work and the time in, messages out.

`step` has no await and no clock but the one given: trio runs it in the daemon, the simulation on a virtual clock. It
wires the parts together and owns their order; each rule is in the part that has its name."""

import errno
import random
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from lxdnode.raft import archive, entry, machine, membership, segments, snapshot
from lxdnode.raft.archive import Archive
from lxdnode.raft.core import Core, Message
from lxdnode.raft.disk import Disk
from lxdnode.raft.election import Election
from lxdnode.raft.entry import LEVEL, Members
from lxdnode.raft.framing import Damaged
from lxdnode.raft.guard import Guard
from lxdnode.raft.history import Change, History, Reset
from lxdnode.raft.journal import SEGMENT_LIMIT, Batch, Head, Identity, Journal
from lxdnode.raft.liveness import Liveness
from lxdnode.raft.proposals import Full, Proposals, Unreachable
from lxdnode.raft.reads import Reads
from lxdnode.raft.snapshot import SnapshotHead, Writer, name_of
from lxdnode.raft.state import State
from lxdnode.raft.transaction import decode
from lxdnode.raft.transfer import Receiver, Sender
from lxdnode.raft.worker import Worker

LATE = 0.2  # a step so much behind its time forgives the others the same delay
GRACE = 1.0  # after its start a member waits so long for links before it says that there is no majority
IDLE_COMMIT = 1.0  # a commit index that nothing else carries to the disk is written after so long
DISK_RETRY = 1.0

RAFT_MESSAGES = ("append_entries", "next_node_idx", "request_vote", "response_vote", "stale")
FIRST_INDEX = 1  # every log begins with pysyncobj's entry of index 1 and term 0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a snapshot is written, how much log is kept behind it for followers, and how large a segment grows.

    A snapshot is due after so many entries, or as many bytes of them as the last snapshot has, at least
    `snapshot_bytes`: its work stays in proportion to that of the log, and a start replays no more than that.
    """

    snapshot_entries: int = 50_000
    snapshot_bytes: int = 4 * 1024 * 1024
    trail_entries: int = 4_000
    trail_bytes: int = 4 * 1024 * 1024
    segment_bytes: int = SEGMENT_LIMIT
    history_segment_bytes: int = archive.SEGMENT_LIMIT
    history_bytes: int = archive.TOTAL_LIMIT


def create(
    disk: Disk, identity: Identity, members: Members, initial: bytes | None = None, *, lost_term: int = 0
) -> None:
    """Begin a log. `initial` is an encoded transaction that is its first entry, committed by its first voter.

    A log in the place of a lost one begins in `lost_term` with its vote given: whom it voted for up to there is lost.
    """
    term = 1 if initial is not None else lost_term
    vote = identity.member if term else None
    head = Head(identity, FIRST_INDEX, 0, members, term, vote)
    files = segments.Segments.create(disk, head)
    if initial is not None:
        journal = Journal(head)
        journal.add(entry.pack([initial], decode(initial).level), FIRST_INDEX + 1, 1)
        files.write(journal.take())


class Driver:
    """Opens what is on the disk. `inbox` takes (member, message); `deliver` gets what is to be sent; `news` what was
    applied. Raises Damaged when the disk cannot be trusted, and whatever ended its disk work."""

    def __init__(
        self,
        disk: Disk,
        now: float,
        randomness: random.Random,
        journal_worker: Worker,
        snapshot_worker: Worker,
        deliver: Callable[[int, Message], None],
        limits: Limits = Limits(),
        off: Collection[str] = (),
        copy_until: int = 0,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`copy_until`: the log is a copy in the place of a lost one; before it holds this index it may not stand.
        `clock` is the wall clock, which decides nothing: it is compared with the others'."""
        self._disk = disk
        self._limits = limits
        self._off = off
        self._deliver = deliver
        self._journal_worker, self._snapshot_worker = journal_worker, snapshot_worker
        self.journal, self._segments = segments.load(disk, limits.segment_bytes)
        self.state, self._snapshot_index = self._load_snapshot()
        self.history = History(self.state.index)
        sizes = limits.history_segment_bytes, limits.history_bytes
        self.archive = Archive(disk, snapshot_worker, self.state.index, *sizes)
        self.identity = self.journal.identity
        own = self.identity.member
        self.guard = Guard(self.journal, self._post, off)
        self.core = Core(self.journal, self.state.index, now, randomness, self._emit, self._apply, off)
        self.guard.core = self.core
        self.election = Election(self.core, self.journal, self.guard, self._post, off)
        self.election.not_before = copy_until
        self.reads = Reads(self.core, self.journal, self._post, off)
        self.connected: set[int] = set()
        self.proposals = Proposals(self.core, self.journal, self._post, self.connected)
        self.liveness = Liveness(own, now, clock)
        self.sender = Sender(self.core, disk, snapshot_worker, self._post)
        self.receiver = Receiver(self.identity, disk, snapshot_worker, self._post, self._install, self._on_outdated)
        self.writer = Writer(disk, snapshot_worker, self._snapshot_written)
        self.inbox: deque[tuple[int, Message]] = deque()
        self.news: list[Change | Reset] = []
        self.removed = False
        self.needs_level: int | None = None
        self.disk_full = False
        self._outbox: list[tuple[int, Message]] = []
        self._members = self.journal.members
        self._started = self._now = self._due = self._synced_at = now
        self._syncing: Batch | None = None
        self._retry_sync_at = float("inf")
        self._attempted_index = self._snapshot_index
        self._bytes_applied = 0
        self._snapshot_size = self._disk.size(name_of(self._snapshot_index)) if self._snapshot_index else 0
        self._handlers = self._table_of_handlers()
        if self.journal.members.voters == (own,):
            self.core.campaign()  # nobody else could lead

    def _load_snapshot(self) -> tuple[State, int]:
        name = snapshot.newest(self._disk)
        if name is None:
            if self.journal.base != FIRST_INDEX:
                raise Damaged(
                    f"the journal begins behind index {self.journal.base} and there is no snapshot: remove this member "
                    "from the cluster and join again; when no other member is left, restore a backup"
                )
            return State(index=FIRST_INDEX), 0
        head, state = snapshot.decode(self._disk.read(name), name)
        own = self.journal.identity
        if (head.identity.cluster, head.identity.epoch) != (own.cluster, own.epoch):
            raise Damaged(
                f"{name} is of cluster {head.identity.cluster}, epoch {head.identity.epoch}; the journal is not"
            )
        if "aligned" not in self._off:
            self.journal.align(head.index, head.term, head.members)
        snapshot.remove_others(self._disk, name)
        return state, head.index

    # The step.

    def step(self, now: float) -> float:
        """Do all that can be done at `now`; gives the time of the next step if nothing arrives before."""
        self._forgive_lateness(now)
        self._now = now
        self.proposals.answered = False
        self._journal_worker.collect()
        self._snapshot_worker.collect()
        while self.inbox:
            self._handle(*self.inbox.popleft())
        self.election.check(now)
        self.core.tick(now)
        if self.needs_level is not None and self.core.is_leader:
            self.core.resign()  # one that applies must lead: changes of members and the state for others hang on it
        self._configure()
        self._propose(now)
        self.reads.step(now)
        if self.core.is_leader:
            # Who got an answer may write again at once: then the commit index goes with that, else with the next step.
            self.core.send_appends(patient=self.proposals.answered)
        self.guard.acknowledge()
        self.archive.step(now)
        self._snapshot(now)
        self._flush()
        self._sync(now)
        self._due = self._next_step(now)
        return self._due

    def _forgive_lateness(self, now: float) -> None:
        late = now - self._due
        if late > LATE:
            self.core.forgive(late)
            self.guard.heard_at += late

    def _next_step(self, now: float) -> float:
        due = self.core.heartbeat_at() if self.core.is_leader else self.core.election_at()
        if self.proposals.answered:
            due = now
        if self.proposals.waiting or self.reads.pending or self.proposals.paused or self.core.behind:
            due = min(due, now + 0.05)
        if self.journal.commit_pending and self._syncing is None:
            due = min(due, self._synced_at + IDLE_COMMIT)
        due = min(due, self.archive.due)
        if self.core.applied < self.core.commit and self.needs_level is None:
            due = now
        return max(due, now) + 0.001

    def _handle(self, member: int, message: Message) -> None:
        self.liveness.hear(member, self._now)
        self._tell_removed(member)
        handler = self._handlers.get(message["type"])
        if handler is not None:  # else it is from a newer version, which does not count on an answer
            handler(member, message)

    def _table_of_handlers(self) -> dict[str, Callable[[int, Message], None]]:
        raft = dict.fromkeys(RAFT_MESSAGES, self._handle_raft)
        return {
            **raft,
            "prevote": lambda member, message: self.election.on_prevote(self._now, member, message),
            "prevote_ok": self.election.on_promise,
            "timeout_now": self.election.on_handed_over,
            "propose": lambda member, message: self.proposals.on_forwarded(member, message["transactions"]),
            "refused": lambda member, message: self.proposals.on_refused(message["id"], message["reason"]),
            "barrier": lambda member, message: self.reads.on_question(member, message["token"]),
            "barrier_ok": lambda member, message: self.reads.on_answer(message["token"], message["index"]),
            "snapshot": self._handle_snapshot,
            "snapshot_ok": lambda member, message: self.sender.on_answer(self._now, member, message),
            "snapshot_damaged": lambda member, message: self._on_damaged_snapshot(message["index"]),
            "removed": lambda member, message: self._on_removed(member),
        }

    def _handle_snapshot(self, member: int, message: Message) -> None:
        if message["term"] == self.core.term and member == self.core.leader:
            self.receiver.on_chunk(member, message)

    def _handle_raft(self, member: int, message: Message) -> None:
        self.guard.admit(self._now, member, message)
        self._configure()
        if message["term"] != self.core.term:
            return
        if message["type"] == "next_node_idx":
            self.reads.on_echo(member, message.get("round", 0))
            self.liveness.take_answer(member, message, self._now)
        elif message["type"] == "append_entries":
            self.liveness.take(message, self._now)

    def _propose(self, now: float) -> None:
        if missing := self.missing(now):
            self.proposals.fail_unproposed(Unreachable(missing))
        self.proposals.step(now)
        self.proposals.paused = self.election.is_handing_over(now)
        if self.core.is_leader and (self._syncing is None or not self.core.alone):
            command = self.proposals.take(self.state)
            if command is not None:
                self.core.propose(command)
                self._configure()

    # Out.

    def _emit(self, member: int, message: Message) -> None:
        """What pysyncobj sends."""
        if message["type"] == "request_vote":
            self.election.stamp(message)
        self.guard.emit(member, message)

    def _post(self, member: int, message: Message) -> None:
        if message["type"] == "append_entries":
            self.liveness.fill(member, message, self.journal.members.all, self._now)
        elif message["type"] == "next_node_idx":
            self.liveness.answer(member, message)
        self._outbox.append((member, message))

    def _flush(self) -> None:
        """Nothing leaves before term and vote are durable; entries may, since only durable ones are counted."""
        if not self.journal.settled and "votes_are_durable" not in self._off:
            if self.disk_full:
                self._outbox.clear()  # it may last; everything is said again
            return
        outbox, self._outbox = self._outbox, []
        for member, message in outbox:
            if member in self.connected:
                self._deliver(member, message)

    def link(self, member: int, *, up: bool) -> None:
        """A link to a member came or went (a new one in place of an old one: went, then came)."""
        (self.connected.add if up else self.connected.discard)(member)
        self.core.connect(member, up=up)
        self.liveness.forget_link(member)
        self.sender.forget(member)
        self.reads.forget(member)
        if up:
            self._tell_removed(member)
        else:
            self._outbox = [(to, message) for to, message in self._outbox if to != member]

    # Apply.

    def _apply(self, index: int, command: bytes) -> bool:
        if entry.level_of(command) > LEVEL:
            self._on_outdated(entry.level_of(command))
            return False
        unpacked = entry.unpack(command)
        applied = machine.apply(self.state, index, unpacked.transactions)
        self.state = applied.state
        for transaction, outcome in zip(unpacked.transactions, applied.outcomes, strict=True):
            self.proposals.applied(transaction.id, outcome)
        self.archive.add(index, command, applied.replaced, applied.at)
        self._tell(Change(index, applied.keys, applied.events, applied.at))
        self._bytes_applied += len(command)
        return True

    def _on_outdated(self, level: int) -> None:
        """What was committed needs a newer program: the log is kept, the state stays as it is."""
        self.needs_level, self.election.barred = level, True

    def _tell(self, change: Change) -> None:
        self.history.add(change)
        self.news.append(change)

    def _configure(self) -> None:
        """The newest configuration in the log is in force, committed or not."""
        members = self.journal.members
        if members is self._members:
            return
        gone, new = self._members.all - members.all, members.all - self._members.all
        self._members = members
        for member in new:
            self.liveness.meet(member, self._now)
        self.core.configure(members)
        if self.core.is_leader:
            for member in gone:
                self._post(member, {"type": "removed", "term": self.core.term})
            if self.identity.member not in members.voters:
                self.core.resign()

    # Members that are no more.

    def _tell_removed(self, member: int) -> None:
        if member not in self.journal.members and self.journal.members.all:
            document = membership.members_in(self.state).get(member)
            if document is not None and document.phase == "removed":
                self._post(member, {"type": "removed", "term": self.core.term})

    def _on_removed(self, member: int) -> None:
        if member in self.journal.members:
            self.removed = self.election.barred = True

    def missing(self, now: float) -> tuple[int, ...]:
        """The voters that cannot be reached, when that leaves no majority; else empty. One removed reaches nobody. One
        without a vote does not count while it has the leader, which does: its other links may be on their way."""
        voters = self.journal.members.voters
        if self.identity.member not in voters and self.core.leader in self.connected and not self.removed:
            return ()
        reached = {self.identity.member} if self.removed else {self.identity.member, *self.connected}
        away = tuple(member for member in voters if member not in reached)
        lacking = len(voters) - len(away) < self.journal.members.quorum
        return away if lacking and (self.removed or now - self._started > GRACE) else ()

    # Disk.

    def _sync(self, now: float) -> None:
        if self._syncing is not None:
            if now >= self._retry_sync_at:
                self._retry_sync_at = float("inf")
                self._write(self._syncing)
            return
        idle = self.journal.commit_pending and now - self._synced_at >= IDLE_COMMIT
        if self.journal.pending or idle:
            self._syncing = self.journal.take()
            self._write(self._syncing)

    def finish(self) -> None:
        """The threads have ended in good order: write what is left, so that a restart knows all that is committed."""
        if self._syncing is None and (self.journal.pending or self.journal.commit_pending):
            self._segments.write(self.journal.take())
        self.archive.finish()

    def _write(self, batch: Batch) -> None:
        self._journal_worker.submit(lambda: self._segments.write(batch), self._written)

    def _written(self, failure: BaseException | None) -> None:
        full = isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and "full_disks_refuse" not in self._off:
            self._on_full_disk()
            return
        if failure is not None and not full and "failed_syncs_end" not in self._off:
            raise failure  # what a failed sync left behind is unknown: nothing more may be acknowledged
        self.disk_full, self._syncing, self._synced_at = False, None, self._now
        self.journal.complete()

    def _on_full_disk(self) -> None:
        """Take no more transactions, let another lead, give up some of the history, and try again."""
        self.disk_full, self._retry_sync_at = True, self._now + DISK_RETRY
        self.archive.shed()
        self.election.hand_over(self._now, self.connected)
        if self.core.alone:
            self.proposals.fail_all(Full())
        else:
            self.proposals.fail_unproposed(Full())

    # Snapshots.

    def _snapshot(self, now: float) -> None:
        self.sender.step(now, self._snapshot_index, self.connected)
        if self._is_snapshot_due() and not self.writer.busy:
            self._write_snapshot()

    def _is_snapshot_due(self) -> bool:
        grown = self.core.applied - self._attempted_index
        enough = max(self._limits.snapshot_bytes, self._snapshot_size)
        return grown >= self._limits.snapshot_entries or (grown > 0 and self._bytes_applied >= enough)

    def _write_snapshot(self) -> None:
        index = self.core.applied
        self._attempted_index, self._bytes_applied = index, 0
        term = self.journal.term_at(index)
        assert term is not None
        members = self.journal.members_at(index)
        self.archive.write(
            sync=True
        )  # before the snapshot is in place: a start behind it does not replay what led there
        self.writer.start(SnapshotHead(self.identity, index, term, members, self.state.level), self.state)

    def _on_damaged_snapshot(self, index: int) -> None:
        """The file rots on this disk, as the one it was sent to found: the state in memory makes a new one."""
        if index == self._snapshot_index and not self.writer.busy:
            self._write_snapshot()

    def _snapshot_written(self, head: SnapshotHead) -> None:
        if head.index >= self._snapshot_index:
            self._snapshot_index, self._snapshot_size = head.index, self._disk.size(name_of(head.index))
            self._forget_log(self._trail(head.index))
        self._remove_old_snapshots()

    def _trail(self, index: int) -> int:
        """How far the log may be forgotten, so that followers a little behind need no snapshot."""
        kept = size = 0
        for command, at, _ in reversed(self.journal.entries(self.journal.base + 1, index)):
            kept, size = kept + 1, size + len(command)
            if kept > self._limits.trail_entries or size > self._limits.trail_bytes:
                return at
        return self.journal.base

    def _forget_log(self, index: int) -> None:
        self.journal.forget(index)
        self._journal_worker.submit(lambda: self._segments.drop(index), _raise)

    def _remove_old_snapshots(self) -> None:
        """Only those below the newest that is known now: one that was received may be on the disk and not yet here."""
        newest, kept = name_of(self._snapshot_index), self.sender.in_use

        def remove() -> None:
            for name in snapshot.names(self._disk):
                if name < newest and name not in kept:
                    self._disk.remove(name)

        self._snapshot_worker.submit(remove, _raise)

    def _install(self, member: int, head: SnapshotHead, state: State) -> None:
        """A leader's snapshot is on this disk: take its state, unless this one is newer already."""
        if head.index > self.core.applied:
            self.writer.abandon()
            self.journal.align(head.index, head.term, head.members)
            self.core.install(head.index)
            self.state = state
            self._snapshot_index, self._snapshot_size = head.index, self._disk.size(name_of(head.index))
            self._attempted_index, self._bytes_applied = head.index, 0
            self.history.reset(head.index)
            self.archive.skip(head.index)
            self.news.append(Reset(head.index))
            self._configure()
            self._forget_log(head.index)
            self._remove_old_snapshots()
            self._resolve_from_answers()
        if member == self.core.leader:
            index = min(self.journal.commit, self.journal.durable)
            answer = {"next_node_idx": index + 1, "success": True, "reset": False, "term": self.core.term, "round": 0}
            self._post(member, {"type": "next_node_idx", **answer})

    def _resolve_from_answers(self) -> None:
        for identity in list(self.proposals.waiting):
            outcome = self.state.answer(identity)
            if outcome is not None:
                self.proposals.applied(identity, outcome)


def _raise(failure: BaseException | None) -> None:
    if failure is not None:
        raise failure
