"""The store apart from its cluster: read while in use, backed up, and carried over into a new epoch."""

from pathlib import Path

import pytest
import trio

from lxdnode.raft import recovery
from lxdnode.raft.framing import Damaged
from lxdnode.raft.log import Log
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Expect, Put, Transaction
from tests.harness.changes import member_put, transaction


def put(state: State, name: str, value: bytes, *expects: Expect) -> Transaction:
    """One document written."""
    return transaction(state, 1, writes=(Put("things", "", name, value),), expects=expects)


async def filled(directory: Path, nursery: trio.Nursery, count: int) -> Log:
    """A cluster of one with `count` documents."""
    log = Log.create(directory, cluster="c", initial=transaction(State(), 1, writes=(member_put(1, voter=True),)))
    await nursery.start(log.run)
    for number in range(count):
        await log.commit(put(log.state, f"d{number}", b"%d" % number))
    return log


async def test_a_store_is_read_while_it_is_in_use(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        log = await filled(tmp_path / "raft", nursery, 20)
        contents = recovery.read(tmp_path / "raft")
        assert contents.state.digest() == log.state.digest()
        assert contents.position == log.position()
        nursery.cancel_scope.cancel()


async def test_a_backup_is_whole_or_refused(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        log = await filled(tmp_path / "raft", nursery, 5)
        data = b"".join(log.back_up())
        assert recovery.read_backup(data).state.digest() == log.state.digest()
        nursery.cancel_scope.cancel()
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(Damaged):
            recovery.read_backup(data[:cut])
    with pytest.raises(Damaged):
        recovery.read_backup(data[:40] + b"\xff" + data[41:])


async def test_a_new_epoch_keeps_everything_and_is_writable_by_its_one_voter(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await filled(tmp_path / "raft", nursery, 8)
        nursery.cancel_scope.cancel()
    contents = recovery.read(tmp_path / "raft")
    recovery.renew(tmp_path / "new", contents, 2, put(contents.state, "renewed", b"yes"))
    async with trio.open_nursery() as nursery:
        log = Log.open(tmp_path / "new")
        await nursery.start(log.run)
        assert (log.identity.epoch, log.identity.cluster, log.identity.member) == (2, "c", 1)
        assert log.state.get("things", "", "d7") is not None
        assert log.state.get("things", "", "renewed") is not None
        assert await log.past.gaps() == []
        told = [one.change() for chunk in await log.past.page(1) for one in chunk.entries]
        assert told[-1].keys == (("things", "", "renewed"),)
        assert [change.index for change in told] == [2, *range(4, contents.state.index + 2)]  # 3 is the election
        await log.commit(put(log.state, "later", b"1"))
        assert log.position() > contents.position
        nursery.cancel_scope.cancel()


async def test_a_change_that_does_not_fit_the_state_begins_no_epoch(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await filled(tmp_path / "raft", nursery, 2)
        nursery.cancel_scope.cancel()
    contents = recovery.read(tmp_path / "raft")
    stale = put(contents.state, "d0", b"new", Expect("things", "", "d0", 0))
    with pytest.raises(ValueError, match="the change of epoch is refused"):
        recovery.renew(tmp_path / "new", contents, 2, stale)
    assert not (tmp_path / "new").exists()
