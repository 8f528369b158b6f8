"""The rules of containers as functions from a snapshot to a transaction: names, claims, references, volatile keys."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lxdnode.drivers.host.idmap import Range, decode
from lxdnode.node.containers import names, rules, sizes, volatile
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import CONTAINERS, KIND, RUNNING, STATUS, STOPPED, user
from lxdnode.node.documents import CLAIMS, REFS, Draft, View
from lxdnode.node.errors import Invalid, NodeError, NotFound
from lxdnode.node.profiles import rules as profiles
from lxdnode.node.profiles.records import Profile, reference
from lxdnode.node.storage.records import KIND as POOL
from lxdnode.node.storage.records import POOLS, Pool
from lxdnode.raft.machine import apply
from lxdnode.raft.state import State

T = TypeVar("T")
ROOT = {"root": {"type": "disk", "path": "/", "pool": "default"}}
NIC = {"eth0": {"type": "nic", "nictype": "p2p"}}
PLACE = rules.Place(1, 7, Range(100_000, 10 * 65_536))


class World:
    """Documents with two pools and the default profile."""

    def __init__(self) -> None:
        self.state = State()
        self.do(lambda draft: profiles.create(draft, Profile(name="default", devices=ROOT | NIC)))
        self.do(_make_pools)

    def do(self, rule: Callable[[Draft], T]) -> T:
        draft = Draft(self.state)
        answer = rule(draft)
        if not draft.is_empty:
            self.state = apply(self.state, self.state.index + 1, [draft.transaction("test", "TEST", 1)]).state
        return answer

    @property
    def view(self) -> View:
        return View(self.state)

    def create(self, id: str, name: str = "", **fields: object) -> None:
        wanted = rules.Wanted(name=name or id, **fields)  # type: ignore[arg-type]
        self.do(lambda draft: rules.reserve(draft, id, wanted, PLACE, "op"))
        self.do(lambda draft: rules.confirm(draft, id))

    def update(self, id: str, **fields: object) -> None:
        old = expand(self.view, id)
        given = {"config": old.local, "devices": old.container.devices, "profiles": old.profiles} | fields
        self.do(lambda draft: rules.update(draft, id, PLACE, **given))  # type: ignore[arg-type]

    def left(self) -> list[object]:
        """Names, references and claims of containers, and their documents."""
        view = self.view
        found: list[object] = list(view.documents("names", f"default/{KIND}"))
        for group in self.state.groups(REFS.name):
            found += [name for name in view.documents(REFS.name, group) if name.startswith("container:")]
        for group in self.state.groups(CLAIMS.name):
            found += view.documents(CLAIMS.name, group)
        return [*found, *view.documents(CONTAINERS.name, ""), *view.documents(STATUS.name, "")]


def _make_pools(draft: Draft) -> None:
    for id, name in (("p1", "default"), ("p2", "other")):
        draft.put(POOLS, id, Pool(name=name, driver="dir"))
        draft.name(POOL, name, id)


@pytest.fixture
def world() -> World:
    return World()


# Names and instance types


@pytest.mark.parametrize("name", ["a", "A1", "a-b", "c" * 63])
def test_names_that_are_hostnames(name: str) -> None:
    names.check(name)


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "a.b", "a_b", "ä", "c" * 64, "a\n"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(NodeError, match=r"^Container name isn't a valid hostname\.$"):
        names.check(name)


def test_a_name_is_drawn_that_nobody_bears() -> None:
    assert names.draw(lambda name: False).count("-") == 1
    with pytest.raises(NodeError, match="after 100 tries"):
        names.draw(lambda name: True)


def test_instance_types() -> None:
    assert sizes.limits("c2-m4") == {"limits.cpu": "2", "limits.memory": "4096MB"}
    assert sizes.limits("c0.5-m0.2") == {
        "limits.cpu": "1",
        "limits.cpu.allowance": "50%",
        "limits.memory": "204MB",
    }
    assert sizes.limits("gce:f1-micro") == {"limits.cpu": "1", "limits.cpu.allowance": "20%", "limits.memory": "614MB"}
    with pytest.raises(Invalid, match="^Bad instance type: a:b:c$"):
        sizes.limits("a:b:c")
    for wrong in ("", "gce:t2.micro", "c", "-", "m-c"):
        with pytest.raises(Invalid, match="Provided instance type doesn't exist"):
            sizes.limits(wrong)


# Creation


def test_a_new_container_has_its_volatile_keys(world: World) -> None:
    world.create("c1")
    found = expand(world.view, "c1")
    assert found.container.phase == "created" and found.container.pool == "default"
    keys = found.status.volatile
    assert keys["volatile.eth0.name"] == "eth0" and keys["volatile.eth0.hwaddr"].startswith("00:16:3e:")
    assert keys["volatile.apply_template"] == "create" and keys["volatile.last_state.idmap"] == "[]"
    assert decode(keys["volatile.idmap.next"]) == PLACE.range.whole()  # type: ignore[union-attr]


def test_addresses_are_never_drawn_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"\0\0\1", b"\0\0\1", b"\0\0\2"])
    monkeypatch.setattr(volatile.secrets, "token_bytes", lambda count: next(drawn))
    for id in ("c1", "c2"):
        world.create(id)
    addresses = [expand(world.view, id).status.volatile["volatile.eth0.hwaddr"] for id in ("c1", "c2")]
    assert addresses == ["00:16:3e:00:00:01", "00:16:3e:00:00:02"]


def test_isolated_maps_are_disjoint_and_come_back(world: World) -> None:
    isolated = {"security.idmap.isolated": "true"}
    for id in ("c1", "c2"):
        world.create(id, config=isolated)
    world.create("c3", config=isolated | {"security.idmap.size": "131072"})
    bases = [int(expand(world.view, id).status.volatile["volatile.idmap.base"]) for id in ("c1", "c2", "c3")]
    assert bases == [100_000 + 65_536 * slot for slot in (1, 2, 3)]
    world.do(lambda draft: rules.forget(draft, "c2"))
    world.create("c4", config=isolated)
    assert expand(world.view, "c4").status.volatile["volatile.idmap.base"] == str(bases[1])
    with pytest.raises(NodeError, match=r"^Not enough uid/gid available for the container\.$"):
        world.create("c5", config=isolated | {"security.idmap.size": str(9 * 65_536)})


def test_a_host_without_ids_runs_privileged_containers_only(world: World) -> None:
    bare = rules.Place(1, 7, None)
    wanted = rules.Wanted("c1")
    with pytest.raises(NodeError, match="^LXD doesn't have a uid/gid allocation"):
        world.do(lambda draft: rules.reserve(draft, "c1", wanted, bare, ""))
    privileged = rules.Wanted("c1", config={"security.privileged": "true"})
    world.do(lambda draft: rules.reserve(draft, "c1", privileged, bare, ""))
    assert expand(world.view, "c1").status.volatile["volatile.idmap.next"] == "[]"


def test_who_gave_a_pending_container_up_is_told(world: World) -> None:
    world.do(lambda draft: rules.reserve(draft, "c1", rules.Wanted("c1"), PLACE, "op"))
    world.do(lambda draft: rules.forget(draft, "c1"))
    with pytest.raises(NotFound):
        world.do(lambda draft: rules.confirm(draft, "c1"))
    assert world.left() == []


# Changes


def test_what_says_how_the_disk_is_survives_a_put_that_leaves_it_out(world: World) -> None:
    world.create("c1")
    before = expand(world.view, "c1").status.volatile
    world.update("c1", config={"user.a": "1"})
    after = expand(world.view, "c1").status.volatile
    kept = {key for key in before if key.startswith(("volatile.last_state.", "volatile.idmap."))}
    assert kept and {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["volatile.eth0.hwaddr"] != before["volatile.eth0.hwaddr"]  # Dropped keys are drawn anew.
    assert "volatile.apply_template" not in after


def test_a_nic_that_goes_gives_its_address_back(world: World) -> None:
    world.create("c1")
    claimed = list(world.view.documents(CLAIMS.name, volatile.MACS))
    world.update("c1", devices={"eth0": {"type": "none"}})
    assert list(world.view.documents(CLAIMS.name, volatile.MACS)) == []
    world.update("c1", devices={"eth0": {"type": "nic", "nictype": "p2p", "hwaddr": claimed[0]}})
    assert "volatile.eth0.hwaddr" not in expand(world.view, "c1").status.volatile


def test_root_disks_stay_where_they_are(world: World) -> None:
    world.do(lambda draft: profiles.create(draft, Profile(name="bare")))
    other = {"root": {"type": "disk", "path": "/", "pool": "other"}}
    world.do(lambda draft: profiles.create(draft, Profile(name="other", devices=other)))
    world.create("c1", devices=ROOT)
    for fields, words in [
        ({"devices": {}, "profiles": ["bare"]}, "rely on a profile's root disk device but none was found"),
        ({"devices": other}, "The new local root disk device would change the storage pool"),
        ({"devices": {}, "profiles": ["other"]}, "Using the profile's root disk device would change the storage pool"),
    ]:
        with pytest.raises(NodeError, match=words):
            world.update("c1", **fields)


def test_transitions_change_the_status_and_nothing_else(world: World) -> None:
    world.create("c1")
    revision = world.view.revision(CONTAINERS, "c1")
    world.do(lambda draft: rules.transition(draft, "c1", RUNNING, used_at=5.0, last_state__power="RUNNING"))
    status = world.view.get(STATUS, "c1")
    assert status is not None and (status.state, status.last_used_at) == (RUNNING, 5.0)
    assert rules.is_running(world.view, "c1")
    world.do(lambda draft: rules.transition(draft, "c1", STOPPED, apply_template=None))
    assert "volatile.apply_template" not in expand(world.view, "c1").status.volatile
    assert world.view.revision(CONTAINERS, "c1") == revision


# References


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "update", "forget", "rename"]),
            st.sampled_from(["a", "b"]),
            st.lists(st.sampled_from(["default", "x", "y"]), unique=True, max_size=3),
        ),
        max_size=12,
    )
)
def test_references_equal_a_full_scan(steps: list[tuple[str, str, list[str]]]) -> None:
    world = World()
    for name in ("x", "y"):
        world.do(lambda draft, name=name: profiles.create(draft, Profile(name=name)))  # type: ignore[misc]
    for step, id, chosen in steps:
        exists = world.view.get(CONTAINERS, id) is not None
        if step == "create" and not exists:
            world.create(id, devices=ROOT, profiles=chosen)
        elif step == "update" and exists:
            world.update(id, profiles=chosen)
        elif step == "rename" and exists:
            world.do(lambda draft, id=id: rules.rename(draft, id, expand(draft, id).name + "n"))  # type: ignore[misc]
        elif step == "forget":
            world.do(lambda draft, id=id: rules.forget(draft, id))  # type: ignore[misc]
        view = world.view
        for name in ("default", "x", "y"):
            profile = profiles.find(view, name)[0]
            users = [user(one) for one, container in view.all(CONTAINERS) if profile in container.profiles]
            assert view.users(reference(profile)) == users
    for id in ("a", "b"):
        world.do(lambda draft, id=id: rules.forget(draft, id))  # type: ignore[misc]
    assert world.left() == []
