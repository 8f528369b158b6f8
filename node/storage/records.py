"""What is replicated of pools and volumes. A container's root volume has no document of its own: the container's one
names its pool and member."""

from typing import Literal

from lxdnode.drivers.storage import keys
from lxdnode.node.definitions.records import Definition, Noun, Words
from lxdnode.node.documents import Record, Table

VolumePhase = Literal["pending", "created", "deleting"]


class Pool(Definition, frozen=True):
    """`(pools, "", ID)`."""

    driver: str = "dir"


class Volume(Record, frozen=True):
    """`(volumes, POOL, ID)`: a custom volume. `member`: number of the member that has it; `incarnation`: of the daemon
    that makes a pending one, so that its successor knows that nobody does."""

    name: str
    member: int
    kind: str = "custom"
    description: str = ""
    config: dict[str, str] = {}
    phase: VolumePhase = "created"
    incarnation: int = 0


POOLS = Table("pools", Pool)
VOLUMES = Table("volumes", Volume)
KIND = "pool"
NOUN = Noun(
    POOLS,
    KIND,
    keys.POOL,
    Words(
        twice="The storage pool already defined on node {member}",
        not_pending="pool is not in pending state",
        missing="Pool not defined on nodes: {members}",
        taken="The storage pool already exists",
    ),
)


def volume_kind(pool: str, member: int) -> str:
    """The kind of the names of a member's custom volumes in a pool: they are unique there only."""
    return f"volume:{pool}:custom:{member}"
