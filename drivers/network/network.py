"""A managed network on this host: the bridge with its firewall and dnsmasq, started, repaired and stopped.

Owns the order of the steps (spec/networks.md 5); refuses to know which member this is or who uses the network."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network import bridge, dnsmasq, firewall, leases
from lxdnode.drivers.network.dnsmasq import Host

NETWORKS = "networks"
"""The directory below the state directory that holds the networks' files, by name."""


@dataclass(frozen=True)
class Network:
    """One network by its name and configuration, with its files in `state`/networks/NAME."""

    state: Path
    name: str
    config: Mapping[str, str]

    @property
    def directory(self) -> Path:
        """Where its lease file and static leases are."""
        return self.state / NETWORKS / self.name

    async def start(self, hosts: Iterable[Host] = ()) -> None:
        """Brings the network up, or what runs into line with the configuration, without interrupting it.

        Can be repeated at any time. DriverError with the host's or LXD's words; what was done stays, for the
        caller to stop."""
        self._check_served()
        await self._check_own()
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        await trio.to_thread.run_sync(bridge.ensure, self.name, self.config)
        await firewall.apply(self.name, self.config)
        if dnsmasq.is_wanted(self.config):
            await dnsmasq.ensure(self.name, self.directory, self.config)
            self.write_hosts(hosts)
        else:
            await dnsmasq.stop(self.directory)

    async def replace(self, before: Mapping[str, str], hosts: Iterable[Host] = ()) -> None:
        """Brings the network from the configuration `before` to its own."""
        dropped = set(bridge.external_interfaces(before)) - set(bridge.external_interfaces(self.config))
        if dropped:
            await trio.to_thread.run_sync(bridge.release_ports, self.name, dropped)
        await self.start(hosts)

    @property
    def has_external(self) -> bool:
        """Whether interfaces of the host are to be in the bridge."""
        return bool(bridge.external_interfaces(self.config))

    async def admit(self) -> None:
        """Puts those of the host's interfaces into the bridge that have come since it was started."""
        await trio.to_thread.run_sync(bridge.ensure_ports, self.name, self.config)

    async def stop(self) -> None:
        """Takes the network down; its files stay. Nothing when it is down."""
        await dnsmasq.stop(self.directory)
        await firewall.remove(self.name)
        await trio.to_thread.run_sync(bridge.remove, self.name)

    async def delete(self) -> None:
        """Takes the network down and removes its files; nothing when it was never started here."""
        if self.directory.exists():
            await self.stop()
            await trio.to_thread.run_sync(shutil.rmtree, self.directory)

    async def _check_own(self) -> None:
        """An interface of the host that has the name by chance is not taken over: the directory marks ours."""
        if not self.directory.exists() and await trio.to_thread.run_sync(bridge.exists, self.name):
            raise DriverError(f"this host has an interface '{self.name}' already, which is not a network of ours")

    def write_hosts(self, hosts: Iterable[Host]) -> None:
        """Makes the static leases those of `hosts`; nothing when the network has no dnsmasq."""
        if dnsmasq.is_wanted(self.config):
            dnsmasq.write_hosts(self.directory, self.config, hosts)

    async def forget(self, hwaddrs: set[str]) -> None:
        """Drops the dynamic leases of MACs that are gone, so that their addresses and names are free at once.

        dnsmasq keeps the leases in memory and is started anew for it; nothing when it has none of these."""
        if not dnsmasq.is_wanted(self.config) or not leases.holds(self.directory, hwaddrs):
            return
        await dnsmasq.stop(self.directory)
        leases.drop(self.directory, hwaddrs)
        await dnsmasq.ensure(self.name, self.directory, self.config)

    def _check_served(self) -> None:
        if self.config.get("bridge.driver") == "openvswitch":
            if shutil.which("ovs-vsctl") is None:
                raise DriverError("Open vSwitch isn't installed on this system")
            raise DriverError(f"Network '{self.name}': bridges of Open vSwitch are not served by this version")
        if self.config.get("bridge.mode") == "fan":
            raise DriverError(f"Network '{self.name}': fan mode is not served by this version")
