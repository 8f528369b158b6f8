"""Whether a history of clients could have come from one copy that does one operation at a time (Wing and Gong).

Owns the model of one named object (absent, or a version) and the search. Pruned: what was reached before is not
searched again, and what changes nothing is done as soon as it can be, since that hinders nothing. Refuses to record:
`clients.py` does. Each key is checked alone, which is enough."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

NEVER = float("inf")
ABSENT = ""
Kind = Literal["create", "update", "delete", "read"]


@dataclass(frozen=True)
class Operation:
    """One call of a client on a key, between two moments.

    `value`: the version that it writes, unique in the history; `expected`: the version that an update replaces;
    `result`: "ok", "exists", "missing", "changed", for a read the version, and "unknown" with `returned` NEVER."""

    key: str
    kind: Kind
    result: str
    invoked: float
    returned: float
    value: str = ""
    expected: str = ""


def next_state(state: str, operation: Operation) -> str | None:
    """The version after an operation with its result; None when it cannot have that result in this state."""
    after, result = _do(state, operation)
    return after if operation.result in (result, "unknown") else None


def _do(state: str, operation: Operation) -> tuple[str, str]:
    match operation.kind:
        case "read":
            return state, state
        case "create":
            return (operation.value, "ok") if state == ABSENT else (state, "exists")
        case _ if state == ABSENT:
            return state, "missing"
        case "delete":
            return ABSENT, "ok"
        case "update":
            return (operation.value, "ok") if state == operation.expected else (state, "changed")


def violations(history: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The keys whose operations have no order, each with its operations by time."""
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        keys[operation.key].append(operation)
    ordered = {key: sorted(found, key=lambda one: one.invoked) for key, found in keys.items()}
    return {key: found for key, found in ordered.items() if not is_linearizable(found)}


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Whether the operations of one key, by the time of their invocation, have an order that explains all results."""
    known = sum(1 << number for number, one in enumerate(operations) if one.result != "unknown")
    seen: set[tuple[int, str]] = set()
    stack = [(0, ABSENT)]
    while stack:
        done, state = stack.pop()
        if done & known == known:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        stack += _steps(operations, done, state)
    return False


def _steps(operations: Sequence[Operation], done: int, state: str) -> list[tuple[int, str]]:
    """What can come next: an operation that began before every other one that is left has ended."""
    steps = []
    limit = NEVER
    for number, one in enumerate(operations):
        if one.invoked > limit:
            break
        if done >> number & 1:
            continue
        limit = min(limit, one.returned)
        after = next_state(state, one)
        if after == state and one.result != "unknown":
            return [(done | 1 << number, state)]
        if after is not None and after != state:
            steps.append((done | 1 << number, after, one.result == "unknown"))
    steps.sort(key=lambda step: not step[2])  # the stack gives what is known first
    return [(mask, after) for mask, after, _ in steps]
