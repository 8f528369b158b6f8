"""Pools that are a directory, and volumes that are directories in it.

Owns where the directory is and that nothing foreign is taken into use or removed; refuses quotas, which a plain
directory does not have."""

import os
from pathlib import Path
from typing import ClassVar

import trio

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import tree
from lxdnode.drivers.storage.base import POOLS, Capabilities, Driver, ImageContent, Resources
from lxdnode.drivers.storage.volume import DIRECTORIES, Kind, Volume
from lxdnode.drivers.undo import Undo

_VOLUME_MODES = {Kind.CONTAINER: 0o711, Kind.SNAPSHOT: 0o711, Kind.IMAGE: 0o700, Kind.CUSTOM: 0o711}


class Dir(Driver):
    """A pool in the directory `source`, by default the mount point itself; another one is bound there."""

    name: ClassVar[str] = "dir"
    version: ClassVar[str] = "1"
    capabilities: ClassVar[Capabilities] = Capabilities()

    @property
    def source(self) -> Path:
        """The directory that holds the pool."""
        given = self.config.get("source", "")
        return Path(os.path.normpath(given)) if given else self.mount_point

    async def create(self) -> dict[str, str]:
        self._check_source()
        async with Undo() as undo:
            if not self.source.exists():
                undo.add(f"remove {self.source}", tree.remove, self.source)
                self.source.mkdir(mode=0o711, parents=True)
            elif any(self.source.iterdir()):
                raise DriverError("The provided directory is not empty")
            self.source.chmod(0o711)
            undo.add(f"unmount {self.mount_point}", self.unmount)
            await self.mount()
        return {**self.config, "source": str(self.source)}

    def _check_source(self) -> None:
        if not self.source.is_absolute():
            raise DriverError('invalid "source" property')
        if self.source.is_relative_to(self._state) and self.source != self.mount_point:
            raise DriverError(
                f'DIR storage pool requests in LXD directory "{self._state}" are only valid under '
                f'"{self._state / POOLS}" (e.g. source={self.mount_point})'
            )
        if self.source.exists() and not self.source.is_dir():
            raise DriverError(f'The source "{self.source}" is not a directory')

    async def delete(self) -> None:
        await self.unmount()
        await tree.remove(self.source)

    async def mount(self) -> None:
        if not self.source.is_dir():
            raise DriverError(f'The source "{self.source}" of storage pool "{self.pool}" does not exist')
        self.mount_point.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not self._is_mounted():
            await run("mount", "--bind", self.source, self.mount_point)

    async def unmount(self) -> None:
        if self.source == self.mount_point or not self.mount_point.exists():
            return
        if self._is_mounted():
            await run("umount", self.mount_point)
        self.mount_point.rmdir()

    def _is_mounted(self) -> bool:
        return self.source.exists() and self.mount_point.samefile(self.source)

    async def resources(self) -> Resources:
        space = await trio.to_thread.run_sync(os.statvfs, self.mount_point)
        return Resources(
            used=(space.f_blocks - space.f_bfree) * space.f_frsize,
            total=space.f_blocks * space.f_frsize,
            inodes_used=space.f_files - space.f_ffree,
            inodes_total=space.f_files,
        )

    async def create_volume(self, volume: Volume, *, image: ImageContent | None = None) -> Path:
        path = self.path(volume)
        async with Undo() as undo:
            self._make_directory(volume)
            undo.add(f"remove {path}", tree.remove, path)
            if image is not None:
                await image.unpack(path)
        return path

    async def copy_volume(self, source: Volume, target: Volume, *, origin: Driver | None = None) -> Path:
        pool = origin or self
        path = self.path(target)
        async with Undo() as undo:
            self._make_directory(target)
            undo.add(f"remove {path}", tree.remove, path)
            await tree.fill(pool.path(source), path, limit=pool.config.get("rsync.bwlimit", ""))
        return path

    def _make_directory(self, volume: Volume) -> None:
        """Makes the directory of a volume, and those above it on demand."""
        path = self.path(volume)
        directory, mode = DIRECTORIES[volume.kind]
        for above in reversed(path.relative_to(self.mount_point / directory).parents):
            if not (made := self.mount_point / directory / above).exists():
                made.mkdir()
                made.chmod(mode)
        try:
            path.mkdir()
        except FileExistsError:
            raise DriverError(f"{path} exists already; it is not taken over as {volume}") from None
        path.chmod(_VOLUME_MODES[volume.kind])

    async def restore_volume(self, snapshot: Volume, volume: Volume) -> None:
        await tree.copy(self.path(snapshot), self.path(volume), limit=self.config.get("rsync.bwlimit", ""))

    async def delete_volume(self, volume: Volume) -> None:
        await tree.remove(self.path(volume))
        self._remove_empty_parent(volume)

    def _remove_empty_parent(self, volume: Volume) -> None:
        """The directory of a container's snapshots goes with the last one."""
        parent = self.path(volume).parent
        if volume.kind is Kind.SNAPSHOT and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()

    async def rename_volume(self, volume: Volume, name: str) -> None:
        renamed = Volume(volume.kind, name)
        if self.path(renamed).exists():
            raise DriverError(f"{self.path(renamed)} exists already; {volume} keeps its name")
        self.path(renamed).parent.mkdir(mode=DIRECTORIES[volume.kind][1], exist_ok=True)
        self.path(volume).rename(self.path(renamed))
        self._remove_empty_parent(volume)

    async def has_volume(self, volume: Volume) -> bool:
        return self.path(volume).is_dir()

    async def set_quota(self, volume: Volume, size: int) -> None:
        raise DriverError("the directory container backend doesn't support quotas")

    async def usage(self, volume: Volume) -> int | None:
        # du over a whole tree is no bearable price for a state request; LXD leaves it out as well.
        return None
