"""Which containers are on which network, found by their expanded nics.

Owns what counts as a use (spec/networks.md 1). A scan, and not references: a nic may come from a profile, name a
network before that exists, and keep the name when the network changes its own; and whoever writes the static leases
has to go through all nics anyway."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import trio

from lxdnode.drivers.network.dnsmasq import Host
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import CONTAINERS
from lxdnode.node.documents import View

_SLICE = 64
_TYPES = ("bridged", "macvlan", "physical", "sriov")


@dataclass(frozen=True)
class Nic:
    """A nic of a container: the host's interface that it hangs on, and what its leases are made of."""

    container: str
    type: str
    parent: str
    hwaddr: str
    ipv4: str
    ipv6: str


def nics(view: View) -> Iterator[Nic]:
    """Every nic of every container, on all members, by container id."""
    for id, _container in view.all(CONTAINERS):
        found = expand(view, id)
        for name, device in found.devices.items():
            if device.get("type") != "nic" or device.get("nictype") not in _TYPES:
                continue
            vlan, parent = device.get("vlan", ""), device.get("parent", "")
            yield Nic(
                container=found.name,
                type=device["nictype"],
                parent=f"{parent}.{vlan}" if vlan else parent,
                hwaddr=device.get("hwaddr") or found.local.get(f"volatile.{name}.hwaddr", ""),
                ipv4=device.get("ipv4.address", ""),
                ipv6=device.get("ipv6.address", ""),
            )


async def _in_slices(view: View) -> AsyncIterator[Nic]:
    """All nics, letting others run now and then: a thousand containers take some 5 ms."""
    for count, nic in enumerate(nics(view), 1):
        yield nic
        if count % _SLICE == 0:
            await trio.lowlevel.checkpoint()


def containers(view: View, network: str) -> list[str]:
    """The names of the containers on a network, sorted."""
    return sorted({nic.container for nic in nics(view) if nic.parent == network})


async def by_network(view: View) -> dict[str, list[str]]:
    """Network or interface -> names of the containers on it, sorted: for lists, in one scan."""
    found: dict[str, set[str]] = {}
    async for nic in _in_slices(view):
        found.setdefault(nic.parent, set()).add(nic.container)
    return {parent: sorted(names) for parent, names in found.items()}


async def hosts(view: View) -> dict[str, list[Host]]:
    """Network -> what its dnsmasq must know of the containers on it."""
    found: dict[str, list[Host]] = {}
    async for nic in _in_slices(view):
        if nic.type == "bridged" and nic.hwaddr:
            found.setdefault(nic.parent, []).append(Host(nic.container, nic.hwaddr, nic.ipv4, nic.ipv6))
    return found
