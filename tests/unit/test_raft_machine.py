"""The state machine: the same log gives the same digest on every way to it, and an id is applied once."""

import uuid

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lxdnode.raft import snapshot
from lxdnode.raft.entry import Members
from lxdnode.raft.journal import Identity
from lxdnode.raft.machine import apply
from lxdnode.raft.snapshot import SnapshotHead
from lxdnode.raft.state import ANSWERS_KEPT, State
from lxdnode.raft.transaction import (
    Committed,
    Conflict,
    Delete,
    Event,
    Expect,
    ExpectGroup,
    Expired,
    Put,
    Transaction,
    decode,
    encode,
)

_names = st.sampled_from(["a", "b", "c"])
_writes = st.one_of(
    st.builds(Put, table=_names, group=_names, name=_names, value=st.binary(max_size=8)),
    st.builds(Delete, table=_names, group=_names, name=_names),
)
_expects = st.one_of(
    st.builds(Expect, table=_names, group=_names, name=_names, revision=st.integers(0, 30)),
    st.builds(ExpectGroup, table=_names, group=_names, revision=st.integers(0, 30)),
)
_transactions = st.builds(
    Transaction,
    id=st.integers(0, 40).map(lambda number: str(uuid.UUID(int=number, version=4))),
    born=st.just(0),
    level=st.just(1),
    author=st.just("test"),
    at=st.just(0.0),
    member=st.just(1),
    request=st.just(""),
    expects=st.lists(_expects, max_size=1).map(tuple),
    writes=st.lists(_writes, max_size=3).map(tuple),
    events=st.lists(st.builds(Event, action=_names, source=_names), max_size=1).map(tuple),
)
_logs = st.lists(st.lists(_transactions, max_size=3), max_size=15)


def _play(state: State, entries: list[list[Transaction]]) -> State:
    for transactions in entries:
        state = apply(state, state.index + 1, transactions).state
    return state


def _through_snapshot(state: State) -> State:
    head = SnapshotHead(Identity("c", 1, 1), state.index, 1, Members((1,)), state.level)
    _, read = snapshot.decode(b"".join(snapshot.encode(head, state)), "snapshot")
    return read


@given(_logs, st.integers(0, 15))
@settings(max_examples=150, deadline=None)
def test_a_snapshot_at_any_point_changes_nothing(log: list[list[Transaction]], point: int) -> None:
    straight = _play(State(), log)
    resumed = _play(_through_snapshot(_play(State(), log[:point])), log[point:])
    assert straight.digest() == resumed.digest()


@given(_logs)
@settings(max_examples=150, deadline=None)
def test_repeated_transactions_get_their_first_answer_and_write_nothing(log: list[list[Transaction]]) -> None:
    state, answers = State(), {}
    for transactions in log:
        result = apply(state, state.index + 1, transactions)
        for transaction, outcome in zip(transactions, result.outcomes, strict=True):
            assert answers.setdefault(transaction.id, outcome) == outcome
        state = result.state
    again = apply(state, state.index + 1, [transaction for transactions in log for transaction in transactions])
    assert not again.keys
    assert not again.events
    assert again.state.tables == state.tables


@given(_logs)
@settings(max_examples=50, deadline=None)
def test_references_to_older_states_do_not_change(log: list[list[Transaction]]) -> None:
    state, seen = State(), []
    for transactions in log:
        seen.append((state, state.digest()))
        state = _play(state, [transactions])
    assert all(old.digest() == digest for old, digest in seen)


@given(_transactions)
def test_a_transaction_reads_back(transaction: Transaction) -> None:
    assert decode(encode(transaction)) == transaction


def test_fields_from_the_future_are_passed_over() -> None:
    data = msgspec.msgpack.decode(encode(_change(Put("t", "g", "n", b"v"))))
    assert decode(msgspec.msgpack.encode({**data, "mood": "sunny"})).id == data["id"]


def _change(*writes: Put | Delete, **fields: object) -> Transaction:
    made = Transaction(id=str(uuid.uuid4()), born=0, level=1, author="", at=0.0, member=1, request="", writes=writes)
    return msgspec.structs.replace(made, **fields)


def test_revisions_guard_documents_and_groups() -> None:
    state = _play(State(), [[_change(Put("t", "g", "n", b"1"))]])
    expected = Expect("t", "g", "n", 1)
    both = [_change(Put("t", "g", "n", b"2"), expects=(expected,)) for _ in range(2)]
    result = apply(state, 2, both)
    assert result.outcomes == (Committed(2), Conflict(2, expected))
    gone = apply(result.state, 3, [_change(Delete("t", "g", "n"))]).state
    assert gone.get("t", "g", "n") is None
    assert gone.group_revision("t", "g") == 3
    assert list(gone.groups("t")) == []
    group = ExpectGroup("t", "g", 2)
    assert apply(gone, 4, [_change(expects=(group,))]).outcomes == (Conflict(4, group),)


def test_an_id_too_old_to_be_known_expires() -> None:
    change = _change(Put("t", "g", "n", b"1"))
    state = apply(State(), 1, [change]).state
    last = ANSWERS_KEPT
    assert apply(state, last, [change]).outcomes == (Committed(1),)
    later = apply(state, last + 1, [change])
    assert later.outcomes == (Expired(last + 1),)
    assert not later.keys
    assert later.state.answer(change.id) is None


def test_empty_groups_are_forgotten_when_nobody_can_expect_them() -> None:
    state = apply(State(), 1, [_change(Put("t", "g", "n", b"1"))]).state
    state = apply(state, 2, [_change(Delete("t", "g", "n"))]).state
    assert apply(state, ANSWERS_KEPT, []).state.group_revision("t", "g") == 2
    assert apply(state, 2 * ANSWERS_KEPT, []).state.group_revision("t", "g") == 0


def test_a_committed_transaction_raises_the_level() -> None:
    refused = _change(level=2, expects=(Expect("t", "g", "n", 5),))
    assert apply(State(), 1, [refused]).state.level == 1
    assert apply(State(), 1, [_change(level=2)]).state.level == 2


def test_a_damaged_snapshot_is_not_believed() -> None:
    state = _play(State(), [[_change(Put("t", "g", str(number), b"x"))] for number in range(30)])
    head = SnapshotHead(Identity("c", 1, 1), state.index, 1, Members((1,)), state.level)
    data = b"".join(snapshot.encode(head, state))
    for position in range(0, len(data), 97):
        torn, flipped = data[:position], bytearray(data)
        flipped[position] ^= 1
        for bad in (torn, bytes(flipped)):
            with pytest.raises(snapshot.Damaged, match="join again"):
                snapshot.decode(bad, "snapshot")
