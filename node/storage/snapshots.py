"""The volumes of snapshots on this member, beside the root volumes of their containers (spec/storage.md 4 and 6).

Owns their names and the link that leads to them; refuses to know which snapshots there are: documents do."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage.volume import Kind, Volume
from lxdnode.drivers.undo import Undo

if TYPE_CHECKING:
    from lxdnode.node.node import Node
    from lxdnode.node.storage.storage import Storage

SNAPSHOTS = "snapshots"
Fill = Callable[[Path], Awaitable[None]]
"""Puts the content of a volume into its directory."""


class Snapshots:
    """Snapshots by pool (its name), container and the part of their name after the slash. Methods raise DriverError."""

    def __init__(self, node: "Node", storage: "Storage") -> None:
        self._node = node
        self._storage = storage

    def path(self, pool: str, container: str, name: str) -> Path:
        """Where the files of a snapshot are."""
        return self._storage.driver(pool).path(_volume(container, name))

    async def check_free(self, pool: str, container: str, name: str) -> None:
        """DriverError when there are data under the name: what no document knows is nobody's to remove."""
        driver, volume = self._storage.driver(pool), _volume(container, name)
        if await driver.has_volume(volume):
            raise DriverError(f"Data of an unknown {volume} are in the way: move {driver.path(volume)} away")

    async def create(self, pool: str, container: str, name: str) -> None:
        """Makes a snapshot of what a container has on the disk now."""
        driver, source = self._storage.driver(pool), Volume(Kind.CONTAINER, container)
        await driver.copy_volume(source, _volume(container, name))
        self._link(pool, container)

    async def copy(self, pool: str, container: str, name: str, source_pool: str, source: str) -> None:
        """Makes a snapshot with the content of the one of the same name of another container, perhaps in another
        pool."""
        driver, origin = self._storage.driver(pool), self._storage.driver(source_pool)
        await driver.copy_volume(_volume(source, name), _volume(container, name), origin=origin)
        self._link(pool, container)

    async def fill(self, pool: str, container: str, name: str, fill: Fill) -> None:
        """Makes a snapshot with what `fill(path)` puts there."""
        driver, volume = self._storage.driver(pool), _volume(container, name)
        async with Undo() as undo:
            path = await driver.create_volume(volume)
            undo.add(f"delete {volume}", driver.delete_volume, volume)
            await fill(path)
            self._link(pool, container)

    async def become_container(self, pool: str, name: str, source_pool: str, source: str, snapshot: str) -> None:
        """Makes the root volume of a container with the content of a snapshot of another one."""
        driver, origin = self._storage.driver(pool), self._storage.driver(source_pool)
        volume = Volume(Kind.CONTAINER, name)
        async with Undo() as undo:
            path = await driver.copy_volume(_volume(source, snapshot), volume, origin=origin)
            undo.add(f"delete {volume}", driver.delete_volume, volume)
            self._storage.link(name, path)

    async def restore(self, pool: str, container: str, name: str) -> None:
        """Gives a container the files of its snapshot again. Can be repeated after a crash."""
        await self._storage.driver(pool).restore_volume(_volume(container, name), Volume(Kind.CONTAINER, container))

    async def delete(self, pool: str, container: str, name: str) -> None:
        """Removes a snapshot; nothing when there is none."""
        await self._storage.driver(pool).delete_volume(_volume(container, name))
        self._link(pool, container)

    async def rename(self, pool: str, old: tuple[str, str], new: tuple[str, str]) -> None:
        """Renames a snapshot, as (container, name); nothing when it bears the new name already."""
        driver = self._storage.driver(pool)
        if await driver.has_volume(_volume(*old)):
            await driver.rename_volume(_volume(*old), "/".join(new))
        self._link(pool, old[0])
        self._link(pool, new[0])

    def _link(self, pool: str, container: str) -> None:
        """D/snapshots/CT leads to the volumes of the snapshots, while there are any (spec/storage.md 4)."""
        volumes = self._storage.driver(pool).path(Volume(Kind.SNAPSHOT, container))
        link = self._node.directory / SNAPSHOTS / container
        if volumes.is_dir():
            link.parent.mkdir(mode=0o700, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(volumes)
        else:
            link.unlink(missing_ok=True)


def _volume(container: str, name: str) -> Volume:
    return Volume(Kind.SNAPSHOT, f"{container}/{name}")
