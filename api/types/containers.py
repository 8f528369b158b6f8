"""Bodies and objects of /1.0/containers (spec/rest.md 3 and 4)."""

from datetime import datetime
from typing import Any

import msgspec

Devices = dict[str, dict[str, str]]


class Source(msgspec.Struct, rename={"base_image": "base-image"}):
    """Where a new container comes from: `type` image, none, copy or migration, and the fields of that type."""

    type: str = ""
    mode: str = ""
    alias: str = ""
    fingerprint: str = ""
    properties: dict[str, str] = {}
    server: str = ""
    protocol: str = ""
    secret: str = ""
    source: str = ""
    container_only: bool = False
    base_image: str = ""
    live: bool = False
    operation: str = ""
    certificate: str = ""
    secrets: dict[str, str] = {}


class ContainersPost(msgspec.Struct):
    """POST /1.0/containers. `profiles` None means the default one."""

    name: str = ""
    architecture: str = ""
    config: dict[str, str] = {}
    devices: Devices = {}
    ephemeral: bool = False
    profiles: list[str] | None = None
    stateful: bool = False
    description: str = ""
    instance_type: str = ""
    source: Source = msgspec.field(default_factory=Source)


class ContainerPut(msgspec.Struct):
    """PUT replaces, PATCH merges config by key and devices by name and keeps what is absent (None)."""

    architecture: str = ""
    config: dict[str, str] | None = None
    devices: Devices | None = None
    ephemeral: bool | None = None
    profiles: list[str] | None = None
    description: str | None = None
    restore: str = ""
    stateful: bool = False


class Target(msgspec.Struct):
    """The operation of another server that waits for what is sent: its URL, certificate (PEM) and secrets by name."""

    certificate: str = ""
    operation: str = ""
    secrets: dict[str, str] = {}


class ContainerPost(msgspec.Struct):
    """Rename, or migration. `live` absent means with the state of processes, when there are any."""

    name: str = ""
    migration: bool = False
    live: bool = True
    container_only: bool = False
    target: Target | None = None


class StatePut(msgspec.Struct):
    """A transition. `timeout` in seconds, -1 = without limit."""

    action: str = ""
    timeout: int = -1
    force: bool = False
    stateful: bool = False


class ExecPost(msgspec.Struct, rename={"wait_for_websocket": "wait-for-websocket", "record_output": "record-output"}):
    """A command to run."""

    command: list[str] = []
    environment: dict[str, str] = {}
    wait_for_websocket: bool = False
    interactive: bool = False
    record_output: bool = False
    width: int = 0
    height: int = 0


class ConsolePost(msgspec.Struct):
    """The size of the terminal that wants the console."""

    width: int = 0
    height: int = 0


class Settle(msgspec.Struct):
    """The id of a profile that was changed."""

    profile: str


class Container(msgspec.Struct):
    """A container as clients see it; `location` is the name of its member."""

    architecture: str
    config: dict[str, str]
    devices: Devices
    ephemeral: bool
    profiles: list[str]
    stateful: bool
    description: str
    created_at: datetime
    expanded_config: dict[str, str]
    expanded_devices: Devices
    name: str
    status: str
    status_code: int
    last_used_at: datetime
    location: str


class SnapshotsPost(msgspec.Struct):
    """POST snapshots. `name` "": the server makes one up."""

    name: str = ""
    stateful: bool = False


class SnapshotPost(msgspec.Struct):
    """Rename, or migration."""

    name: str = ""
    migration: bool = False
    live: bool = False
    target: Target | None = None


class Snapshot(msgspec.Struct):
    """A snapshot as clients see it; `name` is `CT/SNAP`."""

    architecture: str
    config: dict[str, str]
    created_at: datetime
    devices: Devices
    ephemeral: bool
    expanded_config: dict[str, str]
    expanded_devices: Devices
    last_used_at: datetime
    name: str
    profiles: list[str]
    stateful: bool


class State(msgspec.Struct):
    """How a container is now; `disk` and `network` are null when it does not run."""

    status: str
    status_code: int
    disk: dict[str, Any] | None
    memory: dict[str, int]
    network: dict[str, Any] | None
    pid: int
    processes: int
    cpu: dict[str, int]
