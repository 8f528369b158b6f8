"""The log of this member in memory, as pysyncobj reads it: entries, term, vote, members, and what of it is durable.

Owns what the next sync must write (a Batch); refuses to touch a disk, which is the segments' work."""

from dataclasses import dataclass
from typing import overload

import msgspec

from lxdnode.raft.entry import NO_OP, Members, members_of
from lxdnode.raft.framing import Damaged, frame

FORMAT = 1
SEGMENT_LIMIT = 8 * 1024 * 1024
LogEntry = tuple[bytes, int, int]  # command, index, term: pysyncobj's order


class Diverged(Exception):
    """A committed entry was about to be cut: two members hold different histories. Nothing was changed."""


class Identity(msgspec.Struct, frozen=True):
    """Whose log this is. A stream or a file of another cluster or epoch is refused."""

    cluster: str
    epoch: int
    member: int


class Head(msgspec.Struct, frozen=True):
    """How a segment begins: what is true at a committed index, so that the segments before it can go.

    The entries behind that index are repeated in the same record: a later cut never reaches below the segment.
    """

    identity: Identity
    index: int
    index_term: int
    members: Members
    term: int
    vote: int | None
    format: int = FORMAT


class Reset(msgspec.Struct, frozen=True):
    """The log begins anew behind an installed snapshot."""

    index: int
    index_term: int
    members: Members


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one sync makes durable: a head or a reset first, then cuts and entries in the order in which they came.

    A change is an entry, or an int n: the log was cut from index n on. `commit` is a hint, known to be committed.
    """

    commit: int
    head: Head | None = None
    reset: Reset | None = None
    vote: tuple[int, int | None] | None = None
    changes: list[int | LogEntry] = []


@dataclass(frozen=True, slots=True)
class Batch:
    """A framed record on its way to the disk; with `begins` it is the first of a new segment, after that index."""

    data: bytes
    begins: int | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    return frame(_encoder.encode(record))


def decode(payload: bytes) -> Record:
    return _decoder.decode(payload)


class Journal:
    """`self[0]` is the base (index and term before the first entry, without a command), behind it stand the entries."""

    def __init__(self, head: Head, segment_limit: int = SEGMENT_LIMIT) -> None:
        self.identity = head.identity
        self._segment_limit = segment_limit
        self.segment_size = 0
        self.term = head.term
        self.vote = head.vote
        self.commit = head.index
        self._commit_taken = head.index
        self._restart(head.index, head.index_term, head.members)
        self._vote_changes = self._votes_durable = self._votes_taken = 0
        self._reset: Reset | None = None
        self._changes: list[int | LogEntry] = []

    def _restart(self, index: int, term: int, members: Members) -> None:
        self._log: list[LogEntry] = [(NO_OP, index, term)]
        self._members: list[tuple[int, Members]] = [(index, members)]
        self.durable = self._taken = index

    # What pysyncobj calls; positions count from the base.

    @overload
    def __getitem__(self, position: int) -> LogEntry: ...
    @overload
    def __getitem__(self, position: slice) -> list[LogEntry]: ...
    def __getitem__(self, position: int | slice) -> LogEntry | list[LogEntry]:
        return self._log[position]

    def __len__(self) -> int:
        return len(self._log)

    def add(self, command: bytes, idx: int, term: int) -> None:
        if idx != self.last + 1:
            raise Diverged(f"entry {idx} does not follow {self.last}")
        self._log.append((command, idx, term))
        self._changes.append((command, idx, term))
        members = members_of(command)
        if members is not None:
            self._members.append((idx, members))

    def deleteEntriesFrom(self, position: int) -> None:
        self.cut(self.base + position)

    def setCurrentTerm(self, term: int, vote: int | None) -> None:
        if (term, vote) != (self.term, self.vote):
            self.term, self.vote = term, vote
            self._vote_changes += 1

    def getCurrentTerm(self) -> int:
        return self.term

    def getVotedForNodeId(self) -> int | None:
        return self.vote

    def getRaftCommitIndex(self) -> int:
        return self.commit

    def setRaftCommitIndex(self, index: int) -> None:
        """Not believed: the library counts this member's entries before they are durable. The core sets `commit`."""

    def onOneSecondTimer(self) -> None:
        """Nothing is done by the clock here."""

    # What the rest of raft/ calls; indexes.

    @property
    def base(self) -> int:
        """The index before the first entry that is kept."""
        return self._log[0][1]

    @property
    def last(self) -> int:
        return self._log[-1][1]

    @property
    def last_term(self) -> int:
        return self._log[-1][2]

    @property
    def members(self) -> Members:
        """The newest configuration in the log, committed or not: in force from its append on (Raft, section 6)."""
        return self._members[-1][1]

    @property
    def members_index(self) -> int:
        """The index of the entry that made `members`."""
        return self._members[-1][0]

    def members_at(self, index: int) -> Members:
        return next(members for since, members in reversed(self._members) if since <= index)

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, or of the base; None when the log does not reach there."""
        position = index - self.base
        return self._log[position][2] if 0 <= position < len(self._log) else None

    def entries(self, start: int, end: int) -> list[LogEntry]:
        """The entries from index `start` to `end`, both included."""
        return self._log[start - self.base : end - self.base + 1] if start <= end else []

    def cut(self, index: int) -> None:
        """Drop the entries from `index` on: they contradict the leader's."""
        if index <= self.commit:
            raise Diverged(f"entry {index} is committed (up to {self.commit}) and contradicts the leader's log")
        del self._log[index - self.base :]
        while self._members[-1][0] >= index:
            self._members.pop()
        self._changes.append(index)
        self.durable = min(self.durable, index - 1)
        self._taken = min(self._taken, index - 1)

    def forget(self, index: int) -> None:
        """Drop the entries up to `index` from memory: a snapshot holds what they did."""
        position = index - self.base
        if position <= 0:
            return
        self._log[: position + 1] = [(NO_OP, index, self._log[position][2])]
        kept = self.members_at(index)
        self._members = [(index, kept), *(change for change in self._members if change[0] > index)]

    def align(self, index: int, term: int, members: Members) -> None:
        """Make the log continue the durable snapshot at `index`: kept when it holds that entry, else begun anew."""
        if self.base > index:
            raise Damaged(
                f"the journal begins behind index {self.base}, the newest snapshot is at {index}: what lies between is "
                "missing. Remove this member from the cluster and join again, or restore a backup"
            )
        if self.term_at(index) != term:
            self._restart(index, term, members)
            self._reset, self._changes = Reset(index, term, members), []
        self.commit = max(self.commit, index)

    # What the disk is told, and what it has told.

    @property
    def settled(self) -> bool:
        """Whether term and vote are durable. Until then no message may leave."""
        return self._votes_durable == self._vote_changes

    @property
    def pending(self) -> bool:
        return bool(self._changes or self._reset or self._votes_taken != self._vote_changes)

    @property
    def commit_pending(self) -> bool:
        """Whether the commit index moved since the last batch: worth one of its own only when nothing else comes."""
        return self.commit > self._commit_taken

    def take(self) -> Batch:
        """All that is not yet on its way to the disk; `complete()` must follow before the next."""
        if self.segment_size >= self._segment_limit:
            batch = self._begin_segment()
        else:
            voted = (self.term, self.vote) if self._votes_taken != self._vote_changes else None
            batch = Batch(encode(Record(self.commit, reset=self._reset, vote=voted, changes=self._changes)))
        self.segment_size += len(batch.data)
        self._reset, self._changes = None, []
        self._taken, self._votes_taken, self._commit_taken = self.last, self._vote_changes, self.commit
        return batch

    def _begin_segment(self) -> Batch:
        """All that is known behind what is both committed and in the segments before; what was pending is in it.

        The base may be above that, when the disk is slow: then a snapshot holds what lies between.
        """
        index = max(self.base, min(self.commit, self._taken))
        term = self.term_at(index)
        assert term is not None
        head = Head(self.identity, index, term, self.members_at(index), self.term, self.vote)
        changes: list[int | LogEntry] = [*self.entries(index + 1, self.last)]
        self.segment_size = 0
        return Batch(encode(Record(self.commit, head=head, changes=changes)), begins=index)

    def complete(self) -> None:
        """The batch taken last is durable."""
        self.durable = max(self.durable, self._taken)
        self._votes_durable = self._votes_taken

    def replay(self, record: Record) -> None:
        """Do again what a durable record says."""
        if record.head is not None:
            self._replay_head(record.head)
        if record.reset is not None:
            self.commit = record.reset.index
            self._restart(record.reset.index, record.reset.index_term, record.reset.members)
        for change in record.changes:
            if isinstance(change, int):
                self.cut(change)
            else:
                self.add(*change)
        if record.vote is not None:
            self.term, self.vote = record.vote
        self.commit = max(self.commit, min(record.commit, self.last))
        self._changes = []
        self.durable = self._taken = self.last
        self._commit_taken = self.commit

    def _replay_head(self, head: Head) -> None:
        if self.term_at(head.index) != head.index_term:  # a snapshot was installed since the segment before
            self._restart(head.index, head.index_term, head.members)
            self.commit = head.index
        elif head.index < self.last:
            self.cut(head.index + 1)
        self.commit = max(self.commit, head.index)
        self.term, self.vote = head.term, head.vote
