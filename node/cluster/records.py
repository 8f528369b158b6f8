"""What is replicated of the cluster and its members. The member document is the only truth about membership
(DESIGN.md 3.4): trust between members and the Raft configuration follow from it."""

from typing import Literal

from lxdnode.node.documents import Record, Table

Phase = Literal["joining", "learner", "member", "leaving", "removed"]
STANDALONE = "none"
"""The name of the one member of a server that is not clustered (spec/clustering.md 1)."""


class Member(Record, frozen=True):
    """`(members, "", NUMBER)`. Raft reads `number`, `phase` and `voter` (raft/membership.py); the rest is the node's.

    `address` is host:port or "" when the member serves no network. `certificate` is the PEM of its own key, which it
    shows as a client; `next_fingerprint` is that of one that it is about to take, "" for none. `incarnation` is raised
    at each start of its daemon. `level` is what its program can apply, as the start of incarnation `level_of` reported
    it: see `knows`."""

    number: int
    phase: Phase = "member"
    voter: bool = False
    name: str = STANDALONE
    address: str = ""
    fingerprint: str = ""
    certificate: str = ""
    next_fingerprint: str = ""
    incarnation: int = 0
    level: int = 1
    level_of: int = 0
    version: str = ""

    @property
    def knows(self) -> int:
        """The level that its program can apply. One from before levels were reported raises the incarnation at its
        start and keeps `level` as it finds it: what an earlier start has reported is not its word."""
        return self.level if self.level_of == self.incarnation else 1


class Cluster(Record, frozen=True):
    """`(cluster, "", "cluster")`: whether this store is a cluster, and the certificate (PEM) that its servers show.

    `private_key` (PEM) is "" until the pair is replaced: before that who joins gets it from the accepting member."""

    enabled: bool = False
    certificate: str = ""
    private_key: str = ""


MEMBERS = Table("members", Member)
CLUSTERS = Table("cluster", Cluster)
KIND = "member"
CLUSTER = "cluster"
SERVING = ("member", "learner", "leaving")
"""The phases of a member that lists show and that requests may be sent to."""
