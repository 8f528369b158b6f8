"""Addresses of networks: ranges of leases, and the choice of a subnet that nobody uses (spec/networks.md 3).

Owns the arithmetic and the search; refuses to give an interface its address (`bridge.py` does)."""

import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import trio

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError

Interface = IPv4Interface | IPv6Interface
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

Question = Callable[[str], Awaitable[bool]]

_TRIES = 100
_ANSWER_LIMIT = 1.0
"""Seconds in which an address of a subnet in use would have answered."""
_NOBODY = {False: "203.0.113.1", True: "2001:db8::1"}
"""Addresses that documents use and no host has (RFC 5737, RFC 3849); by whether IPv6 is meant."""


def dhcp_range(interface: Interface) -> tuple[str, str]:
    """First and last address to lease: the second host to the last that is not the broadcast address."""
    subnet = interface.network
    last = subnet[-2] if interface.version == 4 else subnet[-1]
    return str(subnet[2]), str(last)


def ranges(value: str, interface: Interface) -> list[tuple[str, str]]:
    """(first, last) of each part of `FIRST-LAST,...`, or the one default range. DriverError for other text."""
    if not value:
        return [dhcp_range(interface)]
    found = []
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        if not dash:
            raise DriverError(f"Invalid DHCP range: {part.strip()} (not FIRST-LAST)")
        found.append((first.strip(), last.strip()))
    return found


async def choose(version: int, routes: Iterable[Subnet]) -> str:
    """An address in CIDR form for a bridge, in a subnet that no route covers and nobody answers in.

    DriverError with LXD's words when 100 tries found none."""
    taken = [route for route in routes if route.version == version and route.prefixlen > 0]
    for _ in range(_TRIES):
        interface = _draw(version)
        if any(_overlap(interface.network, route) for route in taken):
            continue
        if not await _answers(_probes(interface)):
            return str(interface)
    raise DriverError(f"Failed to automatically find an unused IPv{version} subnet, manual configuration required")


def has_ipv6() -> bool:
    """Whether new interfaces of this host take part in IPv6."""
    path = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    return path.exists() and path.read_text().strip() == "0"


def _draw(version: int) -> Interface:
    pick: Callable[[int, int], int] = random.SystemRandom().randint
    if version == 4:
        return ipaddress.IPv4Interface(f"10.{pick(0, 254)}.{pick(0, 254)}.1/24")
    return ipaddress.IPv6Interface(f"fd42:{pick(0, 0xFFFF):x}:{pick(0, 0xFFFF):x}:{pick(0, 0xFFFF):x}::1/64")


def _overlap(subnet: Subnet, other: Subnet) -> bool:
    return subnet.overlaps(other)


def _probes(interface: Interface) -> list[str]:
    """The hosts that a router of this subnet would be at."""
    subnet = interface.network
    return [str(subnet[1]), str(subnet[-2])] if interface.version == 4 else [str(subnet[1])]


async def _answers(hosts: list[str]) -> bool:
    """Whether any host answers ping or has a port 22, all asked at once. At once False without a route there."""
    asked = [(question, host) for host in hosts if _has_route(host) for question in (_ping, _connect)]
    return await _any_holds(asked)


async def _any_holds(asked: Sequence[tuple[Question, str]]) -> bool:
    found = False

    async def ask(question: Question, host: str) -> None:
        nonlocal found
        with trio.move_on_after(_ANSWER_LIMIT):
            if await question(host):
                found = True
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for question, host in asked:
            nursery.start_soon(ask, question, host)
    return found


async def _ping(host: str) -> bool:
    try:
        await run("ping", "-n", "-q", "-c", "1", "-W", "1", host)
    except DriverError:
        return False
    return True


async def _connect(host: str) -> bool:
    """Whether the host has a port 22. A proxy on the way that takes every connection is no sign of a host."""
    return await _opens(host) and not await _opens(_NOBODY[":" in host])


async def _opens(host: str) -> bool:
    try:
        stream = await trio.open_tcp_stream(host, 22)
    except OSError:
        return False
    await stream.aclose()
    return True


def _has_route(host: str) -> bool:
    """Whether this host would send to that address at all (connecting a datagram socket sends nothing)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 22))
        except OSError:
            return False
    return True
