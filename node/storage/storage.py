"""This member's part of the pools, and the volumes of its containers.

Owns which driver holds what and the links from the state directory into the pools; refuses to decide what is allowed
(`rules.py`) and to handle custom volumes (`volumes.py`)."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images.unpack import unpack
from lxdnode.drivers.storage.base import Driver, ImageContent
from lxdnode.drivers.storage.registry import find, open_pool
from lxdnode.drivers.storage.volume import DIRECTORIES, Kind, Volume
from lxdnode.drivers.undo import Undo
from lxdnode.node.definitions.keeper import Keeper
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import NodeError
from lxdnode.node.node import Node
from lxdnode.node.reconcile.loop import Reconciler
from lxdnode.node.storage import rules, volume_rules
from lxdnode.node.storage.records import NOUN, POOLS, VOLUMES, Pool
from lxdnode.node.storage.snapshots import Fill, Snapshots
from lxdnode.node.storage.volumes import Volumes, on_host

CONTAINERS = "containers"
_PRIVILEGED_MODE, _MODE = 0o700, 0o711


class Storage(Keeper[Pool]):
    """The pools on this member. Methods raise DriverError with the host's words."""

    entity = "storage-pool"

    def __init__(self, node: Node) -> None:
        super().__init__(node, NOUN)
        self.volumes = Volumes(node, self)
        self.snapshots = Snapshots(node, self)

    def reconcilers(self) -> list[Reconciler]:
        """What the daemon's loop runs for pools and volumes."""
        return [*super().reconcilers(), self.volumes.reconciler()]

    async def make(self, record: Pool) -> dict[str, str]:
        member = self._node.member
        pool = self._open(record)
        if record.part(member).state == "created":
            await pool.mount()
            return record.part(member).config
        return NOUN.keys.member_keys(await pool.create())

    async def unmake(self, record: Pool) -> None:
        # One that was never made may lie over somebody's data: those stay.
        if record.part(self._node.member).state == "created":
            await self._open(record).delete()
        else:
            await self._open(record).unmount()

    def driver(self, name: str) -> Driver:
        """The driver of a pool that this member has. NotFound; NodeError when it is not ready here."""
        _id, record = rules.find(self._node.store.view(), name)
        part = record.part(self._node.member)
        if part.state != "created":
            raise NodeError(f'storage pool "{name}" is not ready on this member: {part.reason or record.phase}')
        return self._open(record)

    def _open(self, record: Pool) -> Driver:
        return open_pool(record.driver, self._node.directory, record.name, record.whole(self._node.member))

    def in_use(self, view: View | None = None) -> Iterable[tuple[str, str]]:
        """(driver, version) of every pool, for the environment of GET /1.0."""
        found = (view or self._node.store.view()).all(POOLS)
        return [(pool.driver, find(pool.driver).version) for _id, pool in found]

    def custom_volumes(self, view: View, number: int) -> list[str]:
        """The names of a member's custom volumes, sorted."""
        volumes = (volume for pool_id, _pool in view.all(POOLS) for _id, volume in view.all(VOLUMES, pool_id))
        return sorted(volume.name for volume in volumes if volume.member == number)

    def check_removable(self, view: View, number: int) -> None:
        """NodeError when a member has custom volumes, which would be lost with it."""
        if names := self.custom_volumes(view, number):
            raise NodeError(f"node still has the following custom volumes: {', '.join(names)}")

    def remove_member(self, draft: Draft, number: int) -> None:
        """Drops a member's parts, and the documents of its volumes."""
        super().remove_member(draft, number)
        for pool_id, _pool in list(draft.all(POOLS)):
            for id, volume in list(draft.all(VOLUMES, pool_id)):
                if volume.member == number:
                    volume_rules.forget(draft, pool_id, id)

    def unknown(self, view: View) -> list[str]:
        """Volumes on this host that no document speaks of: absence of a document is never a reason to delete data."""
        found: list[Path] = []
        for pool_id, pool in view.all(POOLS):
            if pool.part(self._node.member).state != "created":
                continue
            mine = {on_host(volume) for _id, volume in view.all(VOLUMES, pool_id) if volume.member == self._node.member}
            mine |= {
                Volume(Kind.SNAPSHOT if "/" in name else Kind.CONTAINER, name)
                for name, member in volume_rules.root_volumes(view, pool.name)
                if member == self._node.member
            }
            driver = self._open(pool)
            known = {driver.path(volume) for volume in mine}
            for kind, depth in ((Kind.CONTAINER, "*"), (Kind.CUSTOM, "*"), (Kind.SNAPSHOT, "*/*")):
                paths = (driver.mount_point / DIRECTORIES[kind][0]).glob(depth)
                found += [path for path in paths if path not in known]
        return sorted(str(path) for path in found)

    # The root volumes of containers.

    async def create_container(
        self, pool: str, name: str, *, image: str | None = None, privileged: bool = False
    ) -> Path:
        """Makes the root volume of a container, empty or from an image (a full fingerprint); returns its path.

        The image is fetched from another member when this one lacks it."""
        content = None
        if image is not None:
            files = await self._node.images.require(image)
            content = ImageContent(image, partial(unpack, files.image, rootfs=files.rootfs))
        driver = self.driver(pool)
        volume = Volume(Kind.CONTAINER, name)
        async with Undo() as undo:
            path = await driver.create_volume(volume, image=content)
            undo.add(f"delete {volume}", driver.delete_volume, volume)
            path.chmod(_PRIVILEGED_MODE if privileged else _MODE)
            self.link(name, path)
        return path

    async def copy_container(self, pool: str, name: str, *, source_pool: str, source: str) -> Path:
        """Makes the root volume of a container with the content of another one on this member; returns its path."""
        driver, origin = self.driver(pool), self.driver(source_pool)
        volume = Volume(Kind.CONTAINER, name)
        async with Undo() as undo:
            path = await driver.copy_volume(Volume(Kind.CONTAINER, source), volume, origin=origin)
            undo.add(f"delete {volume}", driver.delete_volume, volume)
            self.link(name, path)
        return path

    async def fill_container(self, pool: str, name: str, fill: Fill) -> None:
        """Makes the root volume of a container with what `fill(path)` puts there."""
        driver, volume = self.driver(pool), Volume(Kind.CONTAINER, name)
        async with Undo() as undo:
            path = await driver.create_volume(volume)
            undo.add(f"delete {volume}", driver.delete_volume, volume)
            await fill(path)
            self.link(name, path)

    async def delete_container(self, pool: str, name: str) -> None:
        """Removes the root volume of a container; nothing when there is none."""
        await self.driver(pool).delete_volume(Volume(Kind.CONTAINER, name))
        (self._node.directory / CONTAINERS / name).unlink(missing_ok=True)

    async def rename_container(self, pool: str, name: str, new: str) -> None:
        """Gives the root volume of a container another name."""
        driver = self.driver(pool)
        await driver.rename_volume(Volume(Kind.CONTAINER, name), new)
        (self._node.directory / CONTAINERS / name).unlink(missing_ok=True)
        self.link(new, driver.path(Volume(Kind.CONTAINER, new)))

    def container_path(self, pool: str, name: str) -> Path:
        """Where the root volume of a container is."""
        return self.driver(pool).path(Volume(Kind.CONTAINER, name))

    def link(self, name: str, path: Path) -> None:
        """D/containers/NAME leads to the volume, as in LXD's layout (spec/storage.md 4)."""
        folder = self._node.directory / CONTAINERS
        folder.mkdir(mode=0o711, exist_ok=True)
        link = folder / name
        if link.exists() and not link.is_symlink():
            raise DriverError(f"{link} is no link: move it away")
        link.unlink(missing_ok=True)
        link.symlink_to(path)
