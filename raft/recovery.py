"""The store apart from its cluster: read and verified where it lies, and carried over into a new epoch.

Owns what can be made of one member's files when no majority is left to agree; refuses to decide which survivor is the
best, and what the members of the new epoch are (the node does, by `Position` and a transaction)."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec

from lxdnode.raft import archive, entry, machine, segments, snapshot
from lxdnode.raft.archive import Archived, Chunk
from lxdnode.raft.disk import Directory, Disk
from lxdnode.raft.entry import Members
from lxdnode.raft.framing import Damaged, NewerFormat
from lxdnode.raft.journal import Head, Identity, Journal
from lxdnode.raft.machine import Applied
from lxdnode.raft.snapshot import UNFINISHED, SnapshotHead, name_of
from lxdnode.raft.state import State
from lxdnode.raft.transaction import LEVEL, Transaction, encode


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """How much of the log a member holds: of two, the greater one lacks nothing that the other has (Raft, 5.4.1)."""

    term: int
    index: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds: the state after all of its entries, of which those above `commit` may never have been
    acknowledged to anybody. How it came to be is told by the history on `disk`, and behind it by `tail`, which only the
    journal has; a backup has neither."""

    identity: Identity
    position: Position
    commit: int
    state: State
    disk: Disk | None = None
    tail: tuple[Chunk, ...] = ()


class _Reader:
    """A directory that is only read. The torn end of a journal is passed over, and stays as it is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return [found.name for found in self._path.iterdir()]

    def size(self, name: str) -> int:
        return (self._path / name).stat().st_size

    def read(self, name: str, offset: int = 0, size: int = -1) -> bytes:
        with (self._path / name).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def truncate(self, name: str, size: int) -> None:
        """Left as it is."""

    def remove(self, name: str) -> None:
        """Left as it is."""

    def append(self, name: str, data: bytes) -> None:
        raise PermissionError(f"{name} is only read")

    def sync(self, name: str) -> None:
        raise PermissionError(f"{name} is only read")

    def publish(self, name: str, target: str) -> None:
        raise PermissionError(f"{name} is only read")

    def close(self) -> None:
        """Nothing is held."""


def read(directory: Path) -> Contents:
    """What the store in `directory` holds, every checksum verified. It may be in use: then what is durable is read.

    FileNotFoundError when there is none, Damaged with words that say how to go on."""
    disk = _Reader(directory)
    journal, _files = segments.load(disk)
    state = State(index=journal.base)
    if (name := snapshot.newest(disk)) is not None:
        head, state = snapshot.decode(disk.read(name), name)
        journal.align(head.index, head.term, head.members)
    known = max((chunk.index for chunk in next(archive.backwards(disk), [])), default=0)
    after, at, told = max(known, state.index), 0.0, list[Archived]()
    for command, applied in _replay(journal, state):
        state, at = applied.state, max(at, applied.at)
        if applied.replaced and state.index > known:
            told.append(Archived(state.index, command, applied.replaced))
    position = Position(journal.last_term, journal.last)
    tail = (Chunk(after, state.index, at, tuple(told)),) if state.index > after else ()
    return Contents(journal.identity, position, journal.commit, state, disk, tail)


def _replay(journal: Journal, state: State) -> Iterator[tuple[bytes, Applied]]:
    """Each entry behind a state, and what it did."""
    for command, index, _term in journal.entries(state.index + 1, journal.last):
        if entry.level_of(command) > LEVEL:
            needed = entry.level_of(command)
            raise NewerFormat(f"entry {index} needs level {needed}, this version knows {LEVEL}", needed)
        applied = machine.apply(state, index, entry.unpack(command).transactions)
        state = applied.state
        yield command, applied


def read_backup(data: bytes) -> Contents:
    """What a backup holds, verified. Damaged when it is none, or not whole."""
    try:
        head, state = snapshot.decode(data, "the backup")
    except msgspec.DecodeError as error:
        raise Damaged(f"this is no backup of a store: {error}") from error
    return Contents(head.identity, Position(head.term, head.index), head.index, state)


def back_up(identity: Identity, journal: Journal, state: State) -> Iterator[bytes]:
    """The state as a file that `read_backup` reads, a frame at a time: each is a millisecond's work."""
    term = journal.term_at(state.index)
    assert term is not None, "the journal reaches back to what was applied"
    return snapshot.encode(
        SnapshotHead(identity, state.index, term, journal.members_at(state.index), state.level), state
    )


def renew(target: Path, contents: Contents, epoch: int, change: Transaction) -> None:
    """Begins a log in `target` whose only voter is the member of `contents.identity`: the state, and on it `change`,
    which says so in the documents. Whoever is of an older epoch is refused by its streams.

    ValueError when the state is not as `change` expects."""
    index = contents.state.index + 1
    applied = machine.apply(contents.state, index, [change])
    if not applied.keys:
        raise ValueError(f"the change of epoch is refused: {applied.outcomes[0]}")
    identity = Identity(contents.identity.cluster, epoch, contents.identity.member)
    term, members = contents.position.term + 1, Members((identity.member,))
    disk = Directory(target)
    try:
        for frame in snapshot.encode(SnapshotHead(identity, index, term, members, applied.state.level), applied.state):
            disk.append(UNFINISHED, frame)
        disk.publish(UNFINISHED, name_of(index))
        _write_history(disk, contents, Chunk(index - 1, index, change.at, (_archived(index, change, applied),)))
        segments.Segments.create(disk, Head(identity, index, term, members, term, None))
    finally:
        disk.close()


def _archived(index: int, change: Transaction, applied: Applied) -> Archived:
    return Archived(index, entry.pack([encode(change)], change.level), applied.replaced)


def _write_history(disk: Disk, contents: Contents, last: Chunk) -> None:
    """The history of the store before, and the change that ended it."""
    files = archive.Files(disk)
    before = archive.forwards(contents.disk, 0) if contents.disk else iter(())
    for chunks in chain(before, [[*contents.tail, last]]):
        files.write(deque(chunks), sync=True)
