"""Network interfaces of containers (spec/config-keys.md 6, "nic")."""

import secrets
import socket

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.configure import Nic

NIC_TYPES = ("bridged", "macvlan", "p2p", "physical", "sriov")


def _check(device: Device) -> None:
    kind = device.get("nictype", "")
    if not kind:
        raise ValueError("Missing nic type")
    if kind not in NIC_TYPES:
        raise ValueError(f"Bad nic type: {kind}")
    if kind != "p2p" and not device.get("parent"):
        raise ValueError(f"Missing parent for {kind} type nic")


_LATER = ("limits.ingress", "limits.egress", "limits.max", "security.mac_filtering", "vlan")


def _start(plug: Plug) -> list[Part]:
    """A veth pair, on the bridge `parent` if it is bridged."""
    nic = plug.entry
    if nic["nictype"] not in ("bridged", "p2p"):
        raise DriverError(f"Nic type {nic['nictype']} of '{plug.name}' is not supported yet: use bridged or p2p")
    for key in _LATER:
        if nic.get(key):
            raise DriverError(f"Key {key} of nic '{plug.name}' is not supported yet: unset it to start")
    parent = nic.get("parent", "") if nic["nictype"] == "bridged" else ""
    if parent and not _exists(parent):
        raise DriverError(f"Missing parent '{parent}' for nic '{plug.name}'")
    return [
        Nic(
            name=nic.get("name") or plug.volatile["name"],
            host_name=nic.get("host_name") or f"veth{secrets.token_hex(4)}",
            link=parent,
            hwaddr=nic.get("hwaddr") or plug.volatile["hwaddr"],
            mtu=nic.get("mtu", ""),
        )
    ]


def _exists(interface: str) -> bool:
    # Not through /sys: what is mounted there may show another network namespace than the daemon's.
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


NIC = DeviceType(
    "nic",
    (
        Key("nictype", doc="bridged, macvlan, p2p, physical or sriov"),
        Key("parent", doc="The host's interface or bridge"),
        Key("name", doc="Name inside the container"),
        Key("host_name", doc="Name on the host"),
        Key("hwaddr", doc="MAC address"),
        Key("mtu"),
        Key("vlan", extension="network_vlan"),
        Key("limits.ingress", live=True, doc="Bits per second to the container"),
        Key("limits.egress", live=True, doc="Bits per second from the container"),
        Key("limits.max", live=True, doc="Both directions"),
        Key("ipv4.address", live=True, extension="network", doc="Static lease"),
        Key("ipv6.address", live=True, extension="network", doc="Static lease"),
        Key("security.mac_filtering", boolean, "false", extension="network"),
        Key("maas.subnet.ipv4", extension="maas_network"),
        Key("maas.subnet.ipv6", extension="maas_network"),
    ),
    _check,
    _start,
)
