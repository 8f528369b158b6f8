"""The contract of storage drivers: what a pool can do on this host, with its capabilities as data.

Owns no storage of its own. A driver knows one pool by its name and configuration; it refuses to know members,
users of volumes, and HTTP. tests/drivers/test_storage_conformance.py is the same suite for every driver."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lxdnode.drivers.storage.volume import Volume

POOLS = "storage-pools"
"""The directory below the state directory in which pools are mounted, by name."""


@dataclass(frozen=True)
class Capabilities:
    """What callers must know before they call.

    `shared`: all members see the same volumes, so one of them acts. `quotas`: volumes can be limited in size.
    `optimized_images`: containers are cloned from a volume of their image instead of being unpacked each time.
    `mounts_volumes`: a volume is there only while it is mounted."""

    shared: bool = False
    quotas: bool = False
    optimized_images: bool = False
    mounts_volumes: bool = False


@dataclass(frozen=True)
class Resources:
    """Bytes and inodes of a pool. An inode count of 0 means that the driver has none to tell."""

    used: int
    total: int
    inodes_used: int = 0
    inodes_total: int = 0


@dataclass(frozen=True)
class ImageContent:
    """What a container volume is made of: `unpack(directory)` puts the image's files there."""

    fingerprint: str
    unpack: Callable[[Path], Awaitable[None]]


class Driver(ABC):
    """One pool on this host. Every method raises DriverError with the host's or LXD's words.

    `create` and `delete` can be repeated after a crash: what is there already is kept, what is gone is no error.
    `state`: the member's state directory, below which the pool is mounted."""

    name: ClassVar[str]
    version: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def __init__(self, state: Path, pool: str, config: Mapping[str, str]) -> None:
        self.pool = pool
        self.config = dict(config)
        self.mount_point = state / POOLS / pool
        self._state = state

    def path(self, volume: Volume) -> Path:
        """Where a volume's files are while it is mounted."""
        return self.mount_point / volume.path

    @abstractmethod
    async def create(self) -> dict[str, str]:
        """Makes the pool; returns the configuration with what the driver chose (such as `source`).

        What was made is removed again when it fails."""

    @abstractmethod
    async def delete(self) -> None:
        """Removes the pool and all that is in it."""

    @abstractmethod
    async def mount(self) -> None:
        """Brings a pool that exists into use; nothing when it is."""

    @abstractmethod
    async def unmount(self) -> None:
        """Takes a pool out of use without losing anything; nothing when it is not mounted."""

    @abstractmethod
    async def resources(self) -> Resources:
        """How full the pool is."""

    @abstractmethod
    async def create_volume(self, volume: Volume, *, image: ImageContent | None = None) -> Path:
        """Makes a volume, empty or from an image; returns its path. One that exists is an error, and stays."""

    @abstractmethod
    async def copy_volume(self, source: Volume, target: Volume, *, origin: "Driver | None" = None) -> Path:
        """Makes a volume with the content of another, which may be in the pool `origin`; returns its path."""

    @abstractmethod
    async def restore_volume(self, snapshot: Volume, volume: Volume) -> None:
        """Gives a volume the content of a snapshot again. Can be repeated after a crash, which leaves it in between."""

    @abstractmethod
    async def delete_volume(self, volume: Volume) -> None:
        """Removes a volume; nothing when there is none."""

    @abstractmethod
    async def rename_volume(self, volume: Volume, name: str) -> None:
        """Gives a volume another name."""

    @abstractmethod
    async def has_volume(self, volume: Volume) -> bool:
        """Whether the volume exists on this host."""

    @abstractmethod
    async def set_quota(self, volume: Volume, size: int) -> None:
        """Limits a volume to `size` bytes; 0 lifts the limit."""

    @abstractmethod
    async def usage(self, volume: Volume) -> int | None:
        """Bytes that a volume occupies, or None when the driver cannot tell at a bearable price."""
