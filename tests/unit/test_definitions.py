"""The life of definitions (networks, pools) as their documents show it: phases, parts and members that come and go."""

import random
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdnode.node.cluster.records import KIND as MEMBER
from lxdnode.node.cluster.records import MEMBERS, Member, Phase
from lxdnode.node.definitions import rules
from lxdnode.node.definitions.records import Part
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError
from lxdnode.node.storage.records import NOUN, POOLS, Pool
from lxdnode.raft.machine import apply
from lxdnode.raft.state import State

T = TypeVar("T")


class World:
    """Three members that serve, and what is defined."""

    def __init__(self) -> None:
        self.state = State()
        for number in (1, 2, 3):
            self.member(number)

    def do(self, rule: Callable[[Draft], T]) -> T:
        draft = Draft(self.state)
        answer = rule(draft)
        self.state = apply(self.state, self.state.index + 1, [draft.transaction("test", "TEST", 1)]).state
        return answer

    def member(self, number: int, phase: Phase = "member") -> None:
        record = Member(number=number, name=f"m{number}", phase=phase)
        self.do(lambda draft: draft.put(MEMBERS, str(number), record))

    def begin(self, **config: str) -> str:
        return self.do(lambda draft: rules.begin(NOUN, draft, Pool(name="p", config=config), 1))

    def define(self, number: int, **config: str) -> None:
        self.do(lambda draft: rules.define(NOUN, draft, Pool(name="p"), number, config))

    def report(self, id: str, number: int, reason: str = "") -> None:
        record = self.pool(id)
        part = Part(state="errored" if reason else "created", reason=reason, seen=record.version)
        self.do(lambda draft: rules.report(NOUN, draft, id, number, part))

    def finish(self, id: str, *reachable: int) -> dict[str, str]:
        return self.do(lambda draft: rules.finish(NOUN, draft, id, reachable or (1, 2, 3)))

    def condemn(self, id: str) -> None:
        self.do(lambda draft: rules.condemn(NOUN, draft, id))

    def forget(self, id: str, number: int | None) -> None:
        self.do(lambda draft: rules.forget(NOUN, draft, id, number))

    @property
    def view(self) -> View:
        return View(self.state)

    def exists(self, id: str) -> bool:
        return self.view.get(POOLS, id) is not None

    def pool(self, id: str) -> Pool:
        found = self.view.get(POOLS, id)
        assert found is not None
        return found


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_created_when_those_that_can_be_reached_have_made_it(world: World) -> None:
    id = world.begin()
    assert world.pool(id).phase == "creating" and rules.status(world.pool(id)) == "Pending"
    world.report(id, 1)
    assert not rules.is_reported(world.pool(id), [1, 2])
    world.report(id, 2)
    assert rules.is_reported(world.pool(id), [1, 2])
    assert world.finish(id, 1, 2) == {}
    assert world.pool(id).phase == "created" and rules.status(world.pool(id)) == "Created"
    assert world.pool(id).part(3).state == "pending"


def test_a_member_that_fails_is_named_and_all_remove_their_parts(world: World) -> None:
    id = world.begin()
    world.report(id, 1)
    world.report(id, 2, "no room")
    assert world.finish(id) == {"m2": "no room"}
    assert world.pool(id).phase == "deleting" and world.view.find(NOUN.kind, "p") is None
    again = world.begin()  # the name is free at once
    assert again != id
    for number in (3, 1, 2):
        assert world.exists(id)
        world.forget(id, number)
    assert not world.exists(id) and world.exists(again)


def test_one_that_was_away_and_then_fails_is_errored_alone(world: World) -> None:
    id = world.begin()
    world.report(id, 1)
    world.finish(id, 1)
    world.report(id, 3, "no room")
    assert world.pool(id).phase == "created" and rules.status(world.pool(id)) == "Unknown"
    world.report(id, 3)
    assert rules.status(world.pool(id)) == "Created"


def test_the_two_step_way_needs_every_member(world: World) -> None:
    world.define(1, source="/a")
    world.define(2)
    with pytest.raises(Invalid, match="The storage pool already defined on node m2"):
        world.define(2)
    with pytest.raises(NodeError, match="Config key 'user.x' may not be used as node-specific key"):
        world.define(3, **{"user.x": "y"})
    with pytest.raises(NodeError, match="Pool not defined on nodes: m3"):
        world.begin()
    world.define(3)
    with pytest.raises(NodeError, match="Config key 'source' is node-specific"):
        world.begin(source="/b")
    id = world.begin(**{"user.x": "y"})
    assert world.pool(id).whole(1) == {"source": "/a", "user.x": "y"}
    assert world.pool(id).whole(2) == {"user.x": "y"}
    with pytest.raises(NodeError, match="pool is not in pending state"):
        world.define(1)
    with pytest.raises(Invalid, match="The storage pool already exists"):
        world.begin()


def test_what_was_only_defined_goes_at_once(world: World) -> None:
    world.define(1)
    (id, _pool), *_others = world.view.all(POOLS)
    assert rules.locations(world.pool(id), world.view) == ["m1"]
    world.condemn(id)
    assert not world.exists(id)


def test_one_member_alone_takes_its_own_keys(world: World) -> None:
    for number in (2, 3):
        world.member(number, "removed")
    id = world.begin(source="/a", **{"user.x": "y"})
    assert world.pool(id).config == {"user.x": "y"} and world.pool(id).part(1).config == {"source": "/a"}


def test_a_joining_member_gets_its_part_and_one_that_leaves_is_not_waited_for(world: World) -> None:
    id = world.begin()
    world.member(4, "joining")
    world.do(lambda draft: rules.add_member(NOUN, draft, 4, lambda name: {"source": "/d", "x": "", "user.a": "b"}))
    assert world.pool(id).part(4).config == {"source": "/d"}
    assert rules.locations(world.pool(id), world.view) == ["m1", "m2", "m3"]
    world.condemn(id)
    for number in (1, 2, 4):
        world.forget(id, number)
    assert world.exists(id)
    world.member(3, "removed")
    world.forget(id, None)
    assert not world.exists(id)


def test_a_change_is_a_new_version_that_members_report(world: World) -> None:
    id = world.begin()
    for number in (1, 2, 3):
        world.report(id, number)
    world.finish(id)
    world.do(lambda draft: rules.change(NOUN, draft, id, "d", {"rsync.bwlimit": "1"}, acts=True))
    assert not rules.is_reported(world.pool(id), [1])
    world.report(id, 2, "cannot")
    assert rules.failures(world.pool(id), world.view, [1, 2, 3]) == {"m2": "cannot"}
    world.do(lambda draft: rules.change(NOUN, draft, id, "e", {"rsync.bwlimit": "1"}, acts=False))
    assert world.pool(id).version == 2


@given(seed=st.integers(0, 2**32))
def test_in_any_order_it_ends_whole_or_gone(seed: int) -> None:
    """Members fail, are removed, report late or twice: in the end the definition is created everywhere or nowhere."""
    dice, world = random.Random(seed), World()
    id = world.begin()
    acting = [1, 2, 3]
    for _ in range(12):
        number = dice.choice(acting)
        step = dice.choice(["report", "report", "fail", "finish", "leave", "condemn"])
        if not world.exists(id):
            break
        if step == "leave" and len(acting) > 1 and dice.random() < 0.3:
            acting.remove(number)
            world.member(number, "removed")
            world.do(lambda draft, number=number: rules.remove_member(NOUN, draft, number))
        elif step in ("report", "fail") and world.pool(id).phase != "deleting":
            world.report(id, number, "no" if step == "fail" else "")
        elif step == "finish":
            world.finish(id, *acting)
        elif step == "condemn" and dice.random() < 0.2:
            world.condemn(id)
    _settle(world, id, acting)
    if world.exists(id):
        assert world.pool(id).phase == "created"
        assert {number for number, part in world.pool(id).parts.items() if part.state == "created"} == {
            str(number) for number in acting
        }
        assert world.view.find(NOUN.kind, "p") == id
    else:
        assert world.view.find(NOUN.kind, "p") is None


def _settle(world: World, id: str, acting: list[int]) -> None:
    """What the reconcilers and the leader do until nothing is left to do."""
    for _ in range(3):
        for number in acting:
            if world.exists(id) and world.pool(id).phase == "deleting":
                world.forget(id, number)
            elif world.exists(id):
                world.report(id, number)
        if world.exists(id):
            world.finish(id, *acting)
            world.forget(id, None)


def test_a_name_of_another_kind_is_no_matter(world: World) -> None:
    world.do(lambda draft: draft.name(MEMBER, "p", "9"))
    world.begin()
    with pytest.raises(AlreadyExists):
        world.do(lambda draft: draft.name(NOUN.kind, "p", "9"))
