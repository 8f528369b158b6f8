"""The network interfaces of this host, as netlink tells them (spec/networks.md 1).

Owns how an interface is described; refuses to change one. /sys/class/net is not read: it shows the namespace
in which it was mounted, not the one of this process."""

import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import trio
from pyroute2 import IPRoute

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network.addresses import Subnet

_LOOPBACK, _UP, _BROADCAST, _POINTTOPOINT = 0x8, 0x1, 0x2, 0x10
_TYPES = {"bridge": "bridge", "openvswitch": "bridge", "vlan": "vlan", "bond": "bond"}
_LINK_EVENTS, _EVENT_BYTES = 1, 65_536
_FAMILIES = {2: "inet", 10: "inet6"}


@dataclass(frozen=True)
class Address:
    """One address; `netmask` is the prefix length as text."""

    family: str
    address: str
    netmask: str
    scope: str


@dataclass(frozen=True)
class Interface:
    """One interface with its counters; `type` as in a network object, `kind` as in its state."""

    name: str
    index: int
    type: str
    kind: str
    hwaddr: str
    mtu: int
    is_up: bool
    master: int
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    addresses: tuple[Address, ...] = ()


def all_interfaces() -> list[Interface]:
    """Every interface of this network namespace, without addresses, sorted by name. Takes about a millisecond."""
    with IPRoute() as kernel:
        return sorted((_describe(link) for link in kernel.get_links()), key=lambda found: found.name)


class Listing:
    """All interfaces, read again only when the kernel has told of a change since: it does so before the change is
    over, so that a list is never older than the question. The counters are as old as the reading."""

    def __init__(self) -> None:
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._events.bind((0, _LINK_EVENTS))
        self._found: list[Interface] | None = None

    async def read(self) -> list[Interface]:
        """Every interface as `all_interfaces` gives it."""
        if self._has_news() or self._found is None:
            self._found = await trio.to_thread.run_sync(all_interfaces)
        return self._found

    def _has_news(self) -> bool:
        found = False
        while True:
            try:
                self._events.recv(_EVENT_BYTES)
            except BlockingIOError:
                return found
            except OSError as error:
                _forgive_overflow(error)
            found = True


def names() -> set[str]:
    """The names of all interfaces of this network namespace."""
    with IPRoute() as kernel:
        return {link.get_attr("IFLA_IFNAME") for link in kernel.get_links()}


def show(name: str) -> Interface:
    """One interface with its addresses. DriverError with LXD's words when there is none."""
    with IPRoute() as kernel:
        found = kernel.link_lookup(ifname=name)
        if not found:
            raise DriverError(f"Interface '{name}' not found")
        (link,) = kernel.get_links(found[0])
        addresses = tuple(_address(entry) for entry in kernel.get_addr(index=found[0]))
        return _describe(link, addresses)


def routed_subnets() -> list[Subnet]:
    """The destination of every route of this host but the default ones."""
    with IPRoute() as kernel:
        routes = [(route.get_attr("RTA_DST"), route["dst_len"]) for route in kernel.get_routes()]
    return [ip_network(f"{target}/{length}", strict=False) for target, length in routes if target and length]


async def changes() -> AsyncIterator[None]:
    """Yields whenever links of this network namespace have come, gone or changed."""
    with trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        await events.bind((0, _LINK_EVENTS))
        while True:
            try:
                await events.recv(_EVENT_BYTES)
            except OSError as error:
                _forgive_overflow(error)
            yield


def _forgive_overflow(error: OSError) -> None:
    """More came than the socket holds: what was lost is a change like any other."""
    if error.errno != errno.ENOBUFS:
        raise error


def _describe(link: Any, addresses: tuple[Address, ...] = ()) -> Interface:
    stats = link.get_attr("IFLA_STATS64") or {}
    return Interface(
        name=link.get_attr("IFLA_IFNAME"),
        index=link["index"],
        type=_type(link),
        kind=_kind(link["flags"]),
        hwaddr=link.get_attr("IFLA_ADDRESS") or "",
        mtu=link.get_attr("IFLA_MTU") or 0,
        is_up=bool(link["flags"] & _UP),
        master=link.get_attr("IFLA_MASTER") or 0,
        bytes_sent=stats.get("tx_bytes", 0),
        bytes_received=stats.get("rx_bytes", 0),
        packets_sent=stats.get("tx_packets", 0),
        packets_received=stats.get("rx_packets", 0),
        addresses=addresses,
    )


def _type(link: Any) -> str:
    if link["flags"] & _LOOPBACK:
        return "loopback"
    info = link.get_attr("IFLA_LINKINFO")
    if info is not None:
        return _TYPES.get(info.get_attr("IFLA_INFO_KIND"), "unknown")
    return "physical" if link.get_attr("IFLA_PARENT_DEV_NAME") else "unknown"


def _kind(flags: int) -> str:
    for flag, kind in ((_LOOPBACK, "loopback"), (_POINTTOPOINT, "point-to-point"), (_BROADCAST, "broadcast")):
        if flags & flag:
            return kind
    return "unknown"


def _address(entry: Any) -> Address:
    address = entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS")
    return Address(_FAMILIES.get(entry["family"], ""), address, str(entry["prefixlen"]), _scope(address))


def _scope(address: str) -> str:
    if address.startswith("127") or address == "::1":
        return "local"
    return "link" if address.startswith(("169.254", "fe80:")) else "global"
