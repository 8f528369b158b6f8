"""What is replicated of a container: what is wanted of it, and apart from that how it is."""

from typing import Literal

from lxdnode.node.documents import Record, Table

Phase = Literal["pending", "created", "moving", "deleting"]
"""pending: being made, in the way of other creators, shown as stopped and busy. moving: another member fetches its data
and then takes it over, unless its own takes it back first. deleting: its data go next."""
KIND = "container"
STOPPED, RUNNING, FROZEN, ERROR = "Stopped", "Running", "Frozen", "Error"
STATUS_CODES = {STOPPED: 102, RUNNING: 103, FROZEN: 110, ERROR: 112}


class Container(Record, frozen=True):
    """`(containers, "", ID)`. `config` is the local one without `volatile.*`, which stands in `Status`.

    `member`: number of its member. `profiles`: ids, in the order in which they apply. `devices` name pools and
    networks as clients wrote them. `pool`: name of the pool of its root disk, which never changes.
    `created_at`: Unix time. `operation` and `incarnation` say who makes a pending one (DESIGN.md 3.5)."""

    name: str
    member: int
    phase: Phase = "created"
    operation: str = ""
    incarnation: int = 0
    architecture: str = "x86_64"
    description: str = ""
    ephemeral: bool = False
    config: dict[str, str] = {}
    devices: dict[str, dict[str, str]] = {}
    profiles: list[str] = []
    pool: str = ""
    created_at: float = 0.0


class Status(Record, frozen=True):
    """`(status, "", ID)`: written by every transition, so that those never conflict with edits.

    `volatile`: the `volatile.*` keys. `last_used_at`: Unix time of the last start, 0 = never. `stateful`: the state of
    its processes lies beside its files; it is stopped."""

    state: str = STOPPED
    volatile: dict[str, str] = {}
    last_used_at: float = 0.0
    stateful: bool = False


class Snapshot(Record, frozen=True):
    """`(snapshots, CONTAINER, ID)`: what a container was. Its name's first part, member and pool are the container's.

    `name`: the part after the slash. `config`: the local one with `volatile.*`. `profiles`: ids; one that was deleted
    since counts no more (it is no use that would keep the profile). Times are Unix seconds. `stateful`: the state of
    the processes lies beside the files."""

    name: str
    phase: Phase = "created"
    architecture: str = "x86_64"
    description: str = ""
    ephemeral: bool = False
    config: dict[str, str] = {}
    devices: dict[str, dict[str, str]] = {}
    profiles: list[str] = []
    created_at: float = 0.0
    last_used_at: float = 0.0
    stateful: bool = False


class Backup(Record, frozen=True):
    """`(backups, CONTAINER, ID)`: a tarball on the container's member, in a file that bears the id. Unix seconds;
    `expires_at` is kept for clients, nothing acts upon it (spec/containers.md 12)."""

    name: str
    phase: Phase = "created"
    created_at: float = 0.0
    expires_at: float = 0.0
    container_only: bool = False
    optimized_storage: bool = False


CONTAINERS = Table("containers", Container)
STATUS = Table("status", Status)
SNAPSHOTS = Table("snapshots", Snapshot)
BACKUPS = Table("backups", Backup)


def user(id: str) -> str:
    """How a container stands in the list of the users of what it refers to, and as owner of claims."""
    return f"container:{id}"
