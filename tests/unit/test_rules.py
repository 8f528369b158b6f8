"""The rules of server settings, certificates, profiles and members, as functions from a snapshot to a transaction."""

import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest

from lxdnode.node.certificates import rules as certificates
from lxdnode.node.cluster import rules as cluster
from lxdnode.node.cluster.accept import check_certificate
from lxdnode.node.cluster.records import MEMBERS, Member
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Forbidden, Invalid, NodeError, NotFound
from lxdnode.node.keypair import make
from lxdnode.node.profiles import rules as profiles
from lxdnode.node.profiles.records import Profile, reference
from lxdnode.node.server import rules as server
from lxdnode.node.server.keys import PASSWORD, hash_password, matches_password, render, with_port
from lxdnode.raft.machine import apply
from lxdnode.raft.state import State
from lxdnode.raft.transaction import LEVEL

OWN = make()
T = TypeVar("T")


class World:
    """Documents to try rules on."""

    def __init__(self) -> None:
        self.state = State()

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


# Server settings


def patch(world: World, **values: object) -> set[str]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return world.do(lambda draft: server.change(draft, 1, named, "00ff", replace=False))


def test_a_setting_at_its_default_is_not_stored(world: World) -> None:
    assert patch(world, images__auto_update_interval="6") == set()
    assert patch(world, images__auto_update_interval="7") == {"images.auto_update_interval"}
    assert server.effective(world.view, 1) == {"images.auto_update_interval": "7"}
    patch(world, images__auto_update_interval="")
    assert server.effective(world.view, 1) == {}


def test_put_resets_what_it_does_not_name_and_keeps_a_password_given_back_as_true(world: World) -> None:
    patch(world, core__proxy_http="http://x", core__trust_password="secret")
    world.do(lambda draft: server.change(draft, 1, {PASSWORD: True}, "", replace=True))
    assert server.effective(world.view, 1) == {PASSWORD: "00ff"}
    assert render(server.effective(world.view, 1)) == {PASSWORD: True}
    world.do(lambda draft: server.change(draft, 1, {}, "", replace=True))
    assert server.effective(world.view, 1) == {}


def test_member_keys_are_those_of_one_member(world: World) -> None:
    patch(world, core__https_address="192.0.2.1")
    assert server.value_of(world.view, 1, "core.https_address") == "192.0.2.1:8443"
    assert server.value_of(world.view, 2, "core.https_address") == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"core.nothing": "x"}, "cannot set 'core.nothing' to 'x': unknown key"),
        (
            {"core.https_allowed_credentials": "x"},
            "cannot set 'core.https_allowed_credentials' to 'x': invalid boolean",
        ),
        (
            {"cluster.history_days": "-1"},
            "cannot set 'cluster.history_days' to '-1': value must not be negative",
        ),
        (
            {"cluster.offline_threshold": "2"},
            "cannot set 'cluster.offline_threshold' to '2': value must be greater than '4'",
        ),
        ({"cluster.offline_threshold": 2}, "cannot set 'cluster.offline_threshold': invalid type float64"),
        ({"a": "1", "b": "2"}, "cannot set 'a' to '1': unknown key (and 1 more errors)"),
        (
            {"storage.zfs_pool_name": "x"},
            "cannot set 'storage.zfs_pool_name' to 'x': deprecated: use storage pool configuration",
        ),
        (
            {"images.compression_algorithm": "nosuchtool"},
            "cannot set 'images.compression_algorithm' to 'nosuchtool': "
            'exec: "nosuchtool": executable file not found in $PATH',
        ),
    ],
)
def test_wrong_settings_are_refused_in_lxds_words(world: World, values: dict[str, object], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        world.do(lambda draft: server.change(draft, 1, values, "", replace=False))
    assert str(caught.value) == words


def test_addresses_get_a_port() -> None:
    assert [with_port(text) for text in ("", "h", "h:1", "[::1]", "[::1]:9", "fe80::1", ":9", "h:")] == [
        "", "h:8443", "h:1", "[::1]:8443", "[::1]:9", "[fe80::1]:8443", ":9", "h:8443",
    ]  # fmt: skip


def test_a_password_matches_its_hash_and_no_other() -> None:
    stored = hash_password("secret")
    assert matches_password(stored, "secret")
    assert not matches_password(stored, "Secret")
    assert "secret" not in stored


@pytest.mark.parametrize(
    ("listening", "given", "address"),
    [
        ("192.0.2.1:8443", "", "192.0.2.1:8443"),
        ("[::]:8443", "192.0.2.1:8443", "192.0.2.1:8443"),
        (":8443", "", None),
        ("", "", None),
        ("192.0.2.1:8443", "192.0.2.2:8443", "192.0.2.2:8443"),
        ("", "192.0.2.1:9443", "192.0.2.1:9443"),
    ],
)
def test_a_member_advertises_an_address_that_others_reach(listening: str, given: str, address: str | None) -> None:
    config = {"core.https_address": listening, "cluster.https_address": given}
    if address is not None:
        assert server.advertised(config) == address
    else:
        with pytest.raises(Invalid):
            server.advertised(config)


@pytest.mark.parametrize(
    ("listening", "given", "addresses"),
    [
        ("", "", ()),
        ("192.0.2.1:8443", "", ("192.0.2.1:8443",)),
        ("", "192.0.2.1:8443", ("192.0.2.1:8443",)),
        ("192.0.2.1:8443", "192.0.2.1:8443", ("192.0.2.1:8443",)),
        ("192.0.2.1:8443", "192.0.2.2:8443", ("192.0.2.1:8443", "192.0.2.2:8443")),
        ("[::]:8443", "192.0.2.1:8443", ("[::]:8443",)),
        (":8443", "[2001:db8::1]:8443", (":8443",)),
        ("[::]:8443", "192.0.2.1:9443", ("[::]:8443", "192.0.2.1:9443")),
        ("0.0.0.0:8443", "192.0.2.1:8443", ("0.0.0.0:8443",)),
        ("0.0.0.0:8443", "[2001:db8::1]:8443", ("0.0.0.0:8443", "[2001:db8::1]:8443")),
    ],
)
def test_the_cluster_has_a_listener_of_its_own_unless_the_first_covers_it(
    listening: str, given: str, addresses: tuple[str, ...]
) -> None:
    assert server.listened({"core.https_address": listening, "cluster.https_address": given}) == addresses


@pytest.mark.parametrize("address", ["[::]:8443", "0.0.0.0", "::", ":8443"])
def test_the_address_for_the_members_is_no_wildcard(world: World, address: str) -> None:
    with pytest.raises(Invalid, match="Wildcard addresses aren't allowed$"):
        patch(world, cluster__https_address=address)


# Certificates


def test_a_certificate_is_found_by_the_beginning_of_its_fingerprint(world: World) -> None:
    pair = make()
    fingerprint = world.do(lambda draft: certificates.add(draft, pair.der, "laptop"))
    assert fingerprint == pair.fingerprint
    assert certificates.find(world.view, fingerprint[:8])[1].name == "laptop"
    with pytest.raises(Invalid, match="^Certificate already in trust store$"):
        world.do(lambda draft: certificates.add(draft, pair.der, "again"))
    world.do(lambda draft: certificates.remove(draft, fingerprint[:8]))
    with pytest.raises(NotFound):
        certificates.find(world.view, fingerprint)


def test_base64_may_come_in_lines() -> None:
    pair = make()
    assert certificates.decode("\r\n".join(pair.certificate.splitlines()[1:-1])) == pair.der


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(Invalid, match="^invalid certificate material"):
        certificates.decode("AAAA")
    with pytest.raises(Invalid, match="^illegal base64"):
        certificates.decode("-----BEGIN")


# Profiles


def test_a_profile_lives_its_life(world: World) -> None:
    id = world.do(lambda draft: profiles.create(draft, Profile(name="web", config={"user.a": "1"})))
    world.do(lambda draft: profiles.replace(draft, "web", "for the web", {"user.b": "2"}, {}))
    assert profiles.find(world.view, "web") == (
        id,
        Profile(name="web", description="for the web", config={"user.b": "2"}),
    )
    world.do(lambda draft: profiles.rename(draft, "web", "front"))
    assert profiles.find(world.view, "front")[0] == id
    world.do(lambda draft: profiles.remove(draft, "front"))
    with pytest.raises(NotFound):
        profiles.find(world.view, "front")


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "No name provided"), ("a/b", "Profile names may not contain slashes"), ("..", "Invalid profile name '..'")],
)
def test_wrong_profile_names_are_refused(world: World, name: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        world.do(lambda draft: profiles.create(draft, Profile(name=name)))
    assert str(caught.value) == words


def test_a_profile_in_use_stays_and_the_default_one_always(world: World) -> None:
    id = world.do(lambda draft: profiles.create(draft, Profile(name="web")))
    world.do(lambda draft: draft.refer(reference(id), "container:1"))
    with pytest.raises(Invalid, match="^Profile is currently in use$"):
        world.do(lambda draft: profiles.remove(draft, "web"))
    world.do(lambda draft: profiles.create(draft, Profile(name="default")))
    with pytest.raises(Forbidden, match="cannot be deleted"):
        world.do(lambda draft: profiles.remove(draft, "default"))
    with pytest.raises(Forbidden, match="cannot be renamed"):
        world.do(lambda draft: profiles.rename(draft, "default", "x"))


def test_bad_content_is_a_400_at_creation_and_a_500_later_as_lxd_has_it(world: World) -> None:
    with pytest.raises(Invalid, match="Unknown configuration key: nope"):
        world.do(lambda draft: profiles.create(draft, Profile(name="web", config={"nope": "1"})))
    world.do(lambda draft: profiles.create(draft, Profile(name="web")))
    with pytest.raises(NodeError, match="Unknown configuration key: nope") as caught:
        world.do(lambda draft: profiles.replace(draft, "web", "", {"nope": "1"}, {}))
    assert not isinstance(caught.value, Invalid)


# Members


def joiner(name: str = "b", address: str = "192.0.2.2:8443", fingerprint: str = "fb") -> Member:
    return Member(number=0, name=name, address=address, fingerprint=fingerprint)


@pytest.fixture
def clustered(world: World) -> World:
    world.do(lambda draft: cluster.first_member(draft, Member(number=1, voter=True, fingerprint="fa")))
    world.do(lambda draft: cluster.bootstrap(draft, 1, "a", "192.0.2.1:8443", "PEM"))
    return world


def test_bootstrap_names_the_member_and_happens_once(clustered: World) -> None:
    assert cluster.is_clustered(clustered.view)
    assert cluster.named(clustered.view, "a").address == "192.0.2.1:8443"
    with pytest.raises(NodeError, match="^the node is already part of a cluster$"):
        clustered.do(lambda draft: cluster.bootstrap(draft, 1, "c", "192.0.2.1:8443", "PEM"))


def test_a_server_without_an_address_cannot_bootstrap(world: World) -> None:
    world.do(lambda draft: cluster.first_member(draft, Member(number=1, voter=True)))
    with pytest.raises(NodeError, match=r"^no core\.https_address config is set on this node$"):
        world.do(lambda draft: cluster.bootstrap(draft, 1, "a", "", "PEM"))


def test_a_joining_member_is_in_no_list_until_it_has_joined(clustered: World) -> None:
    accepted = clustered.do(lambda draft: cluster.accept(draft, joiner()))
    assert (accepted.number, accepted.phase) == (2, "joining")
    assert [member.name for member in cluster.members(clustered.view)] == ["a"]
    clustered.do(lambda draft: cluster.set_phase(draft, 2, "member"))
    assert [member.name for member in cluster.members(clustered.view)] == ["a", "b"]


def test_a_join_that_broke_off_is_found_by_the_key_of_its_server(clustered: World) -> None:
    assert clustered.do(lambda draft: cluster.accept(draft, joiner())).number == 2
    assert cluster.unfinished_joins(clustered.view, joiner().fingerprint) == [2]
    clustered.do(lambda draft: cluster.set_phase(draft, 2, "member"))
    assert cluster.unfinished_joins(clustered.view, joiner().fingerprint) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (joiner(name="a"), "cluster already has node with name a"),
        (joiner(address="192.0.2.1:8443"), "cluster already has node with address 192.0.2.1:8443"),
        (joiner(address=""), "node address must not be empty"),
        (msgspec.structs.replace(joiner(), level=0), "level mismatch"),
    ],
)
def test_joiners_that_do_not_fit_are_refused(clustered: World, other: Member, words: str) -> None:
    with pytest.raises(Invalid, match=f"^{words}"):
        clustered.do(lambda draft: cluster.accept(draft, other))


@pytest.mark.parametrize("version", [1, 3, 0])
def test_a_certificate_that_nobody_could_read_later_lets_no_server_in(version: int) -> None:
    der = ssl.PEM_cert_to_DER_cert(OWN.certificate)
    check_certificate(der)
    mark = b"\xa0\x03\x02\x01"  # the version, of which 2 stands for X.509 v3
    broken = der.replace(mark + b"\x02", mark + bytes([version]), 1) if version else der[:-30]
    with pytest.raises(Invalid, match="^The certificate of the joining server cannot be read"):
        check_certificate(broken)


def test_the_level_is_what_every_member_reported_at_its_own_start(clustered: World) -> None:
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr("lxdnode.node.cluster.rules.LEVEL", LEVEL + 1)
        clustered.do(lambda draft: cluster.start(draft, 1, OWN, "0.2.0"))
        assert cluster.common_level(clustered.view) == LEVEL + 1
        clustered.do(lambda draft: cluster.accept(draft, joiner()))
        assert cluster.common_level(clustered.view) == LEVEL, "a joining member counts"
        clustered.do(lambda draft: cluster.start(draft, 2, OWN, "0.2.0"))
    assert cluster.common_level(clustered.view) == LEVEL + 1
    clustered.do(_start_of_a_program_that_reports_no_level)
    assert cluster.common_level(clustered.view) == LEVEL
    clustered.do(cluster.raise_level)
    assert clustered.state.level == LEVEL


def _start_of_a_program_that_reports_no_level(draft: Draft) -> None:
    old = cluster.member(draft, 2)
    assert old is not None
    draft.put(MEMBERS, "2", msgspec.structs.replace(old, incarnation=old.incarnation + 1, version="0.1.0"))


def test_what_is_too_old_for_the_level_cannot_join(clustered: World) -> None:
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr("lxdnode.node.cluster.rules.LEVEL", LEVEL + 1)
        clustered.do(lambda draft: cluster.start(draft, 1, OWN, "0.2.0"))
    assert clustered.do(lambda draft: cluster.accept(draft, joiner())).number == 2, "the level is not raised yet"
    clustered.do(lambda draft: cluster.remove(draft, clustered.view.get(MEMBERS, "2") or joiner()))
    clustered.do(cluster.raise_level)
    assert clustered.state.level == LEVEL + 1
    with pytest.raises(Invalid, match="^level mismatch: cluster has 2, the joining server 1: install lxd-node 0.2.0"):
        clustered.do(lambda draft: cluster.accept(draft, joiner()))


def test_a_removed_members_number_is_never_used_again_and_its_name_is_free(clustered: World) -> None:
    clustered.do(lambda draft: cluster.accept(draft, joiner()))
    clustered.do(lambda draft: cluster.set_phase(draft, 2, "member"))
    clustered.do(lambda draft: cluster.remove(draft, cluster.named(draft, "b")))
    assert clustered.do(lambda draft: cluster.accept(draft, joiner())).number == 3


def test_renaming_a_member_follows_lxds_words(clustered: World) -> None:
    with pytest.raises(NodeError, match="expected to update one row, not 0"):
        clustered.do(lambda draft: cluster.rename(draft, "x", "y"))
    with pytest.raises(AlreadyExists, match="^already exists$"):
        clustered.do(lambda draft: cluster.rename(draft, "a", "a"))
    clustered.do(lambda draft: cluster.rename(draft, "a", "z"))
    assert cluster.named(clustered.view, "z").number == 1


def test_a_member_with_containers_or_alone_is_not_removed_without_force(clustered: World) -> None:
    member = cluster.named(clustered.view, "a")
    with pytest.raises(NodeError, match="^node still has the following containers: c1, c2$"):
        cluster.check_removable(clustered.view, member, ["c1", "c2"], [])
    with pytest.raises(NodeError, match="^node still has the following images: f1$"):
        cluster.check_removable(clustered.view, member, [], ["f1"])
    with pytest.raises(NodeError, match="^node is the only node in the cluster$"):
        cluster.check_removable(clustered.view, member, [], [])
