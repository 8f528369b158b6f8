"""Transactions of tests: plain ones, counters that show what was lost or done twice, and member documents."""

import random
import uuid

import msgspec

from lxdnode.raft import membership
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Expect, Put, Transaction

_chance_of_ids = random.Random(0)


def seed_ids(seed: int) -> None:
    """Let the ids that follow be the same in every run."""
    _chance_of_ids.seed(seed)


def transaction(state: State, member: int, *, at: float = 0.0, **parts: object) -> Transaction:
    """A transaction of a test, born at a state."""
    identity = str(uuid.UUID(int=_chance_of_ids.getrandbits(128), version=4))
    fields = {"id": identity, "born": state.index, "level": 1, "author": "test", "at": at, "member": member}
    change = msgspec.convert({**fields, "request": "test"}, Transaction)
    return msgspec.structs.replace(change, **parts)


def raise_counter(state: State, member: int, name: str) -> Transaction:
    """Read, add one, write, and leave a mark: lost or doubled ones are seen in the end."""
    document = state.get("counters", "", name)
    value = str(int(document.value) + 1 if document else 1).encode()
    expects = (Expect("counters", "", name, document.revision if document else 0),)
    change = transaction(state, member, expects=expects)
    writes = (Put("counters", "", name, value), Put("done", "", change.id, name.encode()))
    return msgspec.structs.replace(change, writes=writes)


def member_put(number: int, *, voter: bool, phase: str = "member") -> Put:
    record = {"number": number, "phase": phase, "voter": voter}
    return Put(membership.TABLE, "", str(number), msgspec.msgpack.encode(record))
