"""Bodies of /1.0 and its server configuration (spec/rest.md 2)."""

from typing import Any

import msgspec

from lxdnode.api.types.storage import Resources


class ServerPut(msgspec.Struct):
    """PUT and PATCH of /1.0. `config` maps keys to texts; None is "no change" for PATCH."""

    config: dict[str, Any] | None = None


class Socket(msgspec.Struct, omit_defaults=True):
    """A processor chip: frequencies in MHz. As LXD has it, `name` is who made it and `vendor` is the model."""

    cores: int
    threads: int
    frequency: int = 0
    frequency_turbo: int = 0
    name: str = ""
    vendor: str = ""


class Processors(msgspec.Struct):
    """`total` counts threads."""

    sockets: list[Socket]
    total: int


class Memory(msgspec.Struct):
    """Bytes."""

    used: int
    total: int


class ServerResources(msgspec.Struct):
    """The hardware of a member. `pool` is empty: each pool tells its own."""

    cpu: Processors
    memory: Memory
    pool: Resources
