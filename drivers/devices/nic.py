"""Network interfaces of containers (spec/config-keys.md 6, "nic")."""

import re
import secrets
from typing import Literal

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import bits, boolean, integer, is_true, parse_bits
from lxdnode.drivers.devices import filtering, links
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


def _start(plug: Plug) -> list[Part]:
    """A veth pair, on the bridge `parent` if it is bridged; an interface on top of `parent`; or `parent` itself."""
    nic, kind = plug.entry, plug.entry["nictype"]
    if kind == "sriov":
        raise DriverError(f"Nic type sriov of '{plug.name}' is not supported yet: use another one")
    _check_values(plug.name, nic)
    parent = nic.get("parent", "") if kind != "p2p" else ""
    if parent and not links.exists(parent):
        raise DriverError(f"Missing parent '{parent}' for nic '{plug.name}'")
    if (host_name := nic.get("host_name", "")) and kind in ("bridged", "p2p") and links.exists(host_name):
        raise DriverError(f"Interface '{host_name}' exists already: give nic '{plug.name}' another host_name")
    if nic.get("vlan") and kind in ("macvlan", "physical"):
        parent = links.make_vlan(parent, int(nic["vlan"]))
    part = Nic(
        name=nic.get("name") or plug.volatile["name"],
        host_name=nic.get("host_name") or f"veth{secrets.token_hex(4)}",
        link=parent,
        hwaddr=nic.get("hwaddr") or plug.volatile.get("hwaddr", ""),
        mtu=nic.get("mtu", ""),
        type=_LXC_TYPES[kind],
    )
    if kind == "bridged" and is_true(nic.get("security.mac_filtering")):
        filtering.apply(plug.keep(filtering.KIND, part.host_name), part.hwaddr)
    return [part]


_VALUES = {
    "mtu": re.compile(r"[0-9]{1,7}"),
    "vlan": re.compile(r"[0-9]{1,4}"),
    "hwaddr": re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"),
}


def _check_values(name: str, nic: Device) -> None:
    """What LXD does not look at when it is set, and what neither liblxc nor netlink has words for."""
    for key, form in _VALUES.items():
        if nic.get(key) and not form.fullmatch(nic[key]):
            raise DriverError(f"Invalid {key} '{nic[key]}' of nic '{name}'")


_LXC_TYPES: dict[str, Literal["veth", "macvlan", "phys"]] = {
    "bridged": "veth",
    "p2p": "veth",
    "macvlan": "macvlan",
    "physical": "phys",
}


async def _set(plug: Plug, parts: list[Part], fresh: bool) -> None:
    """The limits of traffic."""
    nic = plug.entry
    limits = [parse_bits(nic.get("limits.max") or nic.get(f"limits.{way}", "")) for way in ("ingress", "egress")]
    if any(limits) and nic["nictype"] not in ("bridged", "p2p"):
        raise DriverError("Network limits are only supported on bridged and p2p interfaces")
    if fresh and not any(limits):
        return
    for part in parts:
        if isinstance(part, Nic) and part.type == "veth":
            await links.limit(part.host_name, *limits)


NIC = DeviceType(
    "nic",
    (
        Key("nictype", doc="bridged, macvlan, p2p, physical or sriov"),
        Key("parent", doc="The host's interface or bridge"),
        Key("name", doc="Name inside the container"),
        Key("host_name", doc="Name on the host"),
        Key("hwaddr", doc="MAC address"),
        Key("mtu"),
        Key("vlan", integer, extension="network_vlan"),
        Key("limits.ingress", bits, live=True, doc="Bits per second to the container"),
        Key("limits.egress", bits, live=True, doc="Bits per second from the container"),
        Key("limits.max", bits, live=True, doc="Both directions"),
        Key("ipv4.address", live=True, extension="network", doc="Static lease"),
        Key("ipv6.address", live=True, extension="network", doc="Static lease"),
        Key("security.mac_filtering", boolean, "false", extension="network"),
        Key("maas.subnet.ipv4", extension="maas_network"),
        Key("maas.subnet.ipv6", extension="maas_network"),
    ),
    _check,
    _start,
    _set,
)
