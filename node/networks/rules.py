"""What may be written about networks (spec/networks.md 8 and 9, spec/rest.md 7)."""

from collections.abc import Mapping

import msgspec

from lxdnode.drivers.config.key import InvalidKey
from lxdnode.drivers.network import keys
from lxdnode.node.cluster.rules import is_clustered
from lxdnode.node.containers.records import CONTAINERS
from lxdnode.node.definitions import rules as definitions
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.networks import users
from lxdnode.node.networks.records import KIND, NETWORKS, NOUN, Network
from lxdnode.node.profiles.records import PROFILES

IN_USE = "The network is currently in use"


def reference(id: str) -> str:
    """The group in which the users of a network are recorded."""
    return f"network:{id}"


def find(view: View, name: str) -> tuple[str, Network]:
    """(id, record) of a network by name. NotFound when it is not managed."""
    return view.named(NETWORKS, KIND, name)


def find_id(view: View, name: str) -> str | None:
    """The id of a network by name, or None for one that is not managed."""
    return view.find(KIND, name) if name else None


def check_new(name: str, kind: str, config: Mapping[str, str]) -> None:
    """Refuses what cannot become a network. Invalid with LXD's words."""
    try:
        keys.check_name(name)
        if kind not in ("", "bridge"):
            raise InvalidKey("Only 'bridge' type networks can be created")
        keys.check(name, config)
    except ValueError as error:
        raise Invalid(str(error)) from None


def define(draft: Draft, network: Network, member: int, config: Mapping[str, str]) -> None:
    """Names a member for a network that a later request creates."""
    definitions.define(NOUN, draft, network, member, config)


def begin(draft: Draft, network: Network, me: int) -> str:
    """Has every member make its part of a network; returns the id. The description of the definition stays when the
    request has none."""
    id = draft.find(KIND, network.name)
    known = draft.get(NETWORKS, id) if id else None
    if known is not None and not network.description:
        network = msgspec.structs.replace(network, description=known.description)
    try:
        return definitions.begin(NOUN, draft, network, me)
    except AlreadyExists as error:
        raise Invalid(str(error)) from None


def shown_config(view: View, network: Network, me: int, target: int | None) -> dict[str, str]:
    """A network's configuration as a client sees it: member keys only of a target, or where there is one member."""
    if target is not None:
        return network.whole(target)
    return dict(network.config) if is_clustered(view) else network.whole(me)


def replace(draft: Draft, id: str, description: str, config: Mapping[str, str], me: int) -> bool:
    """Gives a network another configuration; returns whether members have something to do for it."""
    network = draft.get(NETWORKS, id)
    if network is None or network.phase == "deleting":
        raise NotFound
    own = NOUN.keys.member_keys(config)
    if is_clustered(draft):
        for key in own:
            raise Invalid(f"node-specific config key {key} can't be changed")
        own = network.part(me).config
    own = {key: value for key, value in own.items() if value}
    new = {key: value for key, value in config.items() if value}
    try:
        keys.check(network.name, new)
    except InvalidKey as error:
        raise Invalid(str(error)) from None
    old = network.whole(me)
    new |= own
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    acts = any(not key.startswith("user.") for key in changed)
    shared = {key: value for key, value in new.items() if key not in own}
    definitions.change(NOUN, draft, id, description, shared, acts)
    definitions.set_own(NOUN, draft, id, me, own)
    return acts


def restore(draft: Draft, id: str, before: Network, me: int) -> None:
    """Puts the configuration back that a change could not replace."""
    definitions.change(NOUN, draft, id, before.description, before.config, True)
    definitions.set_own(NOUN, draft, id, me, before.part(me).config)


def is_used(draft: Draft, name: str) -> bool:
    """Whether a container is on a network. What is written meanwhile to any container or profile is a conflict."""
    draft.documents(CONTAINERS.name, "")
    draft.documents(PROFILES.name, "")
    # The scan itself must not expect each of the thousands of documents that it reads.
    return bool(users.containers(draft.peek, name))


def rename(draft: Draft, name: str, new: str) -> str:
    """Gives a network another name; returns the id. Profiles and containers that name it are not changed."""
    if is_clustered(draft):
        raise Invalid("Renaming a network not supported in LXD clusters")
    id, network = find(draft, name)
    check_new(new, "bridge", network.config)
    if is_used(draft, name):
        raise NodeError(IN_USE)
    draft.name(KIND, new, id, f"Network '{new}' already exists")
    draft.unname(KIND, name)
    draft.put(NETWORKS, id, msgspec.structs.replace(network, name=new, version=network.version + 1))
    return id


def remove(draft: Draft, name: str) -> str:
    """Has every member remove its part of a network that nobody uses; returns the id. Invalid with LXD's words."""
    id, _network = find(draft, name)
    if is_used(draft, name):
        raise Invalid(IN_USE)
    definitions.condemn(NOUN, draft, id)
    return id
