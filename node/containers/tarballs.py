"""Tarballs of backups that clients send: taken in, and made containers again (spec/containers.md 12).

Owns what of the old container is kept; refuses to replace a container that exists, which LXD 3.3 did by mistake."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from lxdnode.drivers.devices.disk import is_root
from lxdnode.drivers.devices.registry import root_disk
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import archive
from lxdnode.node.containers import backup_format, rules, snapshot_rules
from lxdnode.node.containers.backup_format import Description, Index, Saved
from lxdnode.node.containers.expansion import Devices
from lxdnode.node.containers.records import Snapshot
from lxdnode.node.containers.source import Origin
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid, NodeError, NotFound
from lxdnode.node.profiles.records import KIND, PROFILES
from lxdnode.node.storage import rules as pools

if TYPE_CHECKING:
    from lxdnode.node.node import Node

_BLOCK = 1 << 20
_POWER = "volatile.last_state.power"


@dataclass(frozen=True)
class Tarball:
    """A tarball on this member, with its index; `discard` removes it."""

    path: Path
    index: Index

    def discard(self) -> None:
        """Removes the file, and its plain form."""
        self.path.unlink(missing_ok=True)
        self.plain.unlink(missing_ok=True)

    @property
    def plain(self) -> Path:
        """Where its plain form is while it is unpacked."""
        return self.path.with_name(f"{self.path.name}.plain")


async def receive(directory: Path, chunks: AsyncIterator[bytes]) -> Tarball:
    """Takes a tarball in, into `directory` (made on demand). Invalid when it is none of a container."""
    await trio.Path(directory).mkdir(mode=0o700, exist_ok=True)
    path = directory / f".import-{uuid.uuid4()}"
    try:
        await _write(path, chunks)
        text = await archive.read(path, archive.INDEX)
        if text is None:
            raise Invalid("Backup is missing index.yaml")
        return Tarball(path, backup_format.read_index(text))
    except DriverError as error:
        path.unlink(missing_ok=True)
        raise Invalid(str(error)) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def _write(path: Path, chunks: AsyncIterator[bytes]) -> None:
    block = bytearray()
    try:
        async with await trio.open_file(path, "wb") as file:
            async for chunk in chunks:
                block += chunk
                if len(block) >= _BLOCK:
                    await file.write(block)
                    block.clear()
            await file.write(block)
    except OSError as error:
        raise NodeError(f"the backup cannot be kept in {path.parent}: {error.strerror}") from error


async def restore(node: "Node", tarball: Tarball, operation: str, author: str) -> None:
    """Makes the container of a tarball again, with its snapshots, stopped. NodeError with LXD's words."""
    try:
        view, index = node.store.view(), tarball.index
        if index.optimized:
            raise NodeError(f'Optimized backups of driver "{index.backend}" are not served: export without that option')
        saved, snapshots = await _read(tarball)
        pool = _pool(view, index.pool)
        wanted = _wanted(index.name, saved, pool if pool != index.pool else "")
        plain = await archive.inflate(tarball.path, tarball.plain)
        origin = Origin(archive=plain, snapshots=tuple(_snapshot(view, one) for one in snapshots))
        await node.containers.create(str(uuid.uuid4()), wanted, origin, operation, author)
    finally:
        tarball.discard()


async def _read(tarball: Tarball) -> tuple[Saved, list[Saved]]:
    """The container and the snapshots that the tarball has. Invalid."""
    description = tarball.index.config
    if description is None:
        text = await archive.read(tarball.path, archive.DESCRIPTION)
        if text is None:
            raise Invalid("Backup is missing backup.yaml")
        description = backup_format.read_description(text)
    saved = description.container or description.instance
    if saved is None:
        raise Invalid("Backup is not of a container")
    return saved, _wanted_snapshots(tarball.index, description)


def _wanted_snapshots(index: Index, description: Description) -> list[Saved]:
    """The index says which snapshots are in the tarball: one of the container alone has none."""
    known = {one.name.rpartition("/")[2]: one for one in description.snapshots}
    for name in index.snapshots:
        snapshot_rules.check_name(name)
        if name not in known:
            raise Invalid(f"Backup says nothing of its snapshot {name}")
    return [known[name] for name in index.snapshots]


def _pool(view: View, wanted: str) -> str:
    """The pool of the backup, or that of the default profile's root disk. NotFound when there is neither."""
    try:
        return pools.find(view, wanted)[1].name
    except NotFound:
        devices = view.named(PROFILES, KIND, "default")[1].devices
        roots = {name: device for name, device in devices.items() if is_root(device)}
        if not roots:
            raise
        return root_disk(roots)[1]["pool"]


def _wanted(name: str, saved: Saved, pool: str) -> rules.Wanted:
    """The container as it was, but for what was true of its host alone; on `pool`, "" for its own."""
    return rules.Wanted(
        name=name,
        architecture=saved.architecture,
        description=saved.description,
        ephemeral=saved.ephemeral,
        config={key: value for key, value in saved.config.items() if key != _POWER},
        devices=_on_pool(saved.devices, pool),
        profiles=saved.profiles,
        trigger=saved.config.get("volatile.apply_template", ""),
        created_at=saved.created_at.timestamp(),
    )


def _on_pool(devices: Devices, pool: str) -> Devices:
    if not pool:
        return devices
    return {name: device | {"pool": pool} if is_root(device) else device for name, device in devices.items()}


def _snapshot(view: View, saved: Saved) -> Snapshot:
    """The record of a snapshot; a profile that is not here counts no more."""
    ids = (view.find(KIND, name) for name in saved.profiles)
    return Snapshot(
        name=saved.name.rpartition("/")[2],
        architecture=saved.architecture,
        description=saved.description,
        ephemeral=saved.ephemeral,
        config=saved.config,
        devices=saved.devices,
        profiles=[id for id in ids if id is not None],
        created_at=saved.created_at.timestamp(),
        last_used_at=saved.last_used_at.timestamp(),
        stateful=saved.stateful,
    )
