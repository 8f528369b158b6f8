"""Bodies of /1.0/cluster (spec/clustering.md 2 and 3), and of the members' own requests below /internal."""

import msgspec


class MemberConfig(msgspec.Struct):
    """The value of a key that each member has for itself; `entity` is storage-pool or network."""

    entity: str = ""
    name: str = ""
    key: str = ""
    value: str = ""
    description: str = ""


class ClusterPut(msgspec.Struct):
    """Bootstrap (no cluster_address), join, or disable (enabled false)."""

    server_name: str = ""
    enabled: bool = False
    member_config: list[MemberConfig] = []
    cluster_address: str = ""
    cluster_certificate: str = ""
    server_address: str = ""
    cluster_password: str = ""


class ClusterCertificatePut(msgspec.Struct):
    """Another certificate for all servers of the cluster, and its key, both PEM."""

    cluster_certificate: str = ""
    cluster_certificate_key: str = ""


class Cluster(msgspec.Struct):
    """GET /1.0/cluster."""

    server_name: str
    enabled: bool
    member_config: list[MemberConfig]


class MemberPost(msgspec.Struct):
    """Rename of a member."""

    server_name: str = ""


class ClusterMember(msgspec.Struct):
    """A member. `database` is LXD's word for a voter. lxd-node's own are `role` (leader, voter, spare), `version` (of
    lxd-node), `heartbeat_age` (seconds since the leader heard it, null: never) and `clock_skew` (seconds that its clock
    is ahead of the leader's, null: not known yet)."""

    server_name: str
    url: str
    database: bool
    status: str
    message: str
    role: str
    version: str
    heartbeat_age: float | None
    clock_skew: float | None
