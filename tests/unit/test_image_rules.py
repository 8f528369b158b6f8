"""Images and aliases as their documents show them: names, holders, and the way to the end."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.images import rules
from lxdnode.node.images.records import IMAGES, USES, Image, Use
from lxdnode.node.images.updates import expired
from lxdnode.raft.machine import apply
from lxdnode.raft.state import State

T = TypeVar("T")
ONE, TWO = "aa" * 32, "ab" * 32


class World:
    """Two images: one on members 1 and 2, a public one on member 1."""

    def __init__(self) -> None:
        self.state = State()
        self.do(lambda draft: rules.add(draft, ONE, Image(size=1, architecture="x86_64"), 1))
        self.do(lambda draft: rules.place(draft, ONE, 2))
        self.do(lambda draft: rules.add(draft, TWO, Image(size=2, architecture="x86_64", public=True), 1))

    def do(self, rule: Callable[[Draft], T]) -> T:
        draft = Draft(self.state)
        answer = rule(draft)
        self.state = apply(self.state, self.state.index + 1, [draft.transaction("test", "TEST", 1)]).state
        return answer

    @property
    def view(self) -> View:
        return View(self.state)


@pytest.fixture
def world() -> World:
    return World()


def test_an_image_is_found_by_the_beginning_of_its_fingerprint(world: World) -> None:
    assert rules.find(world.view, "aaa")[0] == ONE
    assert rules.find(world.view, TWO)[0] == TWO
    with pytest.raises(NodeError, match="Partial fingerprint matches more than one image"):
        rules.find(world.view, "a")
    for nobody in ("ff", "", "AA", "x" * 64, "a" * 65):
        with pytest.raises(NotFound):
            rules.find(world.view, nobody)
    assert rules.find(world.view, "a", public_only=True)[0] == TWO


def test_an_image_is_there_once(world: World) -> None:
    with pytest.raises(AlreadyExists, match="Image with same fingerprint already exists"):
        world.do(lambda draft: rules.add(draft, ONE, Image(size=1, architecture="x86_64"), 3))


def test_a_deleted_image_goes_with_its_last_files(world: World) -> None:
    world.do(lambda draft: rules.create_alias(draft, "a", ONE[:10], ""))
    world.do(lambda draft: rules.use(draft, ONE))
    world.do(lambda draft: rules.condemn(draft, ONE))
    assert [one for one, _image in rules.all_images(world.view)] == [TWO]
    with pytest.raises(NotFound):
        rules.find_alias(world.view, "a")
    with pytest.raises(NotFound):
        rules.find(world.view, ONE)
    world.do(lambda draft: rules.displace(draft, ONE, 1))
    assert world.view.get(IMAGES, ONE) is not None
    world.do(lambda draft: rules.displace(draft, ONE, 2))
    assert world.view.get(IMAGES, ONE) is None and world.view.get(USES, ONE) is None


def test_an_image_that_comes_again_while_it_is_deleted_stays(world: World) -> None:
    world.do(lambda draft: rules.condemn(draft, ONE))
    world.do(lambda draft: rules.add(draft, ONE, Image(size=1, architecture="x86_64"), 3))
    world.do(lambda draft: rules.displace(draft, ONE, 1))
    world.do(lambda draft: rules.displace(draft, ONE, 2))
    assert rules.holders(world.view, ONE) == [3] and rules.find(world.view, ONE)


def test_files_of_an_image_that_is_gone_are_not_placed(world: World) -> None:
    with pytest.raises(NotFound):
        world.do(lambda draft: rules.place(draft, "cc" * 32, 1))


def test_an_alias_moves_between_images(world: World) -> None:
    world.do(lambda draft: rules.create_alias(draft, "a/b", ONE, "d"))
    with pytest.raises(AlreadyExists, match="Alias 'a/b' already exists"):
        world.do(lambda draft: rules.create_alias(draft, "a/b", TWO, ""))
    world.do(lambda draft: rules.replace_alias(draft, "a/b", TWO, "e"))
    assert rules.aliases(world.view, ONE) == []
    assert [(alias.name, alias.description) for alias in rules.aliases(world.view, TWO)] == [("a/b", "e")]
    world.do(lambda draft: rules.create_alias(draft, "c", ONE, ""))
    with pytest.raises(AlreadyExists, match="Alias 'c' already in use"):
        world.do(lambda draft: rules.rename_alias(draft, "a/b", "c"))
    with pytest.raises(Invalid, match="The target field is required"):
        world.do(lambda draft: rules.replace_alias(draft, "c", "", ""))
    with pytest.raises(NodeError, match="Alias already exists: c"):
        world.do(lambda draft: rules.create_aliases(draft, TWO, [("new", ""), ("c", "")]))
    with pytest.raises(NotFound):
        rules.find_alias(world.view, "new")


def test_uses_within_a_minute_are_written_once(world: World) -> None:
    world.do(lambda draft: rules.use(draft, ONE))
    before = world.state
    world.do(lambda draft: rules.use(draft, ONE))
    assert world.view.get(USES, ONE) == View(before).get(USES, ONE)


def test_a_newer_image_gets_what_belonged_to_the_older_one(world: World) -> None:
    world.do(lambda draft: rules.create_alias(draft, "x", ONE, "d"))
    world.do(lambda draft: rules.use(draft, ONE))
    world.do(lambda draft: rules.supersede(draft, ONE, TWO))
    [alias] = rules.aliases(world.view, TWO)
    assert (alias.name, alias.description) == ("x", "d")
    assert world.view.get(USES, TWO) is not None and world.view.get(USES, ONE) is None
    assert [one for one, _image in rules.all_images(world.view)] == [TWO]
    with pytest.raises(NotFound):
        world.do(lambda draft: rules.supersede(draft, ONE, TWO))


def test_an_image_of_a_container_expires_when_it_was_not_used_for_long(world: World) -> None:
    for fingerprint, cached, uploaded, used in (
        ("1" * 64, True, 50.0, 0.0),
        ("2" * 64, True, 0.0, 100.0),
        ("3" * 64, False, 0.0, 0.0),
    ):
        image = Image(size=1, architecture="x86_64", cached=cached, uploaded_at=uploaded)
        world.do(lambda draft, of=fingerprint, image=image: rules.add(draft, of, image, 1))
        if used:
            world.do(lambda draft, of=fingerprint, used=used: draft.put(USES, of, Use(last_used_at=used)))
    day = 86400.0
    assert list(expired(world.view, 1, 49.0 + day)) == []
    assert list(expired(world.view, 1, 50.0 + day)) == ["1" * 64]
    assert list(expired(world.view, 1, 100.0 + day)) == ["1" * 64, "2" * 64]
    assert list(expired(world.view, 0, 100.0 * day)) == []
