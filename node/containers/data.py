"""What a container has on this host's disk: its volume, its link, its logs.

Owns the intents that a daemon which comes back after a crash finishes or undoes (DESIGN.md 3.5); refuses to touch
documents."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from lxdnode.drivers.config.kinds import is_true, parse_size
from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import archive
from lxdnode.drivers.storage.volume import Kind, Volume
from lxdnode.drivers.undo import Undo
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.host import Host
from lxdnode.node.containers.records import BACKUPS, CONTAINERS, KIND, SNAPSHOTS, Container, Snapshot
from lxdnode.node.containers.source import Origin
from lxdnode.node.errors import NodeError

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_INTENTS = "containers"


class Intent(msgspec.Struct):
    """A note of work on the host that was begun: `create` or `rename` (to `new`) of a container's volume. `snapshots`:
    those that are made along."""

    work: str
    pool: str
    name: str
    new: str = ""
    snapshots: tuple[str, ...] = ()


class Data:
    """The data of this member's containers. Methods raise DriverError or NodeError, and can be repeated."""

    def __init__(self, node: "Node", host: Host) -> None:
        self._node = node
        self._host = host

    def done(self, id: str) -> None:
        """The work that an intent noted has ended, well or taken back."""
        self._node.notes.delete(_INTENTS, id)

    async def make(self, found: Expanded, origin: Origin) -> tuple[Snapshot, ...]:
        """Makes the root volume, from an image, from another container, or empty; returns the snapshots that came
        along. `done` follows.

        NodeError when there is one already: data that no document knows are nobody's to remove (DESIGN.md 3.5)."""
        container = found.container
        volume = Volume(Kind.CONTAINER, found.name)
        driver = self._node.storage.driver(container.pool)
        if await driver.has_volume(volume):
            raise NodeError(
                f"Data of an unknown container {found.name} are in the way: move {driver.path(volume)} away"
            )
        came = origin.snapshots if origin.arrival is None else await origin.arrival.meet()
        snapshots = tuple(snapshot.name for snapshot in came)
        for snapshot in snapshots:
            await self._node.storage.snapshots.check_free(container.pool, found.name, snapshot)
        self._node.notes.put(_INTENTS, found.id, Intent("create", container.pool, found.name, snapshots=snapshots))
        await trio.to_thread.run_sync(self._host.paths(found.name).forget_logs)
        async with Undo() as undo:
            undo.add("remove the intent", self.done, found.id)
            undo.add(f"remove {volume}", self.remove, container, snapshots)
            await self._fill(found, origin)
            await self.set_quota(container, root_disk(found.devices)[1].get("size", ""))
        return came

    async def _fill(self, found: Expanded, origin: Origin) -> None:
        storage, pool = self._node.storage, found.container.pool
        if origin.container is not None:
            async with self._node.locks.hold(origin.id, "copy"):
                await self._copy(pool, found.name, origin, origin.container)
            return
        if origin.arrival is not None:
            await origin.arrival.fill(pool, found.name)
            return
        if origin.archive is not None:
            await storage.fill_container(pool, found.name, partial(archive.unpack, origin.archive, archive.CONTAINER))
            for snapshot in origin.snapshots:
                fill = partial(archive.unpack, origin.archive, f"{archive.SNAPSHOTS}/{snapshot.name}")
                await storage.snapshots.fill(pool, found.name, snapshot.name, fill)
            return
        privileged = is_true(found.config.get("security.privileged"))
        path = await storage.create_container(pool, found.name, image=origin.image, privileged=privileged)
        await trio.Path(path / "rootfs").mkdir(mode=0o755, exist_ok=True)

    async def _copy(self, pool: str, name: str, origin: Origin, source: Container) -> None:
        """Copies a container, perhaps with its snapshots, or one of its snapshots, perhaps into another pool."""
        storage = self._node.storage
        if origin.snapshot:
            await storage.snapshots.become_container(pool, name, source.pool, source.name, origin.snapshot)
        else:
            await storage.copy_container(pool, name, source_pool=source.pool, source=source.name)
        for snapshot in origin.snapshots:
            await storage.snapshots.copy(pool, name, snapshot.name, source.pool, source.name)

    async def set_quota(self, container: Container, size: str) -> None:
        """Limits the root disk, where the driver can; elsewhere the size is a wish (spec/storage.md)."""
        driver = self._node.storage.driver(container.pool)
        if driver.capabilities.quotas and size:
            await driver.set_quota(Volume(Kind.CONTAINER, container.name), parse_size(size))

    async def remove(self, container: Container, snapshots: Iterable[str] = ()) -> None:
        """Removes what a container has on this host, with the snapshots of these names, but its logs, which stay for a
        while."""
        for snapshot in snapshots:
            await self._node.storage.snapshots.delete(container.pool, container.name, snapshot)
        await self._node.storage.delete_container(container.pool, container.name)
        await trio.to_thread.run_sync(self._host.forget, container.name)

    async def remove_all(self, id: str, container: Container) -> None:
        """Removes what a container has on this host, with all its snapshots and backups."""
        self._node.containers.backups.remove_files([backup for backup, _ in self._node.store.view().all(BACKUPS, id)])
        await self.remove(container, self.snapshots(id))
        self._host.owners.forget(id)

    def snapshots(self, id: str) -> list[str]:
        """The names of a container's snapshots, whatever their phase."""
        return [snapshot.name for _, snapshot in self._node.store.view().all(SNAPSHOTS, id)]

    async def rename(self, id: str, pool: str, old: str, new: str) -> None:
        """Renames volumes and logs; nothing when they bear the new name already. `done` follows."""
        self._node.notes.put(_INTENTS, id, Intent("rename", pool, old, new))
        if await self._node.storage.driver(pool).has_volume(Volume(Kind.CONTAINER, old)):
            await self._node.storage.rename_container(pool, old, new)
        for snapshot in self.snapshots(id):
            await self._node.storage.snapshots.rename(pool, (old, snapshot), (new, snapshot))
        await trio.to_thread.run_sync(self._host.rename, old, new)

    async def finish(self) -> list[str]:
        """Undoes creations and finishes renames and deletions that a daemon of before did not end; returns the ids of
        the containers whose documents are to go."""
        view = self._node.store.view()
        for id, intent in list(self._node.notes.all(_INTENTS, Intent)):
            if await self._can(self._finish_intent, id, intent, view.get(CONTAINERS, id)):
                self.done(id)
        mine = [(id, one) for id, one in view.all(CONTAINERS) if one.member == self._node.member]
        pending = [id for id, container in mine if container.phase == "pending"]
        deleting = [(id, container) for id, container in mine if container.phase == "deleting"]
        return pending + [id for id, one in deleting if await self._can(self.remove_all, id, one)]

    async def _can(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> bool:
        """Does a part of `finish`. One that fails (a pool that is away) is logged and tried at the next start."""
        try:
            await work(*arguments)
        except (DriverError, NodeError) as error:
            log.error("work of a former daemon is still unfinished", error=str(error))
            return False
        return True

    async def _finish_intent(self, id: str, intent: Intent, container: Container | None) -> None:
        if intent.work == "rename" and container is not None:
            wrong = intent.new if container.name == intent.name else intent.name
            await self.rename(id, intent.pool, wrong, container.name)
        elif intent.work == "create" and (container is None or container.phase == "pending"):
            await self._remove_unless_named(id, intent)

    async def _remove_unless_named(self, id: str, intent: Intent) -> None:
        """Removes what a creation began, unless the name has gone to another container meanwhile."""
        if self._node.store.view().find(KIND, intent.name) in (None, id):
            made = Container(name=intent.name, member=self._node.member, pool=intent.pool)
            await self.remove(made, intent.snapshots)
