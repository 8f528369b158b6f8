"""pysyncobj's Raft as a thin subclass: election, commit rule, check-quorum and log indexing are the library's.

The only place with its private names (version 0.3.17 exactly). Apply and sends are ours; its threads, clock, poller,
pickle, snapshots, callbacks and forwarding are never reached."""

import _socket
import random
import socket
from collections import deque
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, NoReturn

from pysyncobj import syncobj
from pysyncobj.config import SERIALIZER_STATE, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from lxdnode.raft.entry import Members
from lxdnode.raft.journal import Journal, LogEntry

# Importing pysyncobj puts a function for Windows in the place of socket.inet_ntop, on every system: whoever reads
# addresses in this process (netlink) would break.
socket.inet_ntop = _socket.inet_ntop

HEARTBEAT = 0.1
ELECTION_MIN, ELECTION_MAX = 0.7, 1.2

MESSAGE_BYTES = 256 * 1024  # of entries in one append; a single entry may be larger
APPLY_BYTES = 64 * 1024  # of entries applied in one step: some 2 ms
FLIGHT_BYTES = 2 * 1024 * 1024  # of entries sent to one follower and not yet answered

Message = dict[str, Any]

node_of = cache(Node)  # one object a member: the library's tables find the same object without comparing ids


class _NoPickle:
    """Stands where the library finds its pickle: nothing of ours may ever get there."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"pysyncobj tried to use pickle.{name}")


class _Clock:
    """The library's clock stands still during a step: every core is told the time when its step begins."""

    now = 0.0


# The seams of the library are names of its module (stack.md A.1).
syncobj.pickle = _NoPickle()
syncobj.monotonicTime = lambda: _Clock.now
syncobj.createJournal = lambda journal: journal
syncobj.createPoller = lambda kind: _NullPoller()
syncobj.PIPE_NOTIFIER_ENABLED = False


class _NullPoller:
    def poll(self, timeout: float) -> None:
        """Sockets are the transport's."""


class _NullSerializer:
    """Snapshots are ours: the library asks at each tick whether one is being written, and is told no."""

    def checkSerializing(self) -> tuple[int, None]:
        return SERIALIZER_STATE.NOT_SERIALIZING, None


class _Outlet(Transport):  # type: ignore[misc]
    """What the library sends goes to the guard."""

    def __init__(self, send: Callable[[int, Message], None]) -> None:
        super().__init__(None, None, None)
        self._send = send

    def send(self, node: Node, message: Message) -> bool:
        self._send(node.id, message)
        return True


def _configuration(journal: Journal) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        journalFile=journal,
        raftMinTimeout=ELECTION_MIN,
        raftMaxTimeout=ELECTION_MAX,
        appendEntriesPeriod=HEARTBEAT,
        leaderFallbackTimeout=ELECTION_MAX,
        appendEntriesUseBatch=True,
        commandsWaitLeader=False,
        logCompactionMinEntries=2**62,
        logCompactionMinTime=2**62,
    )


class Core(syncobj.SyncObj):  # type: ignore[misc]
    """One member's Raft. `send` gets what it wants to send, `apply` the committed entries in order.

    `apply(index, command)` gives False for an entry that cannot be applied here; it is offered again at each tick.
    """

    def __init__(
        self,
        journal: Journal,
        applied: int,
        now: float,
        randomness: random.Random,
        send: Callable[[int, Message], None],
        apply: Callable[[int, bytes], bool],
        off: Collection[str] = (),
    ) -> None:
        self._journal = journal
        self._randomness = randomness
        self._apply_entry = apply
        self._off = off
        self._send_message = send
        self._flight: dict[int, deque[tuple[int, int]]] = {}
        self._told: dict[int, tuple[int, int]] = {}
        self._led = False  # when this tick began
        self.behind: set[int] = set()
        self.round = 0
        _Clock.now = now
        super().__init__(node_of(journal.identity.member), [], _configuration(journal), transport=_Outlet(send))
        self._SyncObj__serializer = _NullSerializer()
        self._SyncObj__raftLastApplied = applied
        self._SyncObj__raftCommitIndex = journal.commit
        self.configure(journal.members)

    # What the driver asks.

    @property
    def is_leader(self) -> bool:
        return bool(self._isLeader())

    @property
    def leader(self) -> int | None:
        """The member that is known to lead the current term."""
        node = self._getLeader()
        return node.id if node is not None else None

    @property
    def term(self) -> int:
        return int(self.raftCurrentTerm)

    @property
    def applied(self) -> int:
        return int(self.raftLastApplied)

    @property
    def commit(self) -> int:
        return int(self.raftCommitIndex)

    @property
    def established(self) -> bool:
        """Whether this leader has committed an entry of its own term: only then does it know what is committed."""
        return self.is_leader and self._journal.term_at(self.commit) == self.term

    @property
    def alone(self) -> bool:
        """Whether nobody else votes."""
        return not self._SyncObj__otherNodes

    def match(self, member: int) -> int:
        """The last index known to be durable at a member, as leader."""
        return int(self._SyncObj__raftMatchIndex.get(node_of(member), 0))

    def next_of(self, member: int) -> int:
        return int(self._SyncObj__raftNextIndex.get(node_of(member), 0))

    def heartbeat_at(self) -> float:
        return float(self._SyncObj__newAppendEntriesTime)

    def election_at(self) -> float:
        return float(self._SyncObj__raftElectionDeadline)

    # What the driver tells.

    def tick(self, now: float) -> None:
        """Time has come to `now`: campaign, commit, apply, fall back, send heartbeats, whatever is due."""
        _Clock.now = now
        led = self._led = self.is_leader
        self.doTick(0)
        if led and not self.is_leader:
            self.postpone_election(now)  # else its deadline is from long ago and it campaigns at once

    def receive(self, now: float, member: int, message: Message) -> None:
        """A message that the guard let through."""
        _Clock.now = now
        self._SyncObj__onMessageReceived(node_of(member), message)

    def propose(self, command: bytes) -> None:
        """As leader: append an entry."""
        self._applyCommand(command, None)
        self._checkCommandsToApply()

    def adopt_term(self, term: int) -> None:
        """Become a follower of a newer term without a vote in it: a request by a log that is behind every other."""
        request = {"type": "request_vote", "term": term, "last_log_term": -1, "last_log_index": 0}
        self._SyncObj__onMessageReceived(node_of(0), request)

    def resign(self) -> None:
        """Stop leading this term: this member lost its vote."""
        self._SyncObj__setState(0)
        self._SyncObj__raftLeader = None

    def campaign(self) -> None:
        """Let the next tick stand for election."""
        self._SyncObj__raftElectionDeadline = -1.0

    def postpone_election(self, now: float) -> None:
        self._SyncObj__raftElectionDeadline = now + self._SyncObj__generateRaftTimeout()

    def forgive(self, delay: float) -> None:
        """The step comes late by `delay`: nobody is blamed for what may lie unread in the sockets."""
        self._SyncObj__raftElectionDeadline += delay
        for node in self._SyncObj__lastResponseTime:
            self._SyncObj__lastResponseTime[node] += delay

    def connect(self, member: int, *, up: bool) -> None:
        """A link came or went. What was in flight on the old one is sent again."""
        node = node_of(member)
        nodes: set[Node] = self._SyncObj__connectedNodes
        (nodes.add if up else nodes.discard)(node)
        self._flight.pop(member, None)
        self._told.pop(member, None)
        if self.match(member):
            self._SyncObj__raftNextIndex[node] = self.match(member) + 1

    def configure(self, members: Members) -> None:
        """These are the members from now on; only `voters` count, the others receive the log."""
        own = self._journal.identity.member
        voters = {node_of(member) for member in members.voters if member != own}
        learners = {node_of(member) for member in members.learners if member != own}
        known: set[Node] = self.otherNodes | self.readonlyNodes
        for node in (voters | learners) - known:
            self._SyncObj__raftNextIndex[node] = self._journal.last + 1
            self._SyncObj__raftMatchIndex[node] = 0
            self._SyncObj__lastResponseTime[node] = _Clock.now
        for node in known - (voters | learners):
            for table in ("NextIndex", "MatchIndex"):
                getattr(self, f"_SyncObj__raft{table}").pop(node, None)
            self._SyncObj__lastResponseTime.pop(node, None)
            self._flight.pop(node.id, None)
            self.behind.discard(node.id)
        self._SyncObj__otherNodes = voters
        self._SyncObj__readonlyNodes = learners

    def install(self, index: int) -> None:
        """The state is now a snapshot's at `index`; the journal was aligned with it."""
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = max(self.commit, index)

    def take_back(self, member: int, index: int) -> None:
        """As leader: a learner has no more than the entries up to `index`."""
        node = node_of(member)
        self._SyncObj__raftMatchIndex[node] = min(self.match(member), index)

    def set_next(self, member: int, index: int) -> None:
        """As leader: go on sending at `index`; nothing sent before counts as in flight."""
        self._SyncObj__raftNextIndex[node_of(member)] = index
        self._flight.pop(member, None)

    def set_next_ahead(self, member: int, index: int) -> None:
        """As leader: go on sending at `index`; what was sent stays in flight."""
        self._SyncObj__raftNextIndex[node_of(member)] = index

    def landed(self, member: int) -> None:
        """As leader: forget what is in flight up to what the member has answered."""
        flight = self._flight.get(member)
        while flight and flight[0][0] <= self.match(member):
            flight.popleft()

    # What is overridden.

    def _SyncObj__generateRaftTimeout(self) -> float:
        return self._randomness.uniform(ELECTION_MIN, ELECTION_MAX)

    def _SyncObj__applyLogEntries(self) -> bool:
        self._SyncObj__raftCommitIndex = self._journal.commit = max(self._journal.commit, self._committed())
        size = 0
        for command, index, _ in self._journal.entries(self.applied + 1, min(self.commit, self.applied + 256)):
            size += len(command)
            if not self._apply_entry(index, command):
                break
            self._SyncObj__raftLastApplied = index
            if size >= APPLY_BYTES:
                break  # the rest comes in the next steps: who catches up stays responsive
        return False

    def _committed(self) -> int:
        """The library counts a leader's own entries as they are appended; they count only when they are durable.

        Also in the tick in which it stops leading: it may have counted before it fell back.
        """
        if not (self.is_leader or self._led) or "own_entries_are_durable" in self._off:
            return self.commit
        others = sorted((self.match(node.id) for node in self._SyncObj__otherNodes), reverse=True)
        quorum = (len(others) + 1) // 2 + 1
        without_own = others[quorum - 1] if len(others) >= quorum else 0
        return min(self.commit, max(self._journal.durable, without_own))

    def _SyncObj__sendAppendEntries(self) -> None:
        """The heartbeat: everybody gets a message."""
        self._SyncObj__newAppendEntriesTime = _Clock.now + HEARTBEAT
        self._send_appends(everybody=True)

    def send_appends(self, *, patient: bool) -> None:
        """As leader: tell those who do not know it yet of new entries, read round or commit index; when `patient`, not
        of a commit index alone."""
        self._send_appends(everybody=False, patient=patient)

    def _send_appends(self, *, everybody: bool, patient: bool = False) -> None:
        news = (self.commit, self.round)
        for node in self._SyncObj__otherNodes | self._SyncObj__readonlyNodes:
            if node not in self._SyncObj__connectedNodes:
                continue
            told = self._told.get(node.id)
            asks = everybody or told is None or told[1] != self.round
            sent = self._send_entries(node.id, asks)
            if patient and not sent and not asks:
                continue
            if not sent and (everybody or told != news):
                self._send_append(node.id, [], asks)
            self._told[node.id] = news

    def _send_entries(self, member: int, asks: bool) -> bool:
        flight = self._flight.setdefault(member, deque())
        sent = False
        while self._journal.base < self.next_of(member) <= self._journal.last:
            if sum(size for _, size in flight) >= FLIGHT_BYTES:
                break
            entries, size = self._batch(self.next_of(member))
            self._send_append(member, entries, asks)
            flight.append((entries[-1][1], size))
            self._SyncObj__raftNextIndex[node_of(member)] = entries[-1][1] + 1
            sent = True
        return sent

    def _batch(self, start: int) -> tuple[list[LogEntry], int]:
        entries: list[LogEntry] = []
        size = 0
        for entry in self._journal.entries(start, start + 255):
            if entries and size + len(entry[0]) > MESSAGE_BYTES:
                break
            entries.append(entry)
            size += len(entry[0])
        return entries, size

    def _send_append(self, member: int, entries: list[LogEntry], asks: bool) -> None:
        """Without `asks`, an answer is wanted only when more is durable than was answered before."""
        message: Message = {"type": "append_entries", "term": self.term, "commit_index": self.commit, "asks": asks}
        previous = self.next_of(member) - 1
        if previous >= self._journal.base:
            term = self._journal.term_at(previous)
            message |= {"entries": entries, "prevLogIdx": previous, "prevLogTerm": term}
            self.behind.discard(member)
        else:  # it needs a snapshot; this keeps it from standing for election meanwhile
            self.behind.add(member)
        self._send_message(member, message)
