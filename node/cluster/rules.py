"""What may be written about the cluster and its members (spec/clustering.md, DESIGN.md 3.4)."""

from collections.abc import Sequence

import msgspec

from lxdnode.node.cluster.records import CLUSTER, CLUSTERS, KIND, MEMBERS, SERVING, STANDALONE, Cluster, Member, Phase
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.keypair import KeyPair
from lxdnode.raft.transaction import LEVEL


def is_clustered(view: View) -> bool:
    """Whether the store is a cluster: its first member was given a name."""
    cluster = view.get(CLUSTERS, CLUSTER)
    return cluster is not None and cluster.enabled


def shown_pair(view: View) -> KeyPair | None:
    """The key pair that the cluster's servers show, once it was replaced; before that only `cluster.key` has it."""
    cluster = view.get(CLUSTERS, CLUSTER)
    return KeyPair(cluster.certificate, cluster.private_key) if cluster and cluster.private_key else None


def show(draft: Draft, pair: KeyPair) -> None:
    """Has all servers of the cluster show another pair."""
    cluster = draft.get(CLUSTERS, CLUSTER)
    if cluster is None or not cluster.enabled:
        raise Invalid("This server is not in a cluster: lxd-node certificate replaces its own certificate")
    draft.put(CLUSTERS, CLUSTER, msgspec.structs.replace(cluster, certificate=pair.certificate, private_key=pair.key))


def members(view: View) -> list[Member]:
    """The members that serve, by number."""
    return sorted((m for _id, m in view.all(MEMBERS) if m.phase in SERVING), key=lambda member: member.number)


def member(view: View, number: int) -> Member | None:
    """A member by number, whatever its phase."""
    return view.get(MEMBERS, str(number))


def named(view: View, name: str) -> Member:
    """A serving member by name. NotFound with LXD's words."""
    found = next((m for m in members(view) if m.name == name), None)
    if found is None:
        raise NotFound(f"Node '{name}' not found")
    return found


def name_of(view: View, number: int) -> str:
    """The name of a member, as containers and volumes show it in `location`."""
    found = member(view, number)
    return found.name if found else STANDALONE


def first_member(draft: Draft, fresh: Member) -> None:
    """The member of a new store: the only one, and its voter."""
    draft.put(CLUSTERS, CLUSTER, Cluster())
    draft.put(MEMBERS, str(fresh.number), msgspec.structs.replace(fresh, level=LEVEL))
    draft.name(KIND, fresh.name, str(fresh.number))


def start(draft: Draft, number: int, own: KeyPair, version: str) -> Member:
    """Records a start of a member's daemon: a new incarnation, and what may have changed while it was away.

    A member that fell right before the last step of its join takes that step now; one whose store was lost and fetched
    is a member like any other again."""
    old = _known(draft, number)
    new = msgspec.structs.replace(
        old,
        incarnation=old.incarnation + 1,
        level=LEVEL,
        level_of=old.incarnation + 1,
        phase="member" if old.phase in ("joining", "learner") else old.phase,
        fingerprint=own.fingerprint,
        certificate=own.certificate,
        next_fingerprint="",
        version=version,
    )
    draft.put(MEMBERS, str(number), new)
    return new


def announce_key(draft: Draft, number: int, fingerprint: str) -> None:
    """Records that a member is about to take another key: until it has (`take_key`) it is known by both."""
    if any(fingerprint == other.fingerprint for other in members(draft) if other.number != number):
        raise Invalid("This certificate is another member's")
    draft.put(MEMBERS, str(number), msgspec.structs.replace(_known(draft, number), next_fingerprint=fingerprint))


def take_key(draft: Draft, number: int, own: KeyPair) -> None:
    """Records a member's new key as its only one."""
    taken = msgspec.structs.replace(
        _known(draft, number), fingerprint=own.fingerprint, certificate=own.certificate, next_fingerprint=""
    )
    draft.put(MEMBERS, str(number), taken)


def move(draft: Draft, number: int, address: str) -> None:
    """Records a member's new address. Invalid when it is another member's."""
    for other in members(draft):
        if other.number != number and other.address == address:
            raise Invalid(f"cluster already has node with address {address}")
    draft.put(MEMBERS, str(number), msgspec.structs.replace(_known(draft, number), address=address))


def bootstrap(draft: Draft, number: int, name: str, address: str, certificate: str) -> None:
    """Makes a standalone server the first member of a cluster. NodeError with LXD's words (spec/clustering.md 3.1)."""
    if is_clustered(draft):
        raise NodeError("the node is already part of a cluster")
    if not address:
        raise NodeError("no core.https_address config is set on this node")
    check_name(name)
    old = _known(draft, number)
    draft.put(CLUSTERS, CLUSTER, Cluster(enabled=True, certificate=certificate))
    draft.put(MEMBERS, str(number), msgspec.structs.replace(old, name=name, address=address))
    draft.unname(KIND, old.name)
    draft.name(KIND, name, str(number))


def check_name(name: str) -> None:
    """Any text that can stand in a URL and on one line of a list."""
    if not name or "/" in name or any(character <= " " for character in name):
        raise Invalid(
            f"Invalid member name '{name}': it may not be empty nor hold slashes, blanks or control characters"
        )


def accept(draft: Draft, joiner: Member) -> Member:
    """Lets a server join: its document, in phase joining, with the next number. Invalid with LXD's words."""
    if not is_clustered(draft):
        raise Invalid("clustering not enabled")
    check_name(joiner.name)
    if not joiner.address:
        raise Invalid("node address must not be empty")
    if joiner.level < draft.state.level:
        raise Invalid(
            f"level mismatch: cluster has {draft.state.level}, the joining server {joiner.level}: "
            f"install {newer(draft, draft.state.level)} there first"
        )
    number = 1
    for _id, other in draft.all(MEMBERS):
        number = max(number, other.number + 1)
        if other.phase != "removed":
            _check_distinct(other, joiner)
    accepted = msgspec.structs.replace(joiner, number=number, phase="joining", voter=False)
    draft.put(MEMBERS, str(number), accepted)
    draft.name(KIND, joiner.name, str(number))
    return accepted


def _check_distinct(other: Member, joiner: Member) -> None:
    if other.name == joiner.name:
        raise Invalid(f"cluster already has node with name {joiner.name}")
    if other.address == joiner.address:
        raise Invalid(f"cluster already has node with address {joiner.address}")
    if other.fingerprint == joiner.fingerprint:
        raise Invalid(f"cluster already has this server as member {other.name}: remove it there first")


def unfinished_joins(view: View, fingerprint: str) -> list[int]:
    """The numbers under which the server with this key was let in before, and did not become a member."""
    found = (other for _id, other in view.all(MEMBERS) if other.fingerprint == fingerprint)
    return [other.number for other in found if other.phase == "joining"]


def common_level(view: View) -> int:
    """The level that the programs of all members can apply: absent and joining ones count as well."""
    return min(one.knows for _id, one in view.all(MEMBERS) if one.phase != "removed")


def raise_level(draft: Draft) -> None:
    """Lets transactions need what all members can apply. A member that starts an older program meanwhile writes that
    into its document, and this conflicts. There is no way back (DESIGN.md, "Versions")."""
    draft.level = max(draft.level, common_level(draft))


def newer(view: View, level: int) -> str:
    """What to install for a level, in words: the version of a member that knows it."""
    version = next((one.version for _id, one in view.all(MEMBERS) if one.knows >= level and one.version), "")
    return f"lxd-node {version}" if version else "a newer lxd-node"


def outdated(view: View, needed: int) -> str:
    """What a user reads who asks a member whose program is too old for the cluster's log to change something."""
    return (
        f"lxd-node on this member knows level {LEVEL}, the cluster is at level {needed}: nothing was changed, and what "
        f"this member shows is of index {view.state.index}. Install {newer(view, needed)} here, or ask another member"
    )


def forget_vote(draft: Draft, number: int) -> None:
    """Records that a member lost its store, and so whom it voted for: it has no vote until it is a member again."""
    known = _known(draft, number)
    phase: Phase = "learner" if known.phase == "member" else known.phase
    draft.put(MEMBERS, str(number), msgspec.structs.replace(known, phase=phase, voter=False))


def set_phase(draft: Draft, number: int, phase: Phase) -> Member:
    """Moves a member on in its life: joining, learner, member, leaving, removed."""
    changed = msgspec.structs.replace(_known(draft, number), phase=phase)
    draft.put(MEMBERS, str(number), changed)
    return changed


def rename(draft: Draft, name: str, new: str) -> None:
    """Gives a member another name, which its containers show at once."""
    try:
        old = named(draft, name)
    except NotFound:
        # LXD's words and code for this one (spec/clustering.md 7).
        raise NodeError("expected to update one row, not 0") from None
    check_name(new)
    if draft.find(KIND, new) is not None:
        raise AlreadyExists()
    draft.unname(KIND, old.name)
    draft.name(KIND, new, str(old.number))
    draft.put(MEMBERS, str(old.number), msgspec.structs.replace(old, name=new))


def check_removable(view: View, leaving: Member, containers: Sequence[str], images: Sequence[str]) -> None:
    """Whether a member may leave without force. NodeError with LXD's words (spec/clustering.md 7)."""
    if containers:
        raise NodeError(f"node still has the following containers: {', '.join(containers)}")
    if images:
        raise NodeError(f"node still has the following images: {', '.join(images)}")
    if len(members(view)) == 1:
        raise NodeError("node is the only node in the cluster")


def remove(draft: Draft, leaving: Member) -> None:
    """Ends a membership: its name is free, its key is no longer trusted, its number is not used again."""
    current = _known(draft, leaving.number)
    draft.unname(KIND, current.name)
    draft.put(MEMBERS, str(current.number), msgspec.structs.replace(current, phase="removed", voter=False))


def _known(draft: Draft, number: int) -> Member:
    found = member(draft, number)
    if found is None or found.phase == "removed":
        raise NotFound(f"member {number} is not in the cluster")
    return found
