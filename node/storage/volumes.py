"""The custom volumes of this member: made, copied, renamed and removed, and finished after a crash.

Owns the order of document and host; refuses to decide what is allowed (`volume_rules.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import keys
from lxdnode.drivers.storage.base import Driver
from lxdnode.drivers.storage.volume import Kind
from lxdnode.drivers.storage.volume import Volume as HostVolume
from lxdnode.drivers.undo import Undo
from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError, NotFound, NotImplementedHere
from lxdnode.node.migration.messages import Header
from lxdnode.node.migration.session import Arrival, Item, Named, Report, connected, send
from lxdnode.node.node import Node
from lxdnode.node.reconcile.loop import Reconciler
from lxdnode.node.storage import rules, volume_rules
from lxdnode.node.storage.records import POOLS, VOLUMES, Volume

if TYPE_CHECKING:
    from lxdnode.node.storage.storage import Storage

T = TypeVar("T")


def on_host(volume: Volume) -> HostVolume:
    """A custom volume as drivers know it."""
    return HostVolume(Kind.CUSTOM, volume.name)


class Volumes:
    """Custom volumes on this member. `author` of a write is who asked."""

    def __init__(self, node: Node, storage: Storage) -> None:
        self._node = node
        self._storage = storage

    async def create(self, pool: str, volume: Volume, author: str) -> None:
        """Makes an empty volume. NodeError with LXD's words."""
        await self._make(pool, volume, author, lambda driver: driver.create_volume(on_host(volume)))

    async def copy(self, pool: str, volume: Volume, source_pool: str, source: str, author: str) -> None:
        """Makes a volume with the content of another one on this member, whose keys it keeps where they fit."""
        view = self._node.store.view()
        source_id, _record = rules.find(view, source_pool)
        holders = volume_rules.holders(view, source_id, source)
        if not holders:
            raise NotFound
        if self._node.member not in holders:
            raise NotImplementedHere(f"Volume {source} is on another member: copies between members are not served yet")
        origin = self._storage.driver(source_pool)
        await self._make(
            pool,
            volume,
            author,
            lambda driver: driver.copy_volume(HostVolume(Kind.CUSTOM, source), on_host(volume), origin=origin),
        )

    async def send(self, pool: str, id: str, sockets: Named, report: Report) -> None:
        """Sends a volume to who is at the other end of `sockets`, used or not (spec/migration.md 7)."""
        pool_id, _record = rules.find(self._node.store.view(), pool)
        await connected(sockets)
        async with self._node.locks.hold(id, "migrate"):
            volume = volume_rules.get(self._node.store.view(), pool_id, id)
            item = Item(volume.name, self._storage.driver(pool).path(on_host(volume)))
            await send(sockets, Header(), [item], report)

    async def receive(self, pool: str, volume: Volume, sockets: Named, report: Report, author: str) -> None:
        """Makes a volume of what comes over `sockets`. NodeError when that breaks off; nothing is left then."""
        arrival = Arrival(sockets, report)

        async def make(driver: Driver) -> None:
            async with Undo() as undo:
                path = await driver.create_volume(on_host(volume))
                undo.add(f"delete {volume.name}", driver.delete_volume, on_host(volume))
                await arrival.meet()
                await arrival.fill(path, volume.name)

        try:
            await self._make(pool, volume, author, make)
        except (DriverError, NodeError) as error:
            raise NodeError(f"Error transferring storage volume: {error}") from error
        await arrival.end()

    def copied_config(self, pool: str, source_pool: str, source: str) -> dict[str, str]:
        """What a copy keeps of the source's configuration."""
        view = self._node.store.view()
        source_id, _record = rules.find(view, source_pool)
        for id in volume_rules.holders(view, source_id, source).values():
            config = volume_rules.get(view, source_id, id).config
            return keys.fitting_volume_keys(rules.find(view, pool)[1].driver, config)
        raise NotFound

    async def _make(self, pool: str, volume: Volume, author: str, make: Callable[[Driver], object]) -> None:
        driver = self._storage.driver(pool)
        fresh = Volume(
            name=volume.name,
            member=self._node.member,
            description=volume.description,
            config=volume.config,
            incarnation=self._incarnation(),
        )
        request = f"create volume {volume.name}"

        def reserve(draft: Draft) -> tuple[str, str]:
            pool_id, record = rules.find(draft, pool)
            return pool_id, volume_rules.reserve(draft, pool_id, record, fresh)

        pool_id, id = await self._write(author, request, reserve)
        async with self._node.locks.hold(id, "create"), Undo() as undo:
            undo.add(f"forget volume {volume.name}", self._forget, pool_id, id, author)
            await make(driver)  # type: ignore[misc]  # a driver's coroutine
            undo.add(f"delete volume {volume.name}", driver.delete_volume, on_host(fresh))
            await self._write(author, request, lambda draft: volume_rules.confirm(draft, pool_id, id))

    async def rename(self, pool: str, id: str, name: str, author: str) -> None:
        """Gives a volume of this member another name."""
        driver = self._storage.driver(pool)
        view = self._node.store.view()
        pool_id, _record = rules.find(view, pool)
        async with self._node.locks.hold(id, "rename"), Undo() as undo:
            old = volume_rules.get(self._node.store.view(), pool_id, id)
            self._dry_run(lambda draft: volume_rules.rename(draft, rules.find(draft, pool), id, name))
            await driver.rename_volume(on_host(old), name)
            undo.add(f"rename volume {old.name} back", driver.rename_volume, HostVolume(Kind.CUSTOM, name), old.name)
            await self._write(
                author,
                f"rename volume {old.name}",
                lambda draft: volume_rules.rename(draft, rules.find(draft, pool), id, name),
            )

    async def move(self, pool: str, id: str, new_pool: str, new: str, author: str) -> None:
        """Moves a volume of this member into another pool: copied, its users given to the copy, then removed."""
        driver = self._storage.driver(pool)
        pool_id, _record = rules.find(self._node.store.view(), pool)
        async with self._node.locks.hold(id, "move"):
            old = volume_rules.get(self._node.store.view(), pool_id, id)
            volume_rules.check_renamable(self._node.store.view(), pool, old)
            config = self.copied_config(new_pool, pool, old.name)
            copied = Volume(name=new, member=self._node.member, description=old.description, config=config)
            await self.copy(new_pool, copied, pool, old.name, author)
            await self._write(
                author,
                "move volume",
                lambda draft: volume_rules.hand_over(draft, rules.find(draft, pool), id, new_pool, new),
            )
            await driver.delete_volume(on_host(old))
            await self._forget(pool_id, id, author)

    def _dry_run(self, rule: Callable[[Draft], object]) -> None:
        """Runs a rule on the newest snapshot for its refusals alone, before the host is touched."""
        rule(Draft(self._node.log.state))

    async def delete(self, pool: str, id: str, author: str) -> None:
        """Removes a volume of this member that nobody uses."""
        driver = self._storage.driver(pool)
        request = "delete volume"
        async with self._node.locks.hold(id, "delete"):

            def condemn(draft: Draft) -> tuple[str, Volume]:
                found = rules.find(draft, pool)
                volume_rules.condemn(draft, found, id)
                return found[0], volume_rules.get(draft, found[0], id)

            pool_id, volume = await self._write(author, request, condemn)
            await driver.delete_volume(on_host(volume))
            await self._forget(pool_id, id, author)

    async def _forget(self, pool_id: str, id: str, author: str) -> None:
        await self._write(author, "forget volume", lambda draft: volume_rules.forget(draft, pool_id, id))

    async def _write(self, author: str, request: str, rule: Callable[[Draft], T]) -> T:
        return await self._node.store.transact(rule, author=author, request=request)

    def _incarnation(self) -> int:
        found = find_member(self._node.store.view(), self._node.member)
        return found.incarnation if found else 0

    def path(self, pool: str, name: str) -> Path:
        """Where a custom volume of this member is; `name` may be the `custom/NAME` of a device. NotFound."""
        view = self._node.store.view()
        name = name.removeprefix("custom/")
        pool_id, _record = rules.find(view, pool)
        if self._node.member not in volume_rules.holders(view, pool_id, name):
            raise NotFound(f'Storage volume "{name}" of type "custom" is not on this member')
        return self._storage.driver(pool).path(HostVolume(Kind.CUSTOM, name))

    # What a daemon that died has left.

    def reconciler(self) -> Reconciler:
        """Finishes volumes that a former daemon of this member was making or removing."""
        return Reconciler(VOLUMES.name, self._ids, self.reconcile)

    def _ids(self) -> Iterable[str]:
        view = self._node.store.view()
        return [id for pool_id, _pool in view.all(POOLS) for id, _volume in view.all(VOLUMES, pool_id)]

    async def reconcile(self, id: str) -> None:
        """Removes a volume that is pending by a daemon of the past, or whose removal was interrupted."""
        view = self._node.store.view()
        for pool_id, pool in view.all(POOLS):
            volume = view.get(VOLUMES, id, pool_id)
            if volume is None or volume.member != self._node.member or self._node.locks.holder(id):
                continue
            is_lost = volume.phase == "pending" and volume.incarnation < self._incarnation()
            if is_lost or volume.phase == "deleting":
                async with self._node.locks.hold(id, "clean up"):
                    await self._storage.driver(pool.name).delete_volume(on_host(volume))
                    await self._forget(pool_id, id, f"member:{self._node.member}")
