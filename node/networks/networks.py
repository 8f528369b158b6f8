"""This member's networks: bridges that follow the documents, static leases that follow the containers.

Owns the defaults that need this host (free subnets) and the order of document and host in a rename; refuses to decide
what is allowed (`rules.py`)."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

import msgspec
import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network import addresses, interfaces, leases
from lxdnode.drivers.network.dnsmasq import Host
from lxdnode.drivers.network.network import Network as Bridge
from lxdnode.drivers.undo import Undo
from lxdnode.node.containers.records import CONTAINERS, STATUS
from lxdnode.node.definitions.keeper import Keeper
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.networks import rules, users
from lxdnode.node.networks.records import NOUN, Network
from lxdnode.node.node import Node
from lxdnode.node.profiles.records import PROFILES
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

_HOSTS_PAUSE = 0.25
"""Seconds between two rewrites of the static leases: many containers that are made at once cost a few."""
_TRIGGERS = frozenset({CONTAINERS.name, STATUS.name, PROFILES.name})


class Networks(Keeper[Network]):
    """The networks on this member."""

    entity = "network"

    def __init__(self, node: Node) -> None:
        super().__init__(node, NOUN)
        self.interfaces = interfaces.Listing()
        self._running: dict[str, Bridge] = {}
        """What this process has brought up, by name, with the configuration that is in force."""
        self._hosts: dict[str, list[Host]] = {}
        """The hosts of each network as they were written last."""

    # The host.

    async def make(self, record: Network) -> dict[str, str]:
        part = record.part(self._node.member)
        bridge = self._bridge(record)
        known = self._running.get(record.name)
        hosts = (await users.hosts(self._node.store.view())).get(record.name, [])
        await bridge.replace(known.config if known else {}, hosts)
        self._running[record.name], self._hosts[record.name] = bridge, hosts
        return part.config

    async def unmake(self, record: Network) -> None:
        await self._bridge(record).delete()
        self._running.pop(record.name, None)
        self._hosts.pop(record.name, None)

    def _bridge(self, record: Network) -> Bridge:
        return Bridge(self._node.directory, record.name, record.whole(self._node.member))

    async def shut_down(self) -> None:
        """Takes all networks down, as a part of the host's own shutdown."""
        for name, bridge in list(self._running.items()):
            try:
                await bridge.stop()
            except DriverError as error:
                log.warning("network not stopped", network=name, error=str(error))

    async def follow_links(self, _own: Log) -> None:
        """Puts interfaces of the host into their bridges when they appear, until cancelled."""
        async for _ in interfaces.changes():
            for name, bridge in list(self._running.items()):
                if not bridge.has_external:
                    continue
                try:
                    await bridge.admit()
                except DriverError as error:
                    log.warning("external interface not taken", network=name, error=str(error))

    async def follow_hosts(self, own: Log) -> None:
        """Keeps the static leases as the containers are, until cancelled."""
        async with own.watch(*_TRIGGERS) as changes:
            async for _ in changes:
                await self._write_hosts()
                await trio.sleep(_HOSTS_PAUSE)

    async def _write_hosts(self) -> None:
        found = await users.hosts(self._node.store.view())
        for name, bridge in list(self._running.items()):
            hosts, before = found.get(name, []), self._hosts.get(name, [])
            if hosts == before:
                continue
            try:
                bridge.write_hosts(hosts)
                if gone := {host.hwaddr for host in before} - {host.hwaddr for host in hosts}:
                    await bridge.forget(gone)
            except (OSError, DriverError) as error:
                log.warning("static leases not written", network=name, error=str(error))
            else:
                self._hosts[name] = hosts

    # Requests.

    async def complete(self, config: Mapping[str, str], *, is_new: bool) -> dict[str, str]:
        """A configuration with `auto` replaced by free subnets; a new one gets addresses and NAT where it says nothing.

        NodeError with LXD's words when no subnet is free."""
        found = dict(config)
        if is_new and found.get("bridge.mode") != "fan":
            found.setdefault("ipv4.address", "auto")
            if addresses.has_ipv6():
                found.setdefault("ipv6.address", "auto")
        wanted = [version for version in (4, 6) if found.get(f"ipv{version}.address") == "auto"]
        try:
            async with trio.open_nursery() as nursery:
                for version in wanted:
                    nursery.start_soon(self._choose, version, found)
        except* DriverError as errors:
            raise NodeError(str(errors.exceptions[0])) from None
        for version in wanted if is_new else ():
            found.setdefault(f"ipv{version}.nat", "true")
        return found

    async def _choose(self, version: int, config: dict[str, str]) -> None:
        routes = await trio.to_thread.run_sync(interfaces.routed_subnets)
        config[f"ipv{version}.address"] = await addresses.choose(version, routes)

    async def check_free(self, name: str) -> None:
        """Invalid with LXD's words when this host has an interface of that name."""
        if name in await trio.to_thread.run_sync(interfaces.names):
            raise Invalid("The network already exists")

    async def change(self, id: str, description: str, config: Mapping[str, str], before: Network, author: str) -> None:
        """Gives a network another configuration and waits until it is in force; the old one is put back when it
        cannot be. NodeError naming who failed."""
        me = self._node.member
        acts = await self._node.store.transact(
            lambda draft: rules.replace(draft, id, description, config, me), author=author, request="change network"
        )
        if not acts:
            return
        try:
            await self.await_changed(id)
        except NodeError:
            await self._write("restore network", lambda draft: rules.restore(draft, id, before, me))
            with suppress(NodeError):  # Who asked has the first reason; the members go on trying.
                await self.await_changed(id)
            raise

    async def rename(self, name: str, new: str, author: str) -> None:
        """Gives a network another name: it is stopped, its files move, and it is started under the new name."""
        view = self._node.store.view()
        id, record = rules.find(view, name)
        if new in await trio.to_thread.run_sync(interfaces.names):
            raise AlreadyExists(f"Network '{new}' already exists")
        old = self._bridge(record)
        renamed = self._bridge(msgspec.structs.replace(record, name=new))
        async with self._node.locks.hold(f"network:{id}", "rename"), Undo() as undo:
            self._dry_run(lambda draft: rules.rename(draft, name, new))
            undo.add(f"start network {name}", old.start)
            await old.stop()
            undo.add("move files back", _move, renamed, old)
            _move(old, renamed)
            await self._node.store.transact(
                lambda draft: rules.rename(draft, name, new), author=author, request="rename network"
            )
            self._running.pop(name, None)
        await self.await_changed(id)

    def leases(self, name: str) -> list[dict[str, str]]:
        """The static leases of all containers, then the dynamic ones of this host. NotFound, Invalid, LXD's words."""
        view = self._node.store.view()
        if rules.find_id(view, name) is None:
            raise NotFound("Leases not found")
        _id, record = rules.find(view, name)
        static = [
            leases.Lease(hostname=nic.container, hwaddr=nic.hwaddr, address=address, type="static")
            for nic in users.nics(view)
            if nic.parent == name and nic.type == "bridged"
            for address in (nic.ipv4, nic.ipv6)
            if address
        ]
        try:
            dynamic = leases.read(self._bridge(record).directory)
        except DriverError as error:
            raise Invalid(str(error)) from None
        known = {(lease.hwaddr, lease.address) for lease in static}
        found = [*static, *(lease for lease in dynamic if (lease.hwaddr, lease.address) not in known)]
        return [asdict(lease) for lease in found]


def _move(old: Bridge, new: Bridge) -> None:
    if old.directory.exists():
        old.directory.rename(new.directory)
