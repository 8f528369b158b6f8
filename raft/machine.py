"""The state machine: a state and the transactions of one log entry in, the next state and their outcomes out.

It is pure and total: the same log gives the same state on every member, and nothing that was decoded makes it raise."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from lxdnode.raft.state import ANSWERS_KEPT, State, outcome_of
from lxdnode.raft.transaction import (
    Committed,
    Conflict,
    Delete,
    Event,
    Expect,
    ExpectGroup,
    Expired,
    Outcome,
    Put,
    Transaction,
)

Key = tuple[str, str, str]
Replaced = tuple[int, tuple[bytes | None, ...]]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an entry did: the state after it, an outcome for each transaction, the keys written, the events meant, and
    of each transaction that was carried out its place in the entry and the values that its writes replaced.

    `at` is the latest time that one of these gives, 0 when there is none."""

    state: State
    outcomes: tuple[Outcome, ...]
    keys: tuple[Key, ...]
    events: tuple[Event, ...]
    replaced: tuple[Replaced, ...]
    at: float


def apply(state: State, index: int, transactions: Sequence[Transaction]) -> Applied:
    """Apply the entry at `index`, which must be above `state.index`; an entry without transactions is a no-op."""
    state = _advance(state, index)
    answers, first = state.answers, state.first_answered
    outcomes: list[Outcome] = []
    keys: dict[Key, None] = {}
    events: list[Event] = []
    replaced: list[Replaced] = []
    at = 0.0
    for place, transaction in enumerate(transactions):
        known = answers.get(transaction.id, first)
        if known is not None:
            outcomes.append(outcome_of(known))
            continue
        outcome = _judge(state, index, transaction)
        if isinstance(outcome, Committed):
            replaced.append((place, tuple(_value(state, write) for write in transaction.writes)))
            at = max(at, transaction.at)
            state = _write(state, index, transaction)
            keys.update(((write.table, write.group, write.name), None) for write in transaction.writes)
            events.extend(transaction.events)
        if not isinstance(outcome, Expired):
            answer = outcome.index if isinstance(outcome, Committed) else outcome
            answers = answers.add(transaction.id, index, answer, first)
        outcomes.append(outcome)
    state = replace(state, answers=answers)
    return Applied(state, tuple(outcomes), tuple(keys), tuple(events), tuple(replaced), at)


def _value(state: State, write: Put | Delete) -> bytes | None:
    document = state.get(write.table, write.group, write.name)
    return None if document is None else document.value


def _judge(state: State, index: int, transaction: Transaction) -> Outcome:
    if transaction.born < index - ANSWERS_KEPT:
        return Expired(index)
    for expect in transaction.expects:
        if not _holds(state, expect):
            return Conflict(index, expect)
    return Committed(index)


def _holds(state: State, expect: Expect | ExpectGroup) -> bool:
    if isinstance(expect, ExpectGroup):
        return state.group_revision(expect.table, expect.group) == expect.revision
    document = state.get(expect.table, expect.group, expect.name)
    return (document.revision if document else 0) == expect.revision


def _write(state: State, index: int, transaction: Transaction) -> State:
    for write in transaction.writes:
        if isinstance(write, Put):
            state = state.put(index, write.table, write.group, write.name, write.value)
        else:
            state = state.delete(index, write.table, write.group, write.name)
    return state if transaction.level <= state.level else replace(state, level=transaction.level)


def _advance(state: State, index: int) -> State:
    state = replace(state, index=index)
    return state.sweep(index - ANSWERS_KEPT) if index % ANSWERS_KEPT == 0 else state
