"""The history on the disk: what a crash takes comes back, what is missing is said, and it does not grow for ever."""

import errno
import random
from collections import deque

import pytest

from lxdnode.raft import archive, machine, snapshot
from lxdnode.raft.archive import BEGINNING, SEGMENT_SECONDS, Archived, Chunk, Files
from lxdnode.raft.driver import Limits
from lxdnode.raft.entry import LEVEL, Members, pack
from lxdnode.raft.journal import Identity
from lxdnode.raft.snapshot import SnapshotHead
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Event, Put, encode
from tests.harness.changes import transaction
from tests.harness.disks import MemoryDisk
from tests.harness.lone import Lone, entry


def _put(name: str, value: bytes = b"value") -> Put:
    return Put("t", "", name, value)


def _told(lone: Lone) -> list[tuple[str, bytes, bytes | None]]:
    """(name, value, value before) of each put in the history, in order."""
    chunks = [chunk for chunks in archive.forwards(lone.disk, 2) for chunk in chunks]
    assert [one.after for one in chunks[1:]] == [one.index for one in chunks[:-1]], "there is a gap"
    found = []
    for one in (one for chunk in chunks for one in chunk.entries):
        for change, before in one.transactions():
            puts = zip(change.writes, before, strict=True)
            found += [(put.name, put.value, old) for put, old in puts if isinstance(put, Put) and put.table == "t"]
    return found


def _alone(**limits: int) -> Lone:
    lone = Lone((1,), limits=Limits(**limits))
    lone.wait(0.1)
    return lone


def _set(lone: Lone, value: str, name: str = "n") -> None:
    lone.propose(change=transaction(lone.driver.state, 1, writes=(_put(name, value.encode()),)))


def test_each_change_is_told_with_what_it_replaced() -> None:
    lone = _alone()
    for value in ("one", "two"):
        _set(lone, value)
    assert _told(lone) == []  # nobody waits for the disk
    lone.wait(archive.CHUNK_SECONDS + 0.1)
    assert _told(lone) == [("n", b"one", None), ("n", b"two", b"one")]


def test_what_a_crash_takes_is_told_again_and_nothing_twice() -> None:
    lone, values = _alone(snapshot_entries=8, trail_entries=2), []
    for number in range(60):
        values.append(str(number).encode())
        _set(lone, str(number))
        if number % 7 == 0:
            lone.wait(1.1)
        if number % 5 == 0:
            lone.lose_power()
            lone.wait(0.1)
    lone.wait(1.1)
    assert lone.driver.journal.base > 40  # the journal alone would not do
    assert _told(lone) == [("n", value, before) for before, value in zip([None, *values], values, strict=False)]


@pytest.mark.parametrize("kept", range(0, 120, 7))
def test_a_torn_end_is_cut(kept: int) -> None:
    lone = _alone()
    _set(lone, "one")
    lone.wait(1.1)
    name = next(name for name in lone.disk.names() if name.startswith("history-"))
    whole = lone.disk.size(name)
    _set(lone, "two")
    lone.wait(1.1)
    lone.disk.truncate(name, min(whole + kept, lone.disk.size(name)))
    lone.start()
    lone.wait(1.1)
    assert _told(lone) == [("n", b"one", None), ("n", b"two", b"one")]


def test_what_an_installed_snapshot_skips_is_a_gap_until_another_member_fills_it() -> None:
    lone = Lone()
    lone.append(2, 2, [entry(3, 3, transaction(State(), 1, writes=(_put("a"),)))], term=3, commit_index=3)
    lone.wait(1.1)
    state = machine.apply(State(), 50, [transaction(State(), 1, writes=(_put("b"),))]).state
    data = b"".join(snapshot.encode(SnapshotHead(Identity("lone", 1, 2), 50, 3, Members((1, 2, 3)), 1), state))
    lone.hear(2, "snapshot", index=50, offset=0, size=len(data), data=data)
    lone.settle()
    assert lone.driver.archive.written == 50  # nobody waits for more, and the gap is seen before anything follows
    lone.append(2, 50, [entry(51, 3, transaction(state, 1, writes=(_put("c"),)))], term=3, commit_index=51)
    lone.wait(1.1)
    assert archive.gaps(lone.disk, 51) == [(3, 50)]
    lone.driver.archive.files.insert([_chunk(3, 20), _chunk(20, 50)])
    assert archive.gaps(lone.disk, 51) == []
    assert _told(lone) == [("a", b"value", None), ("20", b"x", b"old"), ("50", b"x", b"old"), ("c", b"value", None)]
    lone.lose_power()
    assert archive.gaps(lone.disk, 51) == []


def test_a_history_that_begins_late_has_a_gap_before_it() -> None:
    disk = MemoryDisk(random.Random(1))
    assert archive.gaps(disk, 9) == [(BEGINNING, 9)]
    Files(disk).write(deque([_chunk(9, 12)]), sync=True)
    assert archive.gaps(disk, 12) == [(BEGINNING, 9)]


def _chunk(after: int, index: int, at: float = 0.0, size: int = 1) -> Chunk:
    change = transaction(State(), 1, writes=(_put(str(index), b"x" * size),), events=(Event("made", "/1.0/x"),))
    return Chunk(after, index, at, (Archived(index, pack([encode(change)], LEVEL), ((0, (b"old",)),)),))


def test_what_is_too_old_goes_in_whole_segments() -> None:
    disk, day = MemoryDisk(random.Random(1)), SEGMENT_SECONDS
    files = Files(disk)
    files.write(deque([_chunk(number, number + 1, at=number * day / 2) for number in range(1, 11)]), sync=True)
    assert len(disk.names()) == 5
    files.prune(3 * day)
    assert [chunks[0].at for chunks in archive.forwards(disk, 0)] == [2.5 * day, 3.5 * day, 4.5 * day]
    files.prune(5 * day)
    assert [chunks[0].at for chunks in archive.forwards(disk, 0)] == [4.5 * day]
    files.prune(6 * day)
    assert disk.names() == []
    files.write(deque([_chunk(11, 12, at=6 * day)]), sync=True)
    assert archive.gaps(disk, 12) == [(BEGINNING, 11)]


def test_the_oldest_segments_go_when_there_is_too_much() -> None:
    disk = MemoryDisk(random.Random(1))
    files = Files(disk, segment_limit=10_000, total_limit=50_000)
    files.write(deque([_chunk(number, number + 1, size=1000) for number in range(1, 300)]), sync=False)
    assert 35_000 < sum(disk.size(name) for name in disk.names()) <= 60_000
    newest = [chunk.index for chunks in archive.forwards(disk, 0) for chunk in chunks]
    assert newest == list(range(newest[0], 301))


def test_pages_begin_where_one_asks_and_go_both_ways() -> None:
    disk = MemoryDisk(random.Random(1))
    Files(disk, segment_limit=3000).write(deque([_chunk(n, n + 1, size=1000) for n in range(1, 20)]), sync=False)
    pages = list(archive.forwards(disk, 7))
    assert [chunk.index for page in pages for chunk in page] == list(range(8, 21))
    assert len(pages) > 3
    assert [chunk.index for page in archive.backwards(disk) for chunk in page][-3:] == [2, 3, 4]


def test_a_full_disk_holds_nothing_up_and_memory_stays_bounded() -> None:
    lone = _alone()
    lone.wait(1.1)
    lone.disk.full = True
    at = lone.driver.archive.last
    command = pack([encode(transaction(State(), 1, writes=(_put("big", b"x" * 200_000),)))], LEVEL)
    for index in range(at + 1, at + 100):
        lone.driver.archive.add(index, command, ((0, (None,)),), 1.0)
        lone.step(0.01)
        assert lone.driver.archive._bytes < archive.BACKLOG_BYTES + 300_000
    lone.driver.archive._forget()
    lone.settle()
    assert lone.driver.archive.written == at + 99  # nobody waits for what was left out
    lone.disk.full = False
    lone.driver.archive.add(at + 100, command, ((0, (None,)),), 1.0)
    lone.driver.archive.want()
    lone.wait(1.2)
    assert lone.driver.archive.failure is None and lone.driver.archive.written == at + 100
    assert archive.gaps(lone.disk, at + 100)[0] == (at, at + 99)


def test_a_segment_that_cannot_be_read_keeps_no_member_from_its_start() -> None:
    lone = _alone()
    _set(lone, "one")
    lone.wait(1.2)
    read, [bad] = lone.disk.read, [name for name in lone.disk.names() if name.startswith("history-")]

    def fail(name: str, offset: int = 0, size: int = -1) -> bytes:
        if name == bad:
            raise OSError(errno.EIO, "input/output error")
        return read(name, offset, size)

    lone.disk.read = fail  # type: ignore[method-assign]
    lone.start()
    assert lone.driver.archive.files.unread is not None
    _set(lone, "two")
    lone.wait(1.2)
    assert lone.driver.archive.failure is None
    lone.disk.read = read  # type: ignore[method-assign]
    assert ("n", b"two", b"one") in _told(lone)


def test_a_write_that_follows_a_failed_one_leaves_no_hole() -> None:
    """Before a snapshot the history is written, also while an earlier write is under way."""
    lone = _alone()
    lone.wait(1.1)
    append, failures = lone.disk.append, [OSError(errno.EIO, "input/output error")]

    def fail_once(name: str, data: bytes) -> None:
        if name.startswith("history") and failures:
            raise failures.pop()
        append(name, data)

    lone.disk.append = fail_once  # type: ignore[method-assign]
    lone.snapshots.held = True
    for value in ("one", "two"):
        _set(lone, value)
        lone.driver.archive.write(sync=True)
    lone.snapshots.held = False
    lone.step()
    assert not failures
    lone.start()
    lone.wait(1.2)
    assert _told(lone) == [("n", b"one", None), ("n", b"two", b"one")]


def test_the_older_half_makes_room_on_a_full_disk() -> None:
    lone = _alone(history_segment_bytes=500)
    for number in range(8):
        _set(lone, str(number))
        lone.wait(1.1)
    kept = [name for name in sorted(lone.disk.names()) if name.startswith("history-")]
    assert len(kept) == 5
    lone.disk.full = True
    _set(lone, "more")
    lone.wait(0.1)
    assert [name for name in sorted(lone.disk.names()) if name.startswith("history-")] == kept[len(kept) // 2 :]
    lone.disk.full = False
    lone.wait(2.2)
    assert [chunk.index for page in archive.forwards(lone.disk, 0) for chunk in page][-1] == lone.driver.state.index


def test_a_part_of_a_chunk_can_be_asked_for() -> None:
    chunks = [Chunk(1, 10, 5.0, (_chunk(1, 4).entries[0], _chunk(1, 9).entries[0])), _chunk(10, 20)]
    (clipped,) = archive.clip(chunks, 4, 10)
    assert (clipped.after, clipped.index, [one.index for one in clipped.entries]) == (4, 10, [9])
    assert list(archive.decode(archive.encode(clipped) + b"torn")) == [clipped]
