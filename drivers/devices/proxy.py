"""Proxies between host and container (spec/config-keys.md 6, "proxy").

Owns the form of addresses and which pairs there are; refuses to move bytes (`forwarder.py` does, a process each)."""

import re
from typing import Literal

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean, integer, is_true
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug, mark
from lxdnode.drivers.devices.forwarder import Address, Forward
from lxdnode.drivers.devices.unix import parse_mode
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import to_host

_ADDRESS = re.compile(r"(?P<host>\[[^\]]+\]|[^:]*):(?P<ports>[0-9,-]+)")


def parse(text: str) -> list[Address]:
    """The addresses of `tcp:10.0.0.1:80,90-92`, `udp:[::1]:53`, `unix:/path` or `unix:@abstract`. ValueError with LXD's
    words."""
    kind, _, rest = text.partition(":")
    if kind == "unix":
        return [Address("unix", rest, 0)]
    if kind not in ("tcp", "udp"):
        raise ValueError(f"Unknown connection type '{kind}'")
    match = _ADDRESS.fullmatch(rest)
    if match is None:
        raise ValueError(f"Invalid address '{text}'")
    protocol: Literal["tcp", "udp"] = "tcp" if kind == "tcp" else "udp"
    host = match["host"].strip("[]")
    return [Address(protocol, host, port) for part in match["ports"].split(",") for port in _range(part)]


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
        raise ValueError(f"Invalid port range {text}")
    found = range(int(first), int(last if dash else first) + 1)
    if found.stop > 65536:
        raise ValueError(f"Invalid port range {text}")
    return found


def _check(device: Device) -> None:
    for name in ("listen", "connect"):
        if not device.get(name):
            raise ValueError(f'Proxy device entry is missing the required "{name}" property.')
    if device.get("bind", "") not in ("", "host", "container"):
        raise ValueError('Invalid binding side given. Must be "host" or "container".')
    listen, connect = parse(device["listen"]), parse(device["connect"])
    if len(connect) > len(listen) or (len(connect) not in (1, len(listen))):
        raise ValueError("Cannot map a single port to multiple ports")
    has_file = listen[0].protocol == "unix" and not listen[0].host.startswith("@")
    if not has_file and any(device.get(key) for key in ("uid", "gid", "mode")):
        raise ValueError("Only proxy devices for non-abstract unix sockets can carry uid, gid, or mode properties")
    if is_true(device.get("proxy_protocol")) and connect[0].protocol != "tcp":
        raise ValueError("The PROXY header can only be sent to tcp servers")
    _check_nat(device, listen[0].protocol, connect[0].protocol)


def _check_nat(device: Device, listen: str, connect: str) -> None:
    if not is_true(device.get("nat")):
        return
    if device.get("bind") != "host":
        raise ValueError("Only host-bound proxies can use NAT")
    if listen != connect or listen == "unix":
        raise ValueError(f"Proxying {listen} <-> {connect} is not supported when using NAT")


def _start(plug: Plug) -> list[Part]:
    device = plug.entry
    if is_true(device.get("nat")):
        raise DriverError(f"Key nat of proxy '{plug.name}' is not supported yet: unset it first")
    listen, connect = parse(device["listen"]), parse(device["connect"])
    if listen[0].protocol == "udp" and connect[0].protocol != "udp":
        raise DriverError("Proxying from udp to non-udp protocol is not supported")
    is_inside = device.get("bind") == "container"
    maps = [plug.idmap, ()] if is_inside else [(), plug.idmap]
    owner = to_host(maps[0], _number(device, "uid"), _number(device, "gid"))
    drop = to_host(maps[1], _number(device, "security.uid"), _number(device, "security.gid"))
    return [
        Forward(
            listen=listen,
            connect=connect * len(listen) if len(connect) == 1 else connect,
            is_inside=is_inside,
            root=to_host(maps[0], 0, 0),
            owner=owner if is_inside or device.get("uid") or device.get("gid") else None,
            mode=parse_mode(device["mode"], device["listen"]) if device.get("mode") else None,
            drop=drop if device.get("security.uid") or device.get("security.gid") else None,
            says_who=is_true(device.get("proxy_protocol")),
            file=plug.directory / f"proxy.{mark(plug.name)}.pid",
        )
    ]


def _number(device: Device, key: str) -> int:
    return int(device.get(key) or 0)


PROXY = DeviceType(
    "proxy",
    (
        Key("listen", doc="`tcp:ADDRESS:PORTS`, `udp:ADDRESS:PORTS`, `unix:/PATH` or `unix:@NAME`"),
        Key("connect", doc="The same; as many as `listen`, or one for all"),
        Key("bind", default="host", doc="The side that listens: host or container"),
        Key("uid", integer, extension="proxy_unix_dac_properties"),
        Key("gid", integer, extension="proxy_unix_dac_properties"),
        Key("mode", extension="proxy_unix_dac_properties"),
        Key("nat", boolean, "false"),
        Key("proxy_protocol", boolean, "false"),
        Key("security.uid", integer, default="0", extension="unix_priv_drop"),
        Key("security.gid", integer, default="0", extension="unix_priv_drop"),
    ),
    _check,
    _start,
)
