"""Containers that go to another server and come from one (spec/migration.md 2 and 4).

Owns what of a container the messages say, both ways; refuses to know how the two servers talk (`node/migration`), and
the state of processes (CRIU), which does not travel."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from lxdnode.drivers.devices.disk import is_root
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host import idmap
from lxdnode.drivers.images.architectures import host_architectures, named, number
from lxdnode.node.containers import rules, snapshot_rules
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import Snapshot
from lxdnode.node.containers.source import Origin
from lxdnode.node.documents import View
from lxdnode.node.errors import Invalid, NodeError
from lxdnode.node.migration import messages
from lxdnode.node.migration.messages import STATELESS, Header
from lxdnode.node.migration.session import Arrival, Item, Named, Report, connected, send
from lxdnode.node.profiles import rules as profile_rules
from lxdnode.node.profiles.records import KIND as PROFILE
from lxdnode.node.storage.records import POOLS

if TYPE_CHECKING:
    from lxdnode.node.containers.containers import Containers
    from lxdnode.node.node import Node

_POWER = "volatile.last_state.power"
_LATEST = 253402300799
"""The last second of the year 9999."""
_NO_POOLS = "This LXD instance does not have any storage pools configured."
_NO_POOL = "Can't find a storage pool for the container to use"
_NO_CRIU = "Unable to perform container live migration. CRIU isn't installed on the source server."


class Migrations:
    """Containers of this member on their way to other servers. Methods raise NodeError with LXD's words."""

    def __init__(self, node: "Node", containers: "Containers") -> None:
        self._node = node
        self._containers = containers
        self._arriving: dict[str, trio.CancelScope] = {}

    def give_up(self, id: str) -> bool:
        """Breaks off the coming of a container, which takes the container back, unless it has just come; False when
        none comes under this id."""
        arriving = self._arriving.get(id)
        if arriving is not None:
            arriving.cancel()
        return arriving is not None

    def check(self, id: str, live: bool) -> None:
        """Refuses to send a running container with its processes; one that is stopped has none."""
        if live and self._containers.host.live(id) is not None:
            raise NodeError(_NO_CRIU)

    async def receive(
        self,
        wanted: rules.Wanted,
        sockets: Named,
        operation: str,
        author: str,
        report: Report,
        reserved: Callable[[], None],
    ) -> None:
        """Makes a container of what comes over `sockets`, and starts it when it ran where it was and is moved.
        `reserved` is called once its name is taken."""
        id, arriving = str(uuid.uuid4()), Arriving(self._node, sockets, report, reserved)
        scope = self._arriving[id] = trio.CancelScope()
        try:
            with scope:
                await self._containers.create(id, wanted, Origin(arrival=arriving), operation, author)
        finally:
            del self._arriving[id]
        if scope.cancelled_caught:
            raise NodeError("The container was deleted before its data came")
        await arriving.accept()
        if wanted.config.get(_POWER) == "RUNNING":
            await self._containers.start(id)

    async def send(self, id: str, snapshot: str, container_only: bool, sockets: Named, report: Report) -> None:
        """Sends a container, or a snapshot of it, to who is at the other end of `sockets`; it goes on running."""
        await self._node.ready.wait()
        await connected(sockets)
        async with self._node.locks.hold(id, "migrate"):
            view = self._node.store.view()
            header = self._header(view, id, snapshot, container_only)
            await send(sockets, header, self._items(view, id, snapshot, container_only), report)

    def _header(self, view: View, id: str, snapshot: str, container_only: bool) -> Header:
        found = expand(view, id)
        if snapshot:
            found = snapshot_rules.as_container(view, id, snapshot_rules.find(view, id, snapshot)[1])
        runs = not snapshot and self._containers.host.live(id) is not None
        return Header(
            criu=STATELESS if runs else None,
            idmap=idmap.decode(found.status.volatile.get("volatile.last_state.idmap", "")),
            snapshots=tuple(_message(view, id, one) for one in _snapshots(view, id, snapshot, container_only)),
        )

    def _items(self, view: View, id: str, snapshot: str, container_only: bool) -> list[Item]:
        storage, container = self._node.storage, expand(view, id).container
        path = partial(storage.snapshots.path, container.pool, container.name)
        if snapshot:
            return [Item(f"{container.name}/{snapshot}", path(snapshot))]
        sent = [
            Item(f"{container.name}/{one.name}", path(one.name)) for one in _snapshots(view, id, "", container_only)
        ]
        return [*sent, Item(container.name, storage.container_path(container.pool, container.name))]


def placed(view: View, wanted: rules.Wanted) -> rules.Wanted:
    """A container that comes from another server with a root disk on a pool that is here. Invalid with LXD's words."""
    profiles = [one for _, one in profile_rules.find_all(view, wanted.profiles or list(rules.DEFAULT_PROFILES))]
    own = next((name for name, device in wanted.devices.items() if is_root(device)), "")
    pools = sorted(pool.name for _, pool in view.all(POOLS))
    pool = wanted.devices[own].get("pool", "") if own else ""
    if pool in pools:
        return wanted
    inherited = [device["pool"] for profile in profiles for device in profile.devices.values() if is_root(device)]
    if inherited and not own:
        return wanted
    if not inherited and len(pools) != 1:
        raise Invalid(_NO_POOLS if not pools else _NO_POOL)
    pool = inherited[-1] if inherited else pools[0]
    disk = {**wanted.devices.get(own, {"type": "disk", "path": "/"}), "pool": pool}
    return replace(wanted, devices={**wanted.devices, own or "root": disk})


def _snapshots(view: View, id: str, snapshot: str, container_only: bool) -> list[Snapshot]:
    return [] if snapshot or container_only else [one for _, one in snapshot_rules.all_of(view, id)]


def _message(view: View, id: str, snapshot: Snapshot) -> messages.Snapshot:
    found = snapshot_rules.as_container(view, id, snapshot)
    return messages.Snapshot(
        name=snapshot.name,
        config=found.local,
        devices=found.container.devices,
        profiles=found.profiles,
        ephemeral=snapshot.ephemeral,
        architecture=number(snapshot.architecture),
        created_at=int(snapshot.created_at),
        stateful=snapshot.stateful,
        last_used_at=int(snapshot.last_used_at),
    )


class Arriving:
    """A container that comes from another server, as the one that is made here wants it. `reserved` is called once
    that one's name is taken."""

    def __init__(self, node: "Node", sockets: Named, report: Report, reserved: Callable[[], None]) -> None:
        self._node = node
        self._reserved = reserved
        self._arrival = Arrival(sockets, report)

    @property
    def volatile(self) -> dict[str, str]:
        """The keys that a container which has come gets: the id map of its files, and the templates that are due."""
        ids = idmap.encode(self._arrival.header.idmap)
        return {"volatile.last_state.idmap": ids, "volatile.apply_template": "copy"}

    async def meet(self) -> tuple[Snapshot, ...]:
        """Waits for the source, and says which snapshots it sends, oldest first."""
        self._reserved()
        header = await self._arrival.meet()
        view = self._node.store.view()
        for one in header.snapshots:
            snapshot_rules.check_name(one.name)
        return tuple(_record(view, one) for one in header.snapshots)

    async def fill(self, pool: str, name: str) -> None:
        """Makes the volumes of what comes: the snapshots, then the container."""
        try:
            await self._fill(pool, name)
        except (DriverError, NodeError) as error:
            raise NodeError(f"Error transferring container data: {error}") from error

    async def _fill(self, pool: str, name: str) -> None:
        arrival, storage = self._arrival, self._node.storage
        for one in arrival.header.snapshots:
            fill = partial(arrival.fill, name=f"{name}/{one.name}")
            await storage.snapshots.fill(pool, name, one.name, fill)
        await storage.fill_container(pool, name, partial(arrival.fill, name=name))
        if arrival.header.criu is not None:  # It ran meanwhile: what it changed since.
            await arrival.fill(storage.container_path(pool, name), name)

    async def accept(self) -> None:
        """Tells the source that the container is here."""
        await self._arrival.end()


def _record(view: View, sent: messages.Snapshot) -> Snapshot:
    """The record of a snapshot; a profile that is not here counts no more."""
    ids = (view.find(PROFILE, name) for name in sent.profiles)
    return Snapshot(
        name=sent.name,
        architecture=named(sent.architecture) or host_architectures()[0],
        ephemeral=sent.ephemeral,
        config=sent.config,
        devices=sent.devices,
        profiles=[id for id in ids if id is not None],
        created_at=_time(sent.created_at),
        stateful=sent.stateful,
        last_used_at=_time(sent.last_used_at),
    )


def _time(sent: int) -> float:
    """A time that can be shown; LXD's "never" is the year 1."""
    return float(min(max(sent, 0), _LATEST))
