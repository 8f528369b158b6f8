"""The journal's files: whatever a power cut leaves of the last record opens, and damage elsewhere stops the member."""

import errno
import random
from pathlib import Path

import pytest

from lxdnode.raft import segments, snapshot
from lxdnode.raft.disk import Directory
from lxdnode.raft.driver import Limits
from lxdnode.raft.entry import Members
from lxdnode.raft.framing import Damaged
from lxdnode.raft.journal import Head, Identity, Journal
from lxdnode.raft.proposals import Full
from lxdnode.raft.snapshot import SnapshotHead
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Committed, Put
from tests.harness.changes import transaction
from tests.harness.disks import MemoryDisk
from tests.harness.lone import Lone, entry

HEAD = Head(Identity("c", 1, 1), 1, 0, Members((1, 2, 3)), 0, None)


def _written(disk: MemoryDisk | Directory, entries: int = 5) -> tuple[Journal, segments.Segments]:
    files = segments.Segments.create(disk, HEAD)
    journal = Journal(HEAD)
    journal.setCurrentTerm(3, 2)
    for index in range(2, entries + 2):
        journal.add(*entry(index, 3))
        files.write(journal.take())
        journal.complete()
    return journal, files


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    disk = Directory(tmp_path)
    written, _ = _written(disk)
    disk.close()
    disk = Directory(tmp_path)
    read, _ = segments.load(disk)
    disk.close()
    assert read[:] == written[:]
    assert (read.term, read.vote, read.members) == (3, 2, Members((1, 2, 3)))


def test_a_journal_cut_at_every_byte_of_its_last_record_opens() -> None:
    disk = MemoryDisk(random.Random(1))
    journal, files = _written(disk)
    before = disk.size("journal-00000001")
    journal.cut(5)
    journal.add(*entry(5, 4, transaction(State(), 1, writes=(Put("t", "", "n", b"value"),))))
    journal.setCurrentTerm(4, None)
    files.write(journal.take())
    whole = disk.read("journal-00000001")
    for end in range(before, len(whole) + 1):
        torn = MemoryDisk(random.Random(1))
        torn.append("journal-00000001", whole[:end])
        read, _ = segments.load(torn)
        if end == len(whole):
            assert (read.last, read.last_term, read.term, read.vote) == (5, 4, 4, None)
        else:
            assert (read.last, read.last_term, read.term, read.vote) == (6, 3, 3, 2)
            assert torn.size("journal-00000001") == before
        read.add(*entry(read.last + 1, 9))  # and it can go on


def test_damage_behind_which_something_was_synced_stops_the_member() -> None:
    disk = MemoryDisk(random.Random(1))
    _written(disk)
    whole = disk.read("journal-00000001")
    last = whole.rindex(b"lxr1")
    for position in range(0, last, 7):
        flipped = bytearray(whole)
        flipped[position] ^= 0x10
        bad = MemoryDisk(random.Random(1))
        bad.append("journal-00000001", bytes(flipped))
        with pytest.raises(Damaged, match="join again"):
            segments.load(bad)


def test_segments_follow_each_other_and_old_ones_go() -> None:
    disk = MemoryDisk(random.Random(1))
    files = segments.Segments.create(disk, HEAD)
    journal = Journal(HEAD, segment_limit=2000)
    for index in range(2, 200):
        journal.add(*entry(index, 1))
        journal.commit = index - 3
        if index % 20 == 0:  # a new leader contradicts what is not committed
            journal.cut(index - 1)
            journal.add(*entry(index - 1, 1))
            journal.add(*entry(index, 1))
        files.write(journal.take())
        journal.complete()
        if index % 50 == 0:
            journal.forget(index - 10)
            files.drop(index - 10)
    assert len([name for name in disk.names() if name.startswith("journal-")]) > 2
    read, _ = segments.load(disk, 2000)
    assert read.base <= journal.base
    assert read.entries(journal.base + 1, 400) == journal.entries(journal.base + 1, 400)


def test_a_full_disk_loses_nothing_and_is_tried_again() -> None:
    lone = Lone(voters=(1,))
    append = lone.disk.append

    def fail(name: str, data: bytes) -> None:
        append(name, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")

    lone.disk.append = fail  # type: ignore[method-assign]
    lone.propose()
    assert lone.driver.disk_full
    assert lone.results == [Full()], "it was proposed: its outcome is not known, and nobody waits for room"
    lone.disk.append = append  # type: ignore[method-assign]
    lone.wait(1.5)
    assert lone.results
    assert not lone.driver.disk_full
    lone.lose_power()
    lone.wait(0.1)
    assert lone.driver.state.get("t", "", "n") is not None


def test_a_write_that_failed_for_want_of_room_counts_for_nothing() -> None:
    assert _loses_nothing_on_a_full_disk()
    assert not _loses_nothing_on_a_full_disk(off=("full_disks_refuse",))


def _loses_nothing_on_a_full_disk(off: tuple[str, ...] = ()) -> bool:
    """Whether what was acknowledged while the disk was full is there after a power cut."""
    lone = Lone(voters=(1,), off=off)
    lone.disk.full = True
    lone.propose()
    lone.disk.full = False
    lone.lose_power()
    lone.wait(0.1)
    acknowledged = any(isinstance(result, Committed) for result in lone.results)
    return not acknowledged or lone.driver.state.get("t", "", "n") is not None


def test_a_disk_that_fails_to_sync_ends_the_member() -> None:
    lone = Lone(voters=(1,))

    def fail(name: str) -> None:
        raise OSError(errno.EIO, "input/output error")

    lone.disk.sync = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="input/output"):
        lone.propose()


SNAPSHOTS = Limits(snapshot_entries=20, trail_entries=5)


def _with_snapshot() -> Lone:
    lone = Lone(voters=(1,), limits=SNAPSHOTS)
    for _ in range(30):
        lone.propose()
    assert snapshot.newest(lone.disk) is not None
    return lone


def test_a_restart_after_a_snapshot_continues() -> None:
    lone = _with_snapshot()
    lone.propose(b"last")
    tables, index = lone.driver.state.tables, lone.driver.state.index
    lone.lose_power()
    lone.wait(0.1)
    assert lone.driver.state.tables == tables
    assert lone.driver.state.index == index + 1  # the new leader's own entry


@pytest.mark.parametrize("off", [(), ("aligned",)])
def test_a_crash_between_snapshot_and_journal_loses_nothing(off: tuple[str, ...]) -> None:  # fault 5
    """A received snapshot is in place, the journal still ends before it."""
    lone = Lone(off=off)
    lone.append(2, 2, [entry(3, 3)], term=3, commit_index=3)
    change = transaction(State(), 1, writes=(Put("t", "", "kept", b"acknowledged"),))
    state = State(index=50).put(50, "t", "", "kept", change.writes[0].value)  # type: ignore[union-attr]
    head = SnapshotHead(Identity("lone", 1, 2), 50, 3, lone.members, 1)
    for data in snapshot.encode(head, state):
        lone.disk.append("snapshot.part", data)
    lone.disk.publish("snapshot.part", snapshot.name_of(50))
    lone.lose_power()
    aligned = (lone.driver.journal.base, lone.driver.journal.last) == (50, 50)
    assert aligned == (not off), "without alignment the log ends before the state"
    if aligned:
        lone.append(2, 50, [entry(51, 3)], term=3, commit_index=51)
        lone.lose_power()
        lone.append(2, 51, [], term=3, commit_index=51)
        assert lone.driver.state.get("t", "", "kept") is not None
        assert lone.driver.state.index == 51


def test_a_journal_without_its_snapshot_stops_the_member() -> None:
    lone = _with_snapshot()
    for _ in range(3000):
        lone.driver.journal.segment_size = 1 << 30  # let segments go by
        lone.propose()
        if "journal-00000001" not in lone.disk.names():
            break
    for name in snapshot.names(lone.disk):
        lone.disk.remove(name)
    with pytest.raises(Damaged, match="no snapshot"):
        lone.start()


def test_a_snapshot_that_cannot_be_read_stops_the_member() -> None:  # fault 14
    lone = _with_snapshot()
    name = snapshot.newest(lone.disk)
    assert name is not None
    lone.disk._files[name][40] ^= 1
    with pytest.raises(Damaged, match="join again"):
        lone.start()
