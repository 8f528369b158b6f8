"""Snapshots between members: taken whole or not at all, never back in time, and nobody waits for what they hold."""

import msgspec

from lxdnode.raft import machine, snapshot, transfer
from lxdnode.raft.driver import Limits
from lxdnode.raft.entry import Members
from lxdnode.raft.history import Reset
from lxdnode.raft.journal import Identity
from lxdnode.raft.snapshot import SnapshotHead
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Committed, Put, Transaction, encode
from tests.harness.changes import transaction
from tests.harness.lone import Lone, entry

HEAD = SnapshotHead(Identity("lone", 1, 2), 50, 3, Members((1, 2, 3)), 1)


def _file(state: State, head: SnapshotHead = HEAD) -> bytes:
    return b"".join(snapshot.encode(head, state))


def _state(*changes: Transaction, index: int = 50) -> State:
    return machine.apply(State(), index, changes or [_put("kept")]).state


def _put(name: str) -> Transaction:
    return transaction(State(), 1, writes=(Put("t", "", name, b"value"),))


def _follower() -> Lone:
    lone = Lone()
    lone.append(2, 2, [entry(3, 3)], term=3, commit_index=3)
    assert lone.driver.state.index == 3
    return lone


def _send(lone: Lone, data: bytes, *, offset: int = 0, size: int | None = None, index: int = 50) -> None:
    lone.hear(2, "snapshot", index=index, offset=offset, size=size or len(data), data=data)
    lone.settle()


def test_a_snapshot_is_installed_and_acknowledged() -> None:
    lone, state = _follower(), _state()
    _send(lone, _file(state))
    assert lone.driver.state.digest() == state.digest()
    assert lone.sent("next_node_idx")[-1]["next_node_idx"] == 51
    assert Reset(50) in lone.driver.news
    assert lone.driver.history.since(3) is None
    lone.append(2, 50, [entry(51, 3)], term=3, commit_index=51)
    assert lone.driver.state.index == 51
    lone.lose_power()
    assert (lone.driver.state.index, lone.driver.journal.last) == (51, 51)


def test_it_comes_in_chunks_and_what_does_not_follow_is_passed_over() -> None:
    lone = _follower()
    data = _file(_state(*(_put(str(number)) for number in range(100))))
    third = len(data) // 3
    _send(lone, data[:third], size=len(data))
    assert lone.sent("snapshot_ok")[-1] == {"type": "snapshot_ok", "index": 50, "offset": third}
    _send(lone, data[2 * third :], offset=2 * third, size=len(data))
    _send(lone, data[third : 2 * third], offset=third, size=len(data))
    _send(lone, data[third : 2 * third], offset=third, size=len(data))
    assert lone.driver.state.index == 3
    _send(lone, data[2 * third :], offset=2 * third, size=len(data))
    assert lone.driver.state.index == 50


def test_an_older_snapshot_changes_nothing() -> None:  # fault 8
    lone = _follower()
    lone.append(2, 3, [entry(index, 3) for index in range(4, 61)], term=3, commit_index=60)
    digest = lone.driver.state.digest()
    _send(lone, _file(_state()))
    assert lone.driver.state.digest() == digest
    assert lone.driver.journal.last == 60
    assert lone.sent("next_node_idx")[-1]["next_node_idx"] == 61


def test_a_damaged_snapshot_is_refused_and_a_good_one_taken_after_it() -> None:
    lone = _follower()
    data = bytearray(_file(_state()))
    data[len(data) // 2] ^= 1
    _send(lone, bytes(data))
    assert lone.driver.state.index == 3
    assert isinstance(lone.driver.receiver.failure, snapshot.Damaged)
    assert snapshot.newest(lone.disk) is None
    _send(lone, _file(_state()))
    assert lone.driver.state.index == 50


def test_a_snapshot_of_another_cluster_is_refused() -> None:
    lone = _follower()
    foreign = msgspec.structs.replace(HEAD, identity=Identity("other", 1, 2))
    _send(lone, _file(_state(), foreign))
    assert lone.driver.state.index == 3


def test_who_waits_for_what_the_snapshot_holds_gets_its_answer() -> None:  # fault 13
    lone = _follower()
    change = _put("mine")
    lone.propose(change=change)
    assert not lone.results
    _send(lone, _file(_state(change)))
    assert lone.results == [Committed(50)]


def test_the_members_come_with_the_snapshot() -> None:
    lone = _follower()
    _send(lone, _file(_state(), msgspec.structs.replace(HEAD, members=Members((1, 2, 4), (5,)))))
    assert lone.driver.journal.members == Members((1, 2, 4), (5,))
    assert {node.id for node in lone.driver.core.otherNodes} == {2, 4}


def _behind(lone: Lone) -> None:
    """As leader, forget the log, and let member 3 refuse what it is sent."""
    lone.lead()
    for number in range(40):
        lone.propose(encode(_put(str(number))))
        lone.acknowledge(2, lone.driver.journal.last)
    lone.wait(0.1)
    assert lone.driver.journal.base > 10
    lone.driver.link(3, up=False)
    lone.outbox.clear()
    lone.driver.core._SyncObj__raftMatchIndex[_node(lone, 3)] = 0
    lone.driver.link(3, up=True)
    lone.acknowledge(3, 2, success=False, reset=True)
    lone.wait(0.2)


def _node(lone: Lone, member: int) -> object:
    return next(node for node in lone.driver.core.otherNodes if node.id == member)


def test_a_chunk_that_is_not_answered_is_sent_again() -> None:
    lone = Lone(limits=Limits(snapshot_entries=20, trail_entries=5))
    _behind(lone)
    assert len(lone.sent("snapshot", to=3)) == 1
    for _ in range(10):
        lone.acknowledge(2, lone.driver.journal.last)
        lone.wait(transfer.SILENCE / 8)
    assert len(lone.sent("snapshot", to=3)) == 2
    last = lone.sent("snapshot", to=3)[-1]
    head, _ = snapshot.decode(last["data"], "sent")
    lone.acknowledge(3, head.index)
    lone.wait(0.2)
    sent = [index for message in lone.sent("append_entries", to=3) for _, index, _ in message.get("entries", ())]
    assert sent[0] == head.index + 1


def test_who_is_behind_still_after_its_snapshot_gets_the_newer_one_at_once() -> None:
    lone = Lone(limits=Limits(snapshot_entries=20, trail_entries=5))
    _behind(lone)
    [first] = lone.sent("snapshot", to=3)
    for number in range(40):
        lone.propose(encode(_put(str(number))))
        lone.acknowledge(2, lone.driver.journal.last)
    assert lone.driver.journal.base > first["index"] + 1
    lone.acknowledge(3, first["index"])
    lone.wait(0.2)
    assert [message["index"] > first["index"] for message in lone.sent("snapshot", to=3)] == [False, True]
