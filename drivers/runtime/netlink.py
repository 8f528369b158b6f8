"""Reads the interfaces of a network namespace by one netlink dump each of links and addresses.

Owns the binary format; refuses everything else (pyroute2's IPRoute took 16 ms for what takes 0.2 here, and keeps
the namespace). Entering a namespace concerns the calling thread alone: call it from a worker thread."""

import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_DUMP, _DONE, _ERROR = 0x301, 3, 2
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_STATS64 = 1, 3, 4, 5, 23
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFF_UP, _IFF_BROADCAST, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x2, 0x8, 0x10
_NESTED = 0x3FFF
_CLONE_NEWNET = 0x40000000
_SCOPES = {0: "global", 200: "global", 253: "link", 254: "local"}
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Address:
    """`family` inet or inet6; `netmask` is the prefix length; `scope` global, link or local."""

    family: str
    address: str
    netmask: str
    scope: str


@dataclass
class Interface:
    """One interface as LXD shows it. `peer`: interface number of the other end in its own namespace, 0 if none."""

    name: str
    hwaddr: str
    mtu: int
    state: str
    type: str
    peer: int
    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    addresses: list[Address] = field(default_factory=list)


def interfaces_of(pid: int) -> list[Interface]:
    """The interfaces in the network namespace of a process. OSError when it has gone."""
    with network_namespace(f"/proc/{pid}/ns/net"):
        query = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    with query:
        return _read(query)


@contextmanager
def network_namespace(path: str) -> Iterator[None]:
    """The calling thread is in a network namespace while the block runs, by its file (`/proc/4711/ns/net`). OSError
    when it has gone."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(target)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(target)
    finally:
        os.close(home)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _read(query: socket.socket) -> list[Interface]:
    found: dict[int, Interface] = {}
    for body in _dump(query, _RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0), _RTM_NEWLINK):
        _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
        found[index] = _interface(flags, dict(_attributes(body, 16)))
    for body in _dump(query, _RTM_GETADDR, struct.pack("=BBBBi", 0, 0, 0, 0, 0), _RTM_NEWADDR):
        family, prefix, _, scope, index = struct.unpack_from("=BBBBi", body)
        attributes = dict(_attributes(body, 8))
        raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
        if index in found and raw and family in (socket.AF_INET, socket.AF_INET6):
            word = "inet" if family == socket.AF_INET else "inet6"
            text = str(ipaddress.ip_address(raw))  # Not inet_ntop: pysyncobj puts one for Windows in its place.
            found[index].addresses.append(Address(word, text, str(prefix), _SCOPES.get(scope, "global")))
    return list(found.values())


def _dump(query: socket.socket, kind: int, header: bytes, answer: int) -> Iterator[bytes]:
    """The bodies of all messages that answer a dump request."""
    query.send(struct.pack("=IHHII", 16 + len(header), kind, _DUMP, 1, 0) + header)
    while True:
        data = query.recv(1 << 16)
        while data:
            length, found, _, _, _ = struct.unpack_from("=IHHII", data)
            if found == _DONE:
                return
            if found == _ERROR:
                number = -struct.unpack_from("=i", data, 16)[0]
                raise OSError(number, os.strerror(number))
            if found == answer:
                yield data[16:length]
            data = data[(length + 3) & ~3 :]


def _attributes(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            return
        yield kind & _NESTED, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _interface(flags: int, attributes: dict[int, bytes]) -> Interface:
    def number(kind: int) -> int:
        return int(struct.unpack("=I", attributes[kind])[0]) if kind in attributes else 0

    types = ((_IFF_LOOPBACK, "loopback"), (_IFF_POINTOPOINT, "point-to-point"), (_IFF_BROADCAST, "broadcast"))
    interface = Interface(
        name=attributes[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace"),
        hwaddr=attributes.get(_IFLA_ADDRESS, b"").hex(":") if not flags & _IFF_LOOPBACK else "",
        mtu=number(_IFLA_MTU),
        state="up" if flags & _IFF_UP else "down",
        type=next((word for flag, word in types if flags & flag), "unknown"),
        peer=number(_IFLA_LINK),
    )
    if _IFLA_STATS64 in attributes:
        received, sent, bytes_received, bytes_sent = struct.unpack_from("=4Q", attributes[_IFLA_STATS64])
        interface.packets_received, interface.packets_sent = received, sent
        interface.bytes_received, interface.bytes_sent = bytes_received, bytes_sent
    return interface


def interface_names() -> dict[int, str]:
    """The names of the daemon's own interfaces by number: a container's veth names its other end by number."""
    return dict(socket.if_nameindex())
