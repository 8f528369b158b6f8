"""Typed documents: drafts become transactions, names are unique, and fields from the future are kept."""

import msgspec
import pytest

from lxdnode.node.documents import Draft, Record, Table, View
from lxdnode.node.errors import AlreadyExists, NotFound
from lxdnode.raft.machine import apply
from lxdnode.raft.state import Document, State
from lxdnode.raft.transaction import Committed, Conflict


class Part(Record):
    status: str = "Pending"


class Thing(Record):
    name: str
    config: dict[str, str] = {}
    parts: dict[str, Part] = {}
    main: Part = Part()


THINGS = Table("things", Thing)


def commit(state: State, draft: Draft) -> State:
    applied = apply(state, state.index + 1, [draft.transaction("test", "TEST", 1)])
    assert isinstance(applied.outcomes[0], Committed), applied.outcomes
    return applied.state


def with_thing(**fields: object) -> State:
    state = State()
    draft = Draft(state)
    draft.put(THINGS, "1", msgspec.convert({"name": "one", **fields}, Thing))
    draft.name("thing", "one", "1")
    return commit(state, draft)


def test_what_was_put_is_read_back_by_name() -> None:
    id, thing = View(with_thing(config={"a": "1"})).named(THINGS, "thing", "one")
    assert (id, thing.config) == ("1", {"a": "1"})
    with pytest.raises(NotFound, match="not found"):
        View(State()).named(THINGS, "thing", "one")


def test_a_name_is_given_once() -> None:
    draft = Draft(with_thing())
    with pytest.raises(AlreadyExists):
        draft.name("thing", "one", "2")


def test_of_two_drafts_that_read_the_same_only_the_first_is_committed() -> None:
    state = with_thing()
    drafts = [Draft(state), Draft(state)]
    for number, draft in enumerate(drafts):
        thing = draft.get(THINGS, "1")
        assert thing is not None
        draft.put(THINGS, "1", msgspec.structs.replace(thing, config={"by": str(number)}))
    state = commit(state, drafts[0])
    second = apply(state, state.index + 1, [drafts[1].transaction("test", "TEST", 1)])
    assert isinstance(second.outcomes[0], Conflict)
    assert View(second.state).get(THINGS, "1") == Thing(name="one", config={"by": "0"})


def test_peeking_expects_nothing() -> None:
    state = with_thing()
    draft = Draft(state)
    assert draft.peek.get(THINGS, "1") is not None
    assert draft.is_empty
    assert draft.transaction("test", "TEST", 1).expects == ()


def test_a_draft_reads_its_own_writes_and_they_are_never_cached() -> None:
    state = with_thing()
    for value in ("x", "y"):
        draft = Draft(state)
        draft.put(THINGS, "2", Thing(name=value))
        found = draft.get(THINGS, "2")
        assert found is not None and found.name == value
        assert [id for id, _thing in draft.all(THINGS)] == ["1", "2"]
        draft.delete(THINGS, "2")
        assert draft.get(THINGS, "2") is None


def test_what_was_decoded_is_forgotten_when_it_is_no_more() -> None:
    things = Table("things", Thing)
    for number in range(5000):
        state = State().put(number + 1, "things", "", str(number), things.encode(Thing(name=f"thing {number}")))
        assert View(state).get(things, str(number)) == Thing(name=f"thing {number}")
        assert View(state).get(things, str(number)) is View(state).get(things, str(number))
    assert len(things._cache) <= 1024


def test_fields_and_nested_fields_from_the_future_survive_a_change_by_this_version() -> None:
    future = {
        "name": "one",
        "config": {"old": "1"},
        "colour": "blue",
        "main": {"status": "Created", "since": 5},
        "parts": {"1": {"status": "Created", "since": 6}, "2": {"status": "Created", "since": 7}},
    }
    old = Document(msgspec.msgpack.encode(future), 1)
    thing = THINGS.decode(State(), "", "1", old)
    changed = msgspec.structs.replace(thing, config={"new": "2"}, parts={"1": Part(status="Errored")})
    written = msgspec.msgpack.decode(THINGS.encode(changed, old))
    assert written == {
        "name": "one",
        "config": {"new": "2"},
        "colour": "blue",
        "main": {"status": "Created", "since": 5},
        "parts": {"1": {"status": "Errored", "since": 6}},
    }


def test_a_claim_is_held_by_one_owner() -> None:
    state = State()
    draft = Draft(state)
    draft.claim("ipv4:net", "10.0.0.5", "container:1")
    draft.claim("ipv4:net", "10.0.0.5", "container:1")
    state = commit(state, draft)
    with pytest.raises(AlreadyExists, match=r"ipv4:net/10\.0\.0\.5 is in use by container:1"):
        Draft(state).claim("ipv4:net", "10.0.0.5", "container:2")
    draft = Draft(state)
    draft.release("ipv4:net", "10.0.0.5")
    draft.claim("ipv4:net", "10.0.0.5", "container:2")
    commit(state, draft)


def test_users_of_an_object_are_its_references() -> None:
    state = State()
    draft = Draft(state)
    draft.refer("profile:p", "container:b")
    draft.refer("profile:p", "container:a")
    state = commit(state, draft)
    assert View(state).users("profile:p") == ["container:a", "container:b"]
    draft = Draft(state)
    draft.unrefer("profile:p", "container:a")
    assert View(commit(state, draft)).users("profile:p") == ["container:b"]
