"""Network interfaces of containers (spec/config-keys.md 6, "nic")."""

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean
from lxdnode.drivers.devices.device import Device, DeviceType

NIC_TYPES = ("bridged", "macvlan", "p2p", "physical", "sriov")


def _check(device: Device) -> None:
    kind = device.get("nictype", "")
    if not kind:
        raise ValueError("Missing nic type")
    if kind not in NIC_TYPES:
        raise ValueError(f"Bad nic type: {kind}")
    if kind != "p2p" and not device.get("parent"):
        raise ValueError(f"Missing parent for {kind} type nic")


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
)
