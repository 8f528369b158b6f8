"""Rows of the history: which of them a question selects, what they show, and what they say of gaps."""

import random
from collections import deque
from typing import Any

import msgspec
import pytest

from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid
from lxdnode.node.history import entries
from lxdnode.node.history.entries import HIDDEN, LARGE, Found, ask, find
from lxdnode.node.profiles.records import PROFILES, Profile
from lxdnode.node.server.records import CLUSTER, SETTINGS, Setting
from lxdnode.raft import machine
from lxdnode.raft.archive import Archived, Chunk, Files
from lxdnode.raft.entry import LEVEL, pack
from lxdnode.raft.state import State
from lxdnode.raft.transaction import encode
from tests.harness.disks import MemoryDisk

NOON = 1_800_000_000.0


class Told:
    """A history on a disk; each change is a chunk, one second after the one before."""

    def __init__(self) -> None:
        self.state = State(index=1)
        self.disk = MemoryDisk(random.Random(1))
        self.files = Files(self.disk, segment_limit=2000)
        self.after = 1

    def change(self, rule: Any, author: str = "unix:0", request: str = "TEST") -> None:
        draft = Draft(self.state)
        rule(draft)
        at = NOON + self.state.index
        change = msgspec.structs.replace(draft.transaction(author, request, 1), at=at)
        applied = machine.apply(self.state, self.state.index + 1, [change])
        self.state = applied.state
        archived = Archived(self.state.index, pack([encode(change)], LEVEL), applied.replaced)
        self.files.write(deque([Chunk(self.after, self.state.index, at, (archived,))]), sync=True)
        self.after = self.state.index

    def skip(self, count: int) -> None:
        """A snapshot was installed."""
        self.state = machine.apply(self.state, self.state.index + count, []).state
        self.after = self.state.index

    def ask(self, **values: str) -> Found:
        return find(self.disk, ask(values, View(self.state)))


def _profile(name: str, description: str) -> Any:
    def rule(draft: Draft) -> None:
        id = draft.find("profile", name)
        if id is None:
            draft.name("profile", name, id := f"id-{name}")
        draft.put(PROFILES, id, Profile(name=name, description=description))

    return rule


@pytest.fixture
def told() -> Told:
    """Indexes 2 to 21: profiles a and b in turn, by two authors."""
    made = Told()
    for number in range(20):
        name = "ab"[number % 2]
        made.change(_profile(name, str(number)), author=f"unix:{number % 3}", request=f"PUT /1.0/profiles/{name}")
    return made


def _indexes(found: Found) -> list[int]:
    return [row.index for row in found.entries]


def test_the_last_rows_without_since_the_first_with_it(told: Told) -> None:
    assert _indexes(told.ask(limit="3")) == [19, 20, 21]
    assert _indexes(told.ask(since="5", limit="3")) == [6, 7, 8]
    assert _indexes(told.ask(since="18")) == [19, 20, 21]
    assert _indexes(told.ask(until="4")) == [2, 3, 4]
    assert told.ask().gaps == told.ask(since="3").gaps == []


def test_times_are_taken_as_well(told: Told) -> None:
    moment = entries.datetime.fromtimestamp(NOON + 10, entries.UTC)
    assert _indexes(told.ask(since=moment.isoformat())) == list(range(11, 22))
    assert _indexes(told.ask(since=moment.isoformat().replace("+00:00", ""), limit="2")) == [11, 12]
    assert _indexes(told.ask(until=moment.isoformat().replace("+00:00", "Z"))) == list(range(2, 12))


@pytest.mark.parametrize("object", ["/1.0/profiles/b", "/1.0/profiles/b/", "profiles//id-b", "id-b"])
def test_rows_of_one_object(told: Told, object: str) -> None:
    assert _indexes(told.ask(object=object)) == list(range(3, 22, 2))
    told.change(_profile("b", "by the daemon"), request="start")
    assert _indexes(told.ask(object=object))[-1] == 22
    assert told.ask(object="/1.0/profiles/c").entries == []


def test_rows_of_one_author(told: Told) -> None:
    assert _indexes(told.ask(author="unix:1", since="10")) == [12, 15, 18, 21]


def test_a_row_has_the_documents_before_and_after(told: Told) -> None:
    (row,) = told.ask(since="3", limit="1").entries
    assert (row.author, row.request, row.at) == ("unix:2", "PUT /1.0/profiles/a", "2027-01-15T08:00:03+00:00")
    (change,) = row.changes
    assert (change.key, change.before["description"], change.after["description"]) == ("profiles//id-a", "0", "2")
    created = told.ask(since="1", limit="1").entries[0].changes
    assert [one.before for one in created] == [None, None]
    told.change(lambda draft: draft.delete(PROFILES, "id-a"))
    (deleted,) = told.ask(since="21").entries[0].changes
    assert deleted.after is None and deleted.before["description"] == "18"


def test_what_is_secret_or_large_is_not_shown(told: Told) -> None:
    told.change(lambda draft: draft.put(SETTINGS, "core.trust_password", Setting(value="hash"), CLUSTER))
    told.change(_profile("a", "x" * LARGE))
    secret, large = told.ask(since="21").entries
    assert (secret.changes[0].before, secret.changes[0].after) == (None, HIDDEN)
    assert large.changes[0].after == f"({LARGE + 40} bytes)" and large.changes[0].before["description"] == "18"


def test_gaps_are_told_where_they_are(told: Told) -> None:
    told.skip(9)
    told.change(_profile("a", "after"))
    told.change(_profile("a", "the gap"))
    assert told.ask(since="19").gaps == told.ask(limit="3").gaps == [(21, 30)]
    assert told.ask(limit="2").gaps == told.ask(since="3", limit="9").gaps == []
    assert told.ask(since="25").gaps == [(25, 30)]
    told.files.prune(NOON + 60 * 86400)
    told.change(_profile("a", "young"))
    assert told.ask(since="0").gaps == [(1, 32)]


@pytest.mark.parametrize(
    "values", [{"since": "soon"}, {"until": "1.5x"}, {"until": "9" * 5000}, {"limit": "0"}, {"limit": "9999"}]
)
def test_a_wrong_question_is_refused(told: Told, values: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=next(iter(values))):
        told.ask(**values)
