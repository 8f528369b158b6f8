"""The checker finds planted violations, and takes what concurrency and lost answers allow."""

import random

import pytest

from tests.harness.linearizability import NEVER, Kind, Operation, is_linearizable, violations


def did(kind: Kind, result: str, invoked: float, returned: float, value: str = "", expected: str = "") -> Operation:
    return Operation("k", kind, result, invoked, returned, value, expected)


CREATED = did("create", "ok", 0, 1, "a")


@pytest.mark.parametrize(
    "history",
    [
        [CREATED, did("read", "a", 2, 3)],
        [CREATED, did("read", "", 0, 3)],  # it may have come first
        [CREATED, did("update", "ok", 2, 5, "b", "a"), did("read", "a", 3, 4), did("read", "b", 3.5, 4.5)],
        [CREATED, did("update", "changed", 2, 6, "c", "a"), did("update", "ok", 3, 5, "b", "a")],
        [CREATED, did("delete", "unknown", 2, NEVER), did("read", "", 3, 4)],
        [CREATED, did("delete", "unknown", 2, NEVER), did("read", "a", 9, 10)],  # never done
        [CREATED, did("delete", "unknown", 2, NEVER), did("read", "a", 9, 10), did("read", "", 11, 12)],  # late
        [CREATED, did("create", "exists", 2, 3, "b")],
    ],
)
def test_what_one_copy_could_have_done(history: list[Operation]) -> None:
    assert is_linearizable(history)


@pytest.mark.parametrize(
    "history",
    [
        [CREATED, did("read", "", 2, 3)],  # lost
        [CREATED, did("update", "ok", 2, 3, "b", "a"), did("read", "a", 4, 5)],  # stale
        [CREATED, did("update", "ok", 2, 5, "b", "a"), did("read", "b", 3, 3.5), did("read", "a", 4, 4.5)],  # back
        [CREATED, did("update", "ok", 2, 3, "b", "a"), did("update", "ok", 4, 5, "c", "a")],  # both replaced it
        [CREATED, did("create", "ok", 2, 3, "b")],
        [CREATED, did("update", "unknown", 2, NEVER, "b", "x"), did("read", "b", 3, 4)],  # could not replace it
        [CREATED, did("delete", "ok", 2, 3), did("read", "a", 4, 5)],
        [CREATED, did("create", "unknown", 2, NEVER, "b"), did("delete", "ok", 3, 4), did("read", "a", 5, 6)],
    ],
)
def test_what_one_copy_could_not_have_done(history: list[Operation]) -> None:
    assert not is_linearizable(history)
    assert set(violations(history)) == {"k"}


def _history(chance: random.Random, count: int) -> list[Operation]:
    """Operations of a real single copy: each takes place at a moment between its ends."""
    state, operations, now = "", [], 0.0
    for number in range(count):
        now += chance.random()
        kind: Kind = chance.choice(["create", "update", "delete", "read", "read"])
        before, after = now - 4 * chance.random(), now + 4 * chance.random()
        value, expected = f"v{number}", chance.choice([state, "other"])
        if kind == "read":
            result = state
        elif kind == "create":
            result, state = ("exists", state) if state else ("ok", value)
        elif not state:
            result = "missing"
        elif kind == "delete":
            result, state = "ok", ""
        else:
            result, state = ("ok", value) if state == expected else ("changed", state)
        if kind != "read" and chance.random() < 0.1:
            result, after = "unknown", NEVER
        operations.append(did(kind, result, before, after, value, expected))
    return sorted(operations, key=lambda one: one.invoked)


@pytest.mark.parametrize("seed", range(20))
def test_random_histories_of_one_copy_pass_and_one_wrong_read_is_found(seed: int) -> None:
    chance = random.Random(seed)
    history = _history(chance, 120)
    assert is_linearizable(history)
    end = max(one.returned for one in history if one.returned != NEVER)
    wrong = did("read", "never written", end + 1, end + 2)
    assert not is_linearizable([*history, wrong])
