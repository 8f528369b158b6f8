"""The DHCP and DNS server of a network: one dnsmasq, which outlives this daemon (spec/networks.md 4).

Owns its command line and files, and finding it again; refuses to know containers (it is given their hosts)."""

import ipaddress
import os
import pwd
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from lxdnode.drivers.command import run
from lxdnode.drivers.config.kinds import is_false, is_true
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network.addresses import ranges
from lxdnode.drivers.network.keys import NETWORK, is_set

_USERS = ("lxd", "nobody")


@dataclass(frozen=True)
class Host:
    """What a container is known by on a network. `name` is left out unless DNS answers for containers."""

    name: str
    hwaddr: str
    ipv4: str = ""
    ipv6: str = ""


def is_wanted(config: Mapping[str, str]) -> bool:
    """Whether a network has a dnsmasq at all."""
    return is_set(config, "ipv4.address") or is_set(config, "ipv6.address")


async def ensure(network: str, directory: Path, config: Mapping[str, str]) -> None:
    """Has a dnsmasq run with this configuration; one that does already is left alone.

    `directory`: D/networks/NETWORK. DriverError with dnsmasq's words, such as an address that is in use."""
    raw = directory / "dnsmasq.raw"
    (directory / "dnsmasq.hosts").mkdir(mode=0o755, exist_ok=True)
    wanted_raw = config.get("raw.dnsmasq", "") + "\n"
    command = command_line(network, directory, config)
    if _running(directory) == command and raw.exists() and raw.read_text() == wanted_raw:
        return
    await stop(directory)
    raw.write_text(wanted_raw)
    try:
        await run(*command, is_service=True)
    except DriverError as error:
        if "is not installed" in str(error):
            raise DriverError("dnsmasq is required for LXD managed bridges.") from None
        raise


async def stop(directory: Path) -> None:
    """Ends a network's dnsmasq and waits until it is gone; nothing when none runs."""
    found = _open(directory)
    if found is None:
        return
    try:
        signal.pidfd_send_signal(found, signal.SIGKILL)
        await trio.lowlevel.wait_readable(found)
    finally:
        os.close(found)


def command_line(network: str, directory: Path, config: Mapping[str, str]) -> list[str]:
    """The words that start a network's dnsmasq.

    It does not ask a new address first whether it is in use (nor does LXD's): that takes three seconds of each first
    lease, in which nobody else gets one."""
    user = next((name for name in _USERS if _has_user(name)), "root")
    return [
        "dnsmasq", "--strict-order", "--bind-interfaces", f"--pid-file={directory / 'dnsmasq.pid'}",
        "--except-interface=lo", "--no-ping", f"--interface={network}", "--quiet-dhcp", "--quiet-dhcp6", "--quiet-ra",
        *_ipv4(directory, config), *_ipv6(network, directory, config), *_dns(config),
        f"--conf-file={directory / 'dnsmasq.raw'}", "-u", user,
    ]  # fmt: skip


def _ipv4(directory: Path, config: Mapping[str, str]) -> Iterator[str]:
    if not is_set(config, "ipv4.address"):
        return
    interface = ipaddress.ip_interface(config["ipv4.address"])
    yield f"--listen-address={interface.ip}"
    if is_false(config.get("ipv4.dhcp")):
        return
    yield from _leasing(directory)
    if gateway := config.get("ipv4.dhcp.gateway"):
        yield f"--dhcp-option=3,{gateway}"
    expiry = NETWORK.value(config, "ipv4.dhcp.expiry")
    for first, last in ranges(config.get("ipv4.dhcp.ranges", ""), interface):
        yield from ("--dhcp-range", f"{first},{last},{expiry}")


def _ipv6(network: str, directory: Path, config: Mapping[str, str]) -> Iterator[str]:
    if not is_set(config, "ipv6.address"):
        return
    interface = ipaddress.ip_interface(config["ipv6.address"])
    yield f"--listen-address={interface.ip}"
    yield "--enable-ra"
    if is_false(config.get("ipv6.dhcp")) or is_false(config.get("ipv6.firewall")):
        yield from ("--dhcp-range", f"::,constructor:{network},ra-only")
        return
    if not is_set(config, "ipv4.address") or is_false(config.get("ipv4.dhcp")):
        yield from _leasing(directory)
    if not is_true(config.get("ipv6.dhcp.stateful")):
        yield from ("--dhcp-range", f"::,constructor:{network},ra-stateless,ra-names")
        return
    expiry = NETWORK.value(config, "ipv6.dhcp.expiry")
    for first, last in ranges(config.get("ipv6.dhcp.ranges", ""), interface):
        yield from ("--dhcp-range", f"{first},{last},{interface.network.prefixlen},{expiry}")


def _leasing(directory: Path) -> tuple[str, ...]:
    """What DHCP of either version needs once."""
    return (
        "--dhcp-no-override",
        "--dhcp-authoritative",
        f"--dhcp-leasefile={directory / 'dnsmasq.leases'}",
        f"--dhcp-hostsfile={directory / 'dnsmasq.hosts'}",
    )


def _dns(config: Mapping[str, str]) -> tuple[str, ...]:
    if config.get("dns.mode") == "none":
        return ()
    domain = NETWORK.value(config, "dns.domain")
    return ("-s", domain, "-S", f"/{domain}/")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def write_hosts(directory: Path, config: Mapping[str, str], hosts: Iterable[Host]) -> None:
    """Makes the static leases those of `hosts` and has a running dnsmasq read them."""
    folder = directory / "dnsmasq.hosts"
    wanted = host_files(config, hosts)
    present = {path.name: path.read_text() for path in folder.iterdir()}
    if wanted == present:
        return
    for name in present.keys() - wanted.keys():
        (folder / name).unlink()
    for name, line in wanted.items():
        if present.get(name) != line:
            (folder / name).write_text(line)
            (folder / name).chmod(0o644)
    if (found := _open(directory)) is not None:
        signal.pidfd_send_signal(found, signal.SIGHUP)
        os.close(found)


def host_files(config: Mapping[str, str], hosts: Iterable[Host]) -> dict[str, str]:
    """File name -> line of every static lease. Containers with the same two addresses share the first one's line,
    with the MACs of all; one of which only the MAC is known needs no line."""
    named = NETWORK.value(config, "dns.mode") == "managed"
    files: dict[str, tuple[list[str], list[str]]] = {}
    by_addresses: dict[tuple[str, str], str] = {}
    for host in sorted(hosts, key=lambda host: host.name):
        addresses = (host.ipv4, host.ipv6)
        first = by_addresses.setdefault(addresses, host.name) if all(addresses) else host.name
        if first != host.name and first in files:
            files[first][0].append(host.hwaddr)
            continue
        words = [host.ipv4] if host.ipv4 else []
        words += [f"[{host.ipv6}]"] if host.ipv6 else []
        words += [host.name] if named else []
        if words:
            files[host.name] = ([host.hwaddr], words)
    return {name: ",".join(macs + words) + "\n" for name, (macs, words) in files.items()}


def _running(directory: Path) -> list[str] | None:
    """The command line of a network's dnsmasq, or None. It is told from another process that got its number by
    the name of the pid file, which is in that command line."""
    pid_file = directory / "dnsmasq.pid"
    try:
        words = Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_text().split("\0")[:-1]
    except (OSError, ValueError):
        return None
    return words if f"--pid-file={pid_file}" in words else None


def _open(directory: Path) -> int | None:
    """A pidfd of a network's dnsmasq that lives, for the caller to close, or None."""
    try:
        found = os.pidfd_open(int((directory / "dnsmasq.pid").read_text()))
    except (OSError, ValueError):
        return None
    # Looked at only now, when the number can no longer pass to another process unseen.
    if _running(directory) is None or select.select([found], [], [], 0)[0]:
        os.close(found)
        return None
    return found
