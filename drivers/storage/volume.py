"""What a volume is to a driver: its kind, its name, and where it lies below the pool (spec/storage.md 4).

Owns kinds, directories and their modes; refuses to know users, members or configuration."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath


class Kind(StrEnum):
    """The kinds of volumes. A snapshot's name is CONTAINER/SNAPSHOT; the API shows it as a container volume."""

    CONTAINER = "container"
    SNAPSHOT = "snapshot"
    IMAGE = "image"
    CUSTOM = "custom"


DIRECTORIES = {
    Kind.CONTAINER: ("containers", 0o711),
    Kind.SNAPSHOT: ("snapshots", 0o700),
    Kind.IMAGE: ("images", 0o700),
    Kind.CUSTOM: ("custom", 0o711),
}
"""Kind -> (directory below the pool, its mode)."""


@dataclass(frozen=True)
class Volume:
    """One volume of a pool."""

    kind: Kind
    name: str

    @property
    def path(self) -> PurePath:
        """Where it lies, relative to the pool's mount point."""
        return PurePath(DIRECTORIES[self.kind][0], self.name)

    def __str__(self) -> str:
        return f"{self.kind} volume {self.name}"
