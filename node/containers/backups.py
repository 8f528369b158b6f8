"""Backups of this member's containers: made, renamed and removed, and tarballs that become containers again
(spec/containers.md 12).

Owns the files in `backups/`, which bear the ids of their documents so that no rename touches them, and what a daemon
that died left half done. They never leave this member; refuses to act upon an expiry."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from lxdnode.drivers.runtime.containers import Running
from lxdnode.drivers.storage import archive, tree
from lxdnode.drivers.undo import Undo
from lxdnode.node.cluster.rules import name_of
from lxdnode.node.containers import backup_format, backup_rules, snapshot_rules
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.records import RUNNING, Backup
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError
from lxdnode.node.storage.rules import find as find_pool

if TYPE_CHECKING:
    from lxdnode.node.containers.containers import Containers
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_NOTES = "backups"
_STAGE = ".stage-"


class Frozen(msgspec.Struct):
    """A note that a container (its id) was frozen for a backup, and is to go on."""

    container: str


class Backups:
    """Containers and backups are given by id. Methods raise NodeError with LXD's words, or DriverError with the
    host's."""

    def __init__(self, node: "Node", containers: "Containers") -> None:
        self._node = node
        self._containers = containers
        self._unfinished = list(self.directory.glob(".*"))
        """What a daemon of before left; tarballs of clients may come before it is removed."""

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._node.directory / "backups"

    def path(self, id: str) -> Path:
        """The file of a backup."""
        return self.directory / id

    async def create(self, container: str, backup: Backup, author: str) -> None:
        """Makes a backup. A container that runs is copied first, frozen for the end of that, and goes on while its
        copy is packed; one that does not run cannot start meanwhile."""
        await self._node.ready.wait()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        id = str(uuid.uuid4())
        stage = self.directory / f"{_STAGE}{id}"
        await self._write(author, "create", lambda draft: backup_rules.reserve(draft, container, id, backup))
        async with Undo() as undo:
            undo.add("forget the backup", self._forget, container, id)
            undo.add("remove its file", self.path(id).unlink, True)
            undo.add("remove the copy", tree.remove, stage)
            async with self._node.locks.hold(container, "backup"):
                found, live = expand(self._node.store.view(), container), self._containers.host.live(container)
                if live is None:
                    await self._pack(id, found, self._containers.host.volume(found), backup.container_only)
                else:
                    await self._stage(id, found, live.running, stage)
            if live is not None:
                await self._pack(id, found, stage, backup.container_only)
                await tree.remove(stage)
            await self._write(author, "create", lambda draft: backup_rules.confirm(draft, container, id))

    async def _stage(self, id: str, found: Expanded, running: Running, stage: Path) -> None:
        """Copies the volume of a container that runs: what changes during the long first pass is copied while it is
        frozen."""
        volume = self._containers.host.volume(found)
        await trio.Path(stage).mkdir(mode=0o700)
        await tree.copy(volume, stage)
        async with self._frozen(id, found.id, running):
            await tree.copy(volume, stage)

    @asynccontextmanager
    async def _frozen(self, id: str, container: str, running: Running) -> AsyncIterator[None]:
        if running.frozen or not running.alive:
            yield
            return
        self._node.notes.put(_NOTES, id, Frozen(container))
        try:
            await running.freeze(True)
            yield
        finally:
            with trio.CancelScope(shield=True):
                if running.alive:
                    await running.freeze(False)
            self._node.notes.delete(_NOTES, id)

    async def _pack(self, id: str, found: Expanded, volume: Path, container_only: bool) -> None:
        view, storage = self._node.store.view(), self._node.storage
        snapshots = [] if container_only else [one for _, one in snapshot_rules.all_of(view, found.id)]
        paths = {one.name: storage.snapshots.path(found.container.pool, found.name, one.name) for one in snapshots}
        pool = find_pool(view, found.container.pool)[1]
        index, description = backup_format.write(view, found, snapshots, pool, name_of(view, self._node.member))
        texts = {archive.INDEX: index, archive.DESCRIPTION: description}
        await archive.pack(self.path(id), volume, paths, texts)

    async def rename(self, container: str, id: str, new: str, author: str) -> None:
        """Gives a backup another name."""
        await self._write(author, "rename", lambda draft: backup_rules.rename(draft, container, id, new))

    async def delete(self, container: str, id: str, author: str) -> None:
        """Removes a backup."""
        await self._write(author, "delete", lambda draft: backup_rules.condemn(draft, container, id))
        self.path(id).unlink(missing_ok=True)
        await self._forget(container, id)

    def remove_files(self, ids: Iterable[str]) -> None:
        """Removes the files of backups, whose documents go with their container's."""
        for id in ids:
            self.path(id).unlink(missing_ok=True)

    async def finish(self) -> None:
        """Removes what a daemon that died was making or removing, and lets go on what it froze."""
        for id, note in list(self._node.notes.all(_NOTES, Frozen)):
            if live := self._containers.host.live(note.container):
                await live.running.freeze(False)
                await self._containers.host.report(note.container, RUNNING)  # It was found frozen.
            self._node.notes.delete(_NOTES, id)
        for path in self._unfinished:
            await tree.remove(path)
        for container, id in list(backup_rules.unfinished(self._node.store.view(), self._node.member)):
            try:
                self.path(id).unlink(missing_ok=True)
                await self._forget(container, id)
            except (OSError, NodeError) as error:
                log.error("backup still unfinished", backup=id, error=str(error))

    async def _forget(self, container: str, id: str) -> None:
        member = f"member:{self._node.member}"
        await self._write(member, "forget", lambda draft: backup_rules.forget(draft, container, id))

    async def _write(self, author: str, what: str, rule: Callable[[Draft], None]) -> None:
        await self._node.store.transact(rule, author=author, request=f"{what} backup")
