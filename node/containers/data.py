"""What a container has on this host's disk: its volume, its link, its logs.

Owns the intents that a daemon which comes back after a crash finishes or undoes (DESIGN.md 3.5); refuses to touch
documents."""

from typing import TYPE_CHECKING

import msgspec
import trio

from lxdnode.drivers.config.kinds import is_true, parse_size
from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.storage.volume import Kind, Volume
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.host import Host
from lxdnode.node.containers.records import CONTAINERS, KIND, Container
from lxdnode.node.containers.source import Origin

if TYPE_CHECKING:
    from lxdnode.node.node import Node

_INTENTS = "containers"


class Intent(msgspec.Struct):
    """A note of work on the host that was begun: `create` or `rename` (to `new`) of a container's volume."""

    work: str
    pool: str
    name: str
    new: str = ""


class Data:
    """The data of this member's containers. Methods raise DriverError or NodeError, and can be repeated."""

    def __init__(self, node: "Node", host: Host) -> None:
        self._node = node
        self._host = host

    def done(self, id: str) -> None:
        """The work that an intent noted has ended, well or taken back."""
        self._node.notes.delete(_INTENTS, id)

    async def make(self, found: Expanded, origin: Origin) -> None:
        """Makes the root volume, from an image, from another container, or empty. `done` follows."""
        self._node.notes.put(_INTENTS, found.id, Intent("create", found.container.pool, found.name))
        pool, name, source = found.container.pool, found.name, origin.container
        if source is not None:
            await self._node.storage.copy_container(pool, name, source_pool=source.pool, source=source.name)
        else:
            privileged = is_true(found.config.get("security.privileged"))
            path = await self._node.storage.create_container(pool, name, image=origin.image, privileged=privileged)
            await trio.Path(path / "rootfs").mkdir(mode=0o755, exist_ok=True)
        await self.set_quota(found.container, root_disk(found.devices)[1].get("size", ""))

    async def set_quota(self, container: Container, size: str) -> None:
        """Limits the root disk, where the driver can; elsewhere the size is a wish (spec/storage.md)."""
        driver = self._node.storage.driver(container.pool)
        if driver.capabilities.quotas and size:
            await driver.set_quota(Volume(Kind.CONTAINER, container.name), parse_size(size))

    async def remove(self, container: Container) -> None:
        """Removes what a container has on this host, but its logs, which stay for a while."""
        await self._node.storage.delete_container(container.pool, container.name)
        await trio.to_thread.run_sync(self._host.paths(container.name).remove)

    async def rename(self, id: str, pool: str, old: str, new: str) -> None:
        """Renames volume and logs; nothing when they bear the new name already. `done` follows."""
        self._node.notes.put(_INTENTS, id, Intent("rename", pool, old, new))
        if await self._node.storage.driver(pool).has_volume(Volume(Kind.CONTAINER, old)):
            await self._node.storage.rename_container(pool, old, new)
        await trio.to_thread.run_sync(self._host.paths(old).rename, self._host.paths(new))

    async def finish(self) -> list[str]:
        """Undoes creations and finishes renames and deletions that a daemon of before did not end; returns the ids of
        the containers whose documents are to go."""
        view = self._node.store.view()
        for id, intent in list(self._node.notes.all(_INTENTS, Intent)):
            container = view.get(CONTAINERS, id)
            if intent.work == "rename" and container is not None:
                wrong = intent.new if container.name == intent.name else intent.name
                await self.rename(id, intent.pool, wrong, container.name)
            elif intent.work == "create" and container is None and view.find(KIND, intent.name) is None:
                await self.remove(Container(name=intent.name, member=self._node.member, pool=intent.pool))
            self._node.notes.delete(_INTENTS, id)
        lost = []
        for id, container in view.all(CONTAINERS):
            if container.member == self._node.member and container.phase != "created":
                await self.remove(container)
                lost.append(id)
        return lost
