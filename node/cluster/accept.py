"""Letting a server join: what it sends, what it gets, and the check of what it brings (DESIGN.md 3.4).

Owns the cluster's side of a join; the joining server's is `join.py`."""

from collections.abc import Iterable, Mapping

import msgspec
from cryptography import x509

from lxdnode.node.cluster.records import Member
from lxdnode.node.cluster.rules import member
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid, NodeError


class Definition(msgspec.Struct):
    """A pool or a network of the joining server. `driver` is "" for networks."""

    name: str
    config: dict[str, str] = {}
    driver: str = ""


class Joiner(msgspec.Struct):
    """What a joining server says of itself. `member_config` has (entity, name, key, value); when it is empty, `pools`
    and `networks` must match the cluster's (spec/clustering.md 3.2, "preseed form"). `addresses` are its settings that
    say where it is reached."""

    name: str
    address: str
    password: str = ""
    level: int = 1
    version: str = ""
    member_config: list[tuple[str, str, str, str]] = []
    pools: list[Definition] = []
    networks: list[Definition] = []
    addresses: dict[str, str] = {}


class Neighbour(msgspec.Struct):
    """A member as the joining server must know it before it has the documents."""

    number: int
    address: str
    fingerprint: str


class Accepted(msgspec.Struct):
    """What a joining server gets: whose log it will receive, under which number, and the cluster's key pair."""

    cluster: str
    epoch: int
    number: int
    certificate: str
    private_key: str
    members: list[Neighbour]


def neighbours(members: list[Member]) -> list[Neighbour]:
    """The members as a joining server dials and trusts them."""
    return [Neighbour(member.number, member.address, member.fingerprint) for member in members]


def reach(view: View, told: Iterable[Neighbour], number: int) -> tuple[str, set[str]]:
    """(address, fingerprints of its key) of a member, by its document, or before that came by what was told."""
    found = member(view, number)
    if found is not None:
        return found.address, {found.fingerprint, found.next_fingerprint}
    return next(((one.address, {one.fingerprint}) for one in told if one.number == number), ("", set()))


Shared = Mapping[str, tuple[str, Mapping[str, str]]]
"""name -> (driver, configuration without the keys that each member has for itself)."""


def check_same(kind: str, cluster: Shared, joiner: Shared) -> None:
    """Whether a server that brings its own objects of a `kind` ("storage pool", "network") has those of the cluster.

    NodeError with LXD's words; what it has in addition is no error."""
    for name, (driver, config) in sorted(cluster.items()):
        if name not in joiner:
            raise NodeError(f"Missing {kind} {name}")
        own_driver, own_config = joiner[name]
        if own_driver != driver:
            raise NodeError(f"Mismatching driver for {kind} {name}")
        differing = [key for key in sorted({*config, *own_config}) if config.get(key) != own_config.get(key)]
        if differing:
            keys = ", ".join(differing)
            raise NodeError(f"Mismatching config for {kind} {name}: different values for keys: {keys}")


def member_values(joiner: Joiner, entity: str, name: str) -> dict[str, str]:
    """The values that a joiner gives for a pool or network; a name of "" stands for all of that kind."""
    return {key: value for kind, of, key, value in joiner.member_config if kind == entity and of in ("", name)}


def check_certificate(der: bytes) -> None:
    """Invalid for a certificate that nobody here could read later on: its document would be in everybody's way."""
    try:
        x509.load_der_x509_certificate(der).not_valid_after_utc  # noqa: B018 - dates are read when they are asked for
    except (ValueError, x509.InvalidVersion) as error:
        raise Invalid(f"The certificate of the joining server cannot be read: {error}. Give it another one") from None


def check_entities(joiner: Joiner) -> None:
    """Invalid for values of something that is neither a pool nor a network."""
    for entity, name, _key, _value in joiner.member_config:
        if entity not in ("storage-pool", "network"):
            raise Invalid(f"Unknown entity '{entity}' in member_config for '{name}': use storage-pool or network")
