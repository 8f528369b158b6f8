"""Bodies of /1.0/storage-pools (spec/rest.md 9)."""

import msgspec

from lxdnode.api.types.containers import Target


class PoolsPost(msgspec.Struct):
    """POST /1.0/storage-pools."""

    name: str = ""
    driver: str = ""
    description: str = ""
    config: dict[str, str] = {}


class PoolPut(msgspec.Struct):
    """PUT replaces both; PATCH merges config by key, and keeps what is absent (None)."""

    description: str | None = None
    config: dict[str, str] | None = None


class Pool(msgspec.Struct):
    """A storage pool."""

    config: dict[str, str]
    description: str
    name: str
    driver: str
    used_by: list[str]
    status: str
    locations: list[str]


class Space(msgspec.Struct, omit_defaults=True):
    """Bytes; `used` is left out when it is 0."""

    total: int
    used: int = 0


class Inodes(msgspec.Struct):
    """Inodes."""

    used: int
    total: int


class Resources(msgspec.Struct):
    """How full a pool is."""

    space: Space
    inodes: Inodes


class VolumeSource(msgspec.Struct):
    """Where a new volume's content comes from."""

    name: str = ""
    type: str = ""
    pool: str = ""
    mode: str = ""
    operation: str = ""
    certificate: str = ""
    secrets: dict[str, str] = {}


class VolumesPost(msgspec.Struct):
    """POST of a volume."""

    name: str = ""
    type: str = ""
    description: str = ""
    config: dict[str, str] = {}
    source: VolumeSource = msgspec.field(default_factory=VolumeSource)


class VolumePost(msgspec.Struct):
    """Rename, move to another pool, or migration."""

    name: str = ""
    pool: str = ""
    migration: bool = False
    target: Target | None = None


class VolumePut(msgspec.Struct):
    """PUT replaces both; PATCH merges config by key, and keeps what is absent (None)."""

    description: str | None = None
    config: dict[str, str] | None = None


class Volume(msgspec.Struct):
    """A volume; `type` is container, image or custom."""

    config: dict[str, str]
    description: str
    name: str
    type: str
    used_by: list[str]
    location: str
