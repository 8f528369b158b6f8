"""The history on the disk: every entry as it was in the log, with what each of its writes replaced.

Owns its files, which nobody waits for: what a crash takes of them is written again as the journal is replayed. A
hole (a snapshot was installed, the disk was full) shows as a chunk that does not begin where the one before ends."""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from lxdnode.raft import entry
from lxdnode.raft.disk import Disk
from lxdnode.raft.framing import frame, payloads
from lxdnode.raft.history import Change
from lxdnode.raft.machine import Replaced
from lxdnode.raft.transaction import Transaction
from lxdnode.raft.worker import Worker

SEGMENT_LIMIT = 4 * 1024 * 1024
TOTAL_LIMIT = 256 * 1024 * 1024
SEGMENT_SECONDS = 24 * 3600.0  # a segment is removed as a whole: so much is kept beyond the age that was asked for
CHUNK_BYTES = 256 * 1024
CHUNK_SECONDS = 1.0  # what is younger is in memory only
BACKLOG_BYTES = 8 * 1024 * 1024  # what a disk that does not take it may leave in memory
BEGINNING = 1  # the index of every log's first entry, which holds nothing

_PREFIX = "history-"
_UNFINISHED = "history.new"


class Archived(msgspec.Struct, frozen=True):
    """An entry (`command` is as in the journal) that changed something."""

    index: int
    command: bytes
    replaced: tuple[Replaced, ...]

    def transactions(self) -> Iterator[tuple[Transaction, tuple[bytes | None, ...]]]:
        """Those that were carried out, each with what its writes replaced."""
        transactions = entry.unpack(self.command).transactions
        for place, before in self.replaced:
            yield transactions[place], before

    def change(self) -> Change:
        """The entry as watchers saw it."""
        done = [transaction for transaction, _ in self.transactions()]
        keys = {(write.table, write.group, write.name): None for one in done for write in one.writes}
        events = tuple(event for one in done for event in one.events)
        return Change(self.index, tuple(keys), events, max(one.at for one in done))


class Chunk(msgspec.Struct, frozen=True):
    """One frame: all that was changed behind index `after`, up to `index`. `at`: the time (seconds since the epoch)
    of its last change, or of the last one before it."""

    after: int
    index: int
    at: float
    entries: tuple[Archived, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Chunk)


def encode(chunk: Chunk) -> bytes:
    return frame(_encoder.encode(chunk))


def decode(data: bytes) -> Iterator[Chunk]:
    """The chunks of some frames, up to the first that is not whole."""
    for _, payload in payloads(data):
        yield _decoder.decode(payload)


def clip(chunks: Iterable[Chunk], after: int, until: int) -> list[Chunk]:
    """What the chunks tell of the indexes behind `after` up to `until`."""
    return [
        Chunk(
            max(chunk.after, after),
            min(chunk.index, until),
            chunk.at,
            tuple(one for one in chunk.entries if after < one.index <= until),
        )
        for chunk in chunks
        if chunk.index > after and chunk.after < until
    ]


# Reading: also beside the daemon that writes, and in the files of one that is stopped.


def _names(disk: Disk) -> list[str]:
    return sorted(name for name in disk.names() if name.startswith(_PREFIX))


def _after(name: str) -> int:
    return int(name.split("-")[1])


def _began(name: str) -> float:
    return float(name.split("-")[2])


def _read(disk: Disk, name: str) -> bytes:
    try:
        return disk.read(name)
    except FileNotFoundError:
        return b""  # it was too old, and was removed since the directory was read


def forwards(disk: Disk, after: int) -> Iterator[list[Chunk]]:
    """What is known behind an index, a segment at a time, the oldest first."""
    for name, following in pairwise([*_names(disk), ""]):
        if following and _after(following) <= after:
            continue
        if found := [chunk for chunk in decode(_read(disk, name)) if chunk.index > after]:
            yield found


def backwards(disk: Disk) -> Iterator[list[Chunk]]:
    """All that is known, a segment at a time, the newest first."""
    for name in reversed(_names(disk)):
        yield list(decode(_read(disk, name)))


def gaps(disk: Disk, last: int) -> list[tuple[int, int]]:
    """Which parts of the log up to `last` are not known here: behind the first index of each pair, up to the second."""
    found, known = [], BEGINNING
    for chunks in forwards(disk, 0):
        for chunk in chunks:
            if chunk.after > known:
                found.append((known, chunk.after))
            known = max(known, chunk.index)
    return [*found, (known, last)] if last > known else found


class Files:
    """The segments, as the disk's thread writes them. The last is cut to what is whole in it when they are opened; one
    that cannot be read stays as it is (`unread` says why), and another is begun."""

    def __init__(self, disk: Disk, segment_limit: int = SEGMENT_LIMIT, total_limit: int = TOTAL_LIMIT) -> None:
        self._disk = disk
        self._segment_limit, self._total_limit = segment_limit, total_limit
        self._name = ""
        self._size = 0
        self.index = 0
        self.at = 0.0
        self.unread: OSError | None = None
        try:
            any(self._resume(name) for name in reversed(_names(self._disk)))
        except OSError as error:  # the history is not the truth: a member starts without it
            self.unread = error

    def _resume(self, name: str) -> bool:
        """Goes on with a segment. False, and it is removed, when nothing in it is whole."""
        data, end = self._disk.read(name), 0
        for offset, payload in payloads(data):
            end, chunk = offset, _decoder.decode(payload)
        if end == 0:
            self._disk.remove(name)
            return False
        if end < len(data):
            self._disk.truncate(name, end)
        self._name, self._size, self.index, self.at = name, end, chunk.index, chunk.at
        return True

    def write(self, chunks: deque[Chunk], *, sync: bool) -> None:
        """Append chunks, and take out of the queue what was written. OSError leaves whole chunks, and the rest."""
        while chunks:
            self._append(chunks[0])
            self.index, self.at = chunks[0].index, chunks[0].at
            chunks.popleft()
        if sync and self._name:
            self._disk.sync(self._name)

    def insert(self, chunks: Sequence[Chunk]) -> None:
        """Put chunks that follow each other, and lie before what was written last, in their place."""
        self._publish(chunks[0], b"".join(encode(chunk) for chunk in chunks))
        self._drop(0.0)

    def prune(self, before: float) -> None:
        """Remove the segments in which nothing is as young as `before`."""
        self._drop(before)
        if self._name and self.at < before:
            self._disk.remove(self._name)
            self._name = ""

    def shed(self) -> None:
        """Make room: the older half of the segments goes. The one that is written to stays."""
        names = _names(self._disk)
        for name in names[: len(names) // 2]:
            self._disk.remove(name)

    def _append(self, chunk: Chunk) -> None:
        data = encode(chunk)
        fits = chunk.after == self.index and self._size < self._segment_limit
        if self._name and fits and chunk.at < _began(self._name) + SEGMENT_SECONDS:
            try:
                self._disk.append(self._name, data)
            except OSError:
                self._disk.truncate(self._name, self._size)
                raise
            self._size += len(data)
            return
        if self._name:
            self._disk.sync(self._name)
        self._name, self._size = self._publish(chunk, data), len(data)
        self._drop(0.0)

    def _publish(self, first: Chunk, data: bytes) -> str:
        name = f"{_PREFIX}{first.after:016d}-{int(first.at):012d}"
        self._disk.remove(_UNFINISHED)
        self._disk.append(_UNFINISHED, data)
        self._disk.publish(_UNFINISHED, name)
        return name

    def _drop(self, before: float) -> None:
        """Remove the oldest segments: too many bytes, or followed by one that began before that time."""
        names = _names(self._disk)
        total = sum(self._disk.size(name) for name in names)
        young = next((at for at in range(len(names) - 1, 0, -1) if 0 < _began(names[at]) < before), 0)
        for at, name in enumerate(names[:-1]):
            if at >= young and total <= self._total_limit:
                return
            total -= self._disk.size(name)
            self._disk.remove(name)


class Archive:
    """What the driver tells of each entry, on its way to the files: a chunk when a second has passed or there is much.

    A failure stops nothing: it is tried again, and when too much has come together that is left out."""

    def __init__(self, disk: Disk, worker: Worker, index: int, limit: int, total: int) -> None:
        self._worker = worker
        self.files = Files(disk, limit, total)
        self.last = self._after = max(self.files.index, index)
        self.written = self.last
        self._at = self.files.at
        self._entries: list[Archived] = []
        self._chunks: deque[Chunk] = deque()
        self._handed: deque[Chunk] = deque()  # the thread's, which takes out what it has written
        self._bytes = 0
        self._wanted = False
        self._busy = 0  # jobs of the thread
        self.due = float("inf")
        self.failure: OSError | None = None

    def add(self, index: int, command: bytes, replaced: tuple[Replaced, ...], at: float) -> None:
        """The entry at `index` was applied. A replay of the journal tells what is known already."""
        if index <= self.last:
            return
        self.last = index
        if replaced:
            self._at = max(self._at, at)
            self._entries.append(Archived(index, command, replaced))
            before = sum(len(value) for _, values in replaced for value in values if value is not None)
            self._bytes += len(command) + before

    def skip(self, index: int) -> None:
        """A snapshot was installed: what led to it is not known here."""
        if index > self.last:
            self._close_chunk()
            self.last = self._after = index

    def want(self) -> None:
        """Let the next step write what there is."""
        self._wanted = True

    def step(self, now: float) -> None:
        """Hand over what is due. `due` is then when to come again."""
        if self.last == self._after and not self._chunks and not self._handed:
            self._wanted, self.due = False, float("inf")
            if not self._busy:
                self.written = self.last  # a hole counts as well: nobody may wait for what will never be written
            return
        self.due = min(self.due, now + CHUNK_SECONDS)
        much = self._bytes >= CHUNK_BYTES and self.failure is None
        if self._bytes > BACKLOG_BYTES:
            self._forget()
        elif not self._busy and (self._wanted or much or now >= self.due):
            self.write(sync=False)

    def write(self, *, sync: bool) -> None:
        """Hand all over to the thread, which does it before any later job, and what an earlier one could not do first:
        a hole is what lies between two chunks."""
        self._close_chunk()
        self._handed.extend(self._chunks)
        self._chunks.clear()
        size, self._bytes, written = self._bytes, 0, self.last
        self._busy, self._wanted, self.due = self._busy + 1, False, float("inf")

        def done(failure: BaseException | None) -> None:
            self._busy -= 1
            self._note(failure)
            if failure is None:
                self.written = written
            else:
                self._bytes += size

        self._worker.submit(lambda: self.files.write(self._handed, sync=sync), done)

    def shed(self) -> None:
        """The disk is full: the past is worth less than what is written now."""
        self._worker.submit(self.files.shed, self._note)

    def finish(self) -> None:
        """The thread has ended in good order."""
        self._close_chunk()
        with contextlib.suppress(OSError):  # the journal tells it again
            self.files.write(self._handed + self._chunks, sync=False)

    def _note(self, failure: BaseException | None) -> None:
        if failure is not None and not isinstance(failure, OSError):
            raise failure
        self.failure = failure

    def _close_chunk(self) -> None:
        if self.last > self._after:
            self._chunks.append(Chunk(self._after, self.last, self._at, tuple(self._entries)))
            self._after, self._entries = self.last, []

    def _forget(self) -> None:
        self._entries, self._bytes, self._after = [], 0, self.last
        self._chunks.clear()
        if not self._busy:
            self._handed.clear()
