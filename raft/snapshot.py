"""The state on the disk: written in slices from a reference taken in a step, read and verified as a whole.

Owns the file's format, which data directories keep for ever, and when one is due; refuses to cut the journal."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec
from immutables import Map

from lxdnode.raft.answers import AnswerRow, Answers
from lxdnode.raft.disk import Disk
from lxdnode.raft.entry import Members
from lxdnode.raft.framing import Damaged, NewerFormat, frame, payloads
from lxdnode.raft.journal import FORMAT, Identity
from lxdnode.raft.state import Document, Group, State
from lxdnode.raft.transaction import LEVEL
from lxdnode.raft.worker import Worker

SLICE = 500  # documents or answers
UNFINISHED = "snapshot.new"
RECEIVED = "snapshot.part"
_PREFIX = "snapshot-"


class SnapshotHead(msgspec.Struct, frozen=True):
    """What the file is: the state after the entry `index` of `term`, with the configuration in force there."""

    identity: Identity  # of the member that wrote it
    index: int
    term: int
    members: Members
    level: int
    format: int = FORMAT


GroupRow = tuple[str, str, int, list[tuple[str, bytes, int]]]  # table, group, revision, documents


class Slice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One frame of the file. A large group comes in several rows; `slices` stands in the last frame: how many came."""

    head: SnapshotHead | None = None
    groups: list[GroupRow] = []
    answers: list[AnswerRow] = []
    slices: int | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Slice)


def name_of(index: int) -> str:
    return f"{_PREFIX}{index:016d}"


def names(disk: Disk) -> list[str]:
    return [name for name in disk.names() if name.startswith(_PREFIX)]


def newest(disk: Disk) -> str | None:
    return max(names(disk), default=None)


def remove_others(disk: Disk, kept: str) -> None:
    for name in disk.names():
        if name.startswith("snapshot") and name != kept:
            disk.remove(name)


def encode(head: SnapshotHead, state: State) -> Iterator[bytes]:
    """The file, a frame at a time, or nothing of it: each is a millisecond's work."""
    count = 0
    yield frame(_encoder.encode(Slice(head=head)))
    for part in _slices(state):
        if part is not None:
            count += 1
        yield frame(_encoder.encode(part)) if part is not None else b""
    yield frame(_encoder.encode(Slice(slices=count)))


def _slices(state: State) -> Iterator[Slice | None]:
    rows: list[GroupRow] = []
    held = 0
    for row in _group_rows(state):
        rows.append(row)
        held += len(row[3]) + 1
        if held >= SLICE:
            yield Slice(groups=rows)
            rows, held = [], 0
    if rows:
        yield Slice(groups=rows)
    yield from _answer_slices(state)


def _group_rows(state: State) -> Iterator[GroupRow]:
    for table, groups in state.tables.items():
        for name, group in groups.items():
            documents = iter(group.documents.items())
            while part := [(key, found.value, found.revision) for key, found in islice(documents, SLICE)]:
                yield table, name, group.revision, part
            if not group.documents:
                yield table, name, group.revision, []


def _answer_slices(state: State) -> Iterator[Slice | None]:
    rows: list[AnswerRow] = []
    held = 0
    for row in state.answers.rows(state.first_answered, state.index):
        if row is None:
            yield None
            continue
        rows.append(row)
        held += len(row[1])
        if held >= SLICE:
            yield Slice(answers=rows)
            rows, held = [], 0
    if rows:
        yield Slice(answers=rows)


def decode(data: bytes, name: str) -> tuple[SnapshotHead, State]:
    """The whole file, verified; raises Damaged."""
    end, parts = 0, []
    for offset, payload in payloads(data):
        end = offset
        parts.append(_decoder.decode(payload))
    if end != len(data) or len(parts) < 2 or parts[0].head is None or parts[-1].slices != len(parts) - 2:
        raise Damaged(
            f"{name} is damaged at byte {end} of {len(data)}: this member cannot start on it. Remove it from the "
            "cluster and join again; when no other member is left, restore a backup"
        )
    head = parts[0].head
    if head.level > LEVEL or head.format > FORMAT:
        raise NewerFormat(
            f"{name} needs level {head.level}, this version of lxd-node knows {LEVEL}: install a newer one", head.level
        )
    return head, _assemble(head, parts[1:-1])


def _assemble(head: SnapshotHead, parts: list[Slice]) -> State:
    groups: dict[tuple[str, str], tuple[int, dict[str, Document]]] = {}
    for part in parts:
        for table, group, revision, documents in part.groups:
            _, held = groups.setdefault((table, group), (revision, {}))
            held.update((name, Document(value, written)) for name, value, written in documents)
    tables: dict[str, dict[str, Group]] = {}
    for (table, group), (revision, held) in groups.items():
        tables.setdefault(table, {})[group] = Group(Map(held), revision)
    persistent: Map[str, Map[str, Group]] = Map({table: Map(rows) for table, rows in tables.items()})
    return State(head.index, head.level, persistent, Answers.of(row for part in parts for row in part.answers))


@dataclass(slots=True, eq=False)
class _Running:
    head: SnapshotHead
    frames: Iterator[bytes]


class Writer:
    """Writes one snapshot at a time: a slice is encoded in the loop; the worker appends, syncs and renames.

    What fails (a full disk) is dropped and tried again when the next one is due: the journal holds everything still.
    """

    def __init__(self, disk: Disk, worker: Worker, done: Callable[[SnapshotHead], None]) -> None:
        self._disk = disk
        self._worker = worker
        self._done = done
        self._running: _Running | None = None
        self.failure: OSError | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None

    def start(self, head: SnapshotHead, state: State) -> None:
        running = self._running = _Running(head, encode(head, state))
        self._submit(running, lambda: self._disk.remove(UNFINISHED), self._proceed)

    def abandon(self) -> None:
        """A newer state was installed: what is being written is not wanted any more."""
        self._running = None

    def _submit(self, running: _Running, job: Callable[[], None], then: Callable[[_Running], None]) -> None:
        def done(failure: BaseException | None) -> None:
            if running is not self._running:
                return
            if isinstance(failure, OSError):
                self._running, self.failure = None, failure
                self._worker.submit(lambda: self._disk.remove(UNFINISHED), _ignore)  # it may have filled the disk
            elif failure is not None:
                raise failure
            else:
                then(running)

        self._worker.submit(job, done)

    def _proceed(self, running: _Running) -> None:
        data = next(running.frames, None)
        if data is not None:
            self._submit(running, lambda: self._disk.append(UNFINISHED, data), self._proceed)
        else:
            name = name_of(running.head.index)
            self._submit(running, lambda: self._disk.publish(UNFINISHED, name), self._finish)

    def _finish(self, running: _Running) -> None:
        self._running, self.failure = None, None
        self._done(running.head)


def _ignore(failure: BaseException | None) -> None:
    """What cannot be removed now is removed before the next one is begun."""
