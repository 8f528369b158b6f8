"""The journal's files: segments of framed records that are only appended to, one sync a record.

Owns their names, sizes, torn ends and removal; refuses to judge what the records say."""

import msgspec

from lxdnode.raft.disk import Disk
from lxdnode.raft.framing import Damaged, NewerFormat, continues, is_torn, payloads
from lxdnode.raft.journal import FORMAT, SEGMENT_LIMIT, Batch, Head, Journal, Record, decode, encode
from lxdnode.raft.transaction import LEVEL

_PREFIX = "journal-"
_UNFINISHED = ".new"


def _number(name: str) -> int:
    return int(name.removeprefix(_PREFIX))


def _segment_names(disk: Disk) -> list[str]:
    names = [name for name in disk.names() if name.startswith(_PREFIX)]
    return sorted((name for name in names if not name.endswith(_UNFINISHED)), key=_number)


class Segments:
    """Where the records go. `write` and `drop` block: the driver's disk thread calls them."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._starts: list[tuple[str, int]] = []  # each segment and the committed index with which it begins
        self._size = 0

    @classmethod
    def create(cls, disk: Disk, head: Head) -> "Segments":
        """The first segment of a new log; there must be none."""
        if _segment_names(disk):
            raise FileExistsError("there is a journal in this directory already")
        segments = cls(disk)
        segments._begin(1, encode(Record(head.index, head=head)), head.index)
        return segments

    def write(self, batch: Batch) -> None:
        """Append and sync. When the disk is full the part that was written is taken back, and OSError is raised."""
        name = self._starts[-1][0]
        if batch.begins is not None:
            self._begin(_number(name) + 1, batch.data, batch.begins)
            return
        try:
            self._disk.append(name, batch.data)
            self._disk.sync(name)
        except OSError:
            self._disk.truncate(name, self._size)  # when that fails too, nobody writes behind what was left
            raise
        self._size += len(batch.data)

    def drop(self, index: int) -> None:
        """Remove the segments whose entries above `index` are all in later ones."""
        while len(self._starts) > 1 and self._starts[1][1] <= index:
            name, _ = self._starts.pop(0)
            self._disk.remove(name)

    def _begin(self, number: int, data: bytes, index: int) -> None:
        name = f"{_PREFIX}{number:08d}"
        if name + _UNFINISHED in self._disk.names():
            self._disk.remove(name + _UNFINISHED)
        self._disk.append(name + _UNFINISHED, data)
        self._disk.publish(name + _UNFINISHED, name)
        self._starts.append((name, index))
        self._size = len(data)


def exists(disk: Disk) -> bool:
    return bool(_segment_names(disk))


def load(disk: Disk, limit: int = SEGMENT_LIMIT) -> tuple[Journal, Segments]:
    """Read all segments. A torn end of the last is cut off; damage anywhere else raises Damaged."""
    for name in disk.names():
        if name.startswith(_PREFIX) and name.endswith(_UNFINISHED):
            disk.remove(name)
    names = _segment_names(disk)
    if not names:
        raise FileNotFoundError("there is no journal in this directory")
    segments = Segments(disk)
    journal: Journal | None = None
    for name in names:
        records = _read(disk, name, torn_end_allowed=name == names[-1])
        head = records[0].head
        assert head is not None
        journal = journal or Journal(head, limit)
        for record in records:
            journal.replay(record)
        segments._starts.append((name, head.index))
    assert journal is not None
    segments._size = journal.segment_size = disk.size(names[-1])
    return journal, segments


def _read(disk: Disk, name: str, *, torn_end_allowed: bool) -> list[Record]:
    data = disk.read(name)
    end, records = 0, []
    for offset, payload in payloads(data):
        end = offset
        records.append(_decode(name, payload))
    if end < len(data):
        # A record is written only when the one before it was synced: a whole one behind a broken one means damage.
        if not torn_end_allowed or continues(data, end) or not is_torn(data, end):
            raise _damage(name, f"is damaged at byte {end} of {len(data)}")
        disk.truncate(name, end)
    if not records or records[0].head is None:
        raise _damage(name, "has no head")
    return records


def _decode(name: str, payload: bytes) -> Record:
    try:
        record = decode(payload)
    except msgspec.DecodeError as error:
        raise NewerFormat(
            f"{name} cannot be read by this version of lxd-node ({error}): install a newer one", LEVEL + 1
        ) from error
    if record.head is not None and record.head.format > FORMAT:
        raise NewerFormat(
            f"{name} is of format {record.head.format}, this version of lxd-node knows {FORMAT}", LEVEL + 1
        )
    return record


def _damage(name: str, what: str) -> Damaged:
    return Damaged(
        f"{name} {what}. Entries that this member acknowledged may be lost, so it does not start on them: remove it "
        "from the cluster and join again; when no other member is left, restore a backup"
    )
