"""The documents of a new store: one member, which votes, and the default profile."""

import uuid
from collections.abc import Mapping

from lxdnode.node.cluster import rules as cluster
from lxdnode.node.cluster.records import Member
from lxdnode.node.documents import Draft
from lxdnode.node.keypair import KeyPair
from lxdnode.node.profiles import rules as profiles
from lxdnode.node.profiles.records import DEFAULT, Profile
from lxdnode.node.server.rules import change
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Transaction

FIRST = 1
"""The number of the member that makes a store."""


def first_transaction(own: KeyPair, addresses: Mapping[str, str]) -> Transaction:
    """What a new store begins with. `addresses` are settings that its server had before."""
    draft = Draft(State())
    cluster.first_member(
        draft, Member(number=FIRST, voter=True, fingerprint=own.fingerprint, certificate=own.certificate)
    )
    profiles.create(draft, Profile(name=DEFAULT, description="Default LXD profile"))
    change(draft, FIRST, addresses, "", replace=False)
    return draft.transaction("daemon", "first start", FIRST)


def new_cluster() -> str:
    """The id of a new cluster, which journals, snapshots and streams carry for ever."""
    return str(uuid.uuid4())
