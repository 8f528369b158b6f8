"""What GET /1.0 says of this server (spec/rest.md 2, "environment").

Owns the facts that are gathered once at the start, and those that follow the documents; refuses the envelope."""

import ipaddress
import os
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psutil

from lxdnode.drivers.images.architectures import host_architectures
from lxdnode.node.cluster.rules import is_clustered, name_of
from lxdnode.node.documents import View
from lxdnode.node.keypair import KeyPair

API_LEVEL = "3.3"
"""The LXD release whose API is served, as clients compare it."""
VERSION = "0.1.0"
"""The release of lxd-node, as members report it."""


@dataclass
class Host:
    """Facts of this host and of the programs that serve it; `driver_version` is liblxc's, known once it was asked."""

    driver_version: str = ""
    kernel: str = field(default_factory=platform.system)
    kernel_version: str = field(default_factory=platform.release)
    kernel_architecture: str = field(default_factory=platform.machine)
    architectures: list[str] = field(default_factory=host_architectures)
    pid: int = field(default_factory=os.getpid)


def environment(
    view: View, member: int, host: Host, shown: KeyPair, address: str, storage: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """The `environment` of GET /1.0. `address` is core.https_address, `shown` the certificate that the TLS listener
    shows, `storage` (driver, version) of each storage driver in use."""
    drivers = sorted(set(storage))
    clustered = is_clustered(view)
    return {
        "addresses": addresses_of(address),
        "architectures": host.architectures,
        "certificate": shown.certificate,
        "certificate_fingerprint": shown.fingerprint,
        "driver": "lxc",
        "driver_version": host.driver_version,
        "kernel": host.kernel,
        "kernel_architecture": host.kernel_architecture,
        "kernel_version": host.kernel_version,
        "server": "lxd",
        "server_pid": host.pid,
        "server_version": API_LEVEL,
        "storage": " | ".join(name for name, _version in drivers),
        "storage_version": " | ".join(version for _name, version in drivers),
        "server_clustered": clustered,
        "server_name": name_of(view, member) if clustered else socket.gethostname(),
    }


def addresses_of(address: str) -> list[str]:
    """host:port for each address that clients reach; a wildcard stands for all global ones (spec/security.md 1)."""
    if not address:
        return []
    host, _colon, port = address.rpartition(":")
    host = host.strip("[]")
    if host not in ("", "0.0.0.0", "::"):
        return [address]
    families = (4,) if host == "0.0.0.0" else (4, 6)
    return [_joined(found, port) for found in global_addresses() if found.version in families]


def _joined(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: str) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def global_addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The unicast addresses of this host that others can use: no loopback, no link-local ones."""
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(entry.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local or address.is_multicast):
                    found.append(address)
    return found
