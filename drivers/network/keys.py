"""The configuration keys of networks and the rules that bind them together (spec/networks.md 2).

Owns LXD's words for a wrong key, value or combination; refuses to look at the host."""

from collections.abc import Mapping

from lxdnode.drivers.config.key import InvalidKey, Key, Table
from lxdnode.drivers.config.kinds import (
    address,
    boolean,
    host_address,
    integer,
    interface_name,
    network_address,
    one_of,
    or_words,
    parse_integer,
    port,
)

_UNSET = ("", "none")
_FAN_MTU = {"ipip": (1480, "an IPIP"), "vxlan": (1450, "a VXLAN")}
_MAX_NAME = 15
"""Characters of an interface's name; a tunnel's is NETWORK-TUNNEL."""


def _interfaces(value: str) -> None:
    """A comma list of names of interfaces."""
    for name in value.split(",") if value else []:
        try:
            interface_name(name.strip())
        except ValueError:
            raise ValueError(f"Invalid interface name '{name.strip()}'") from None


NETWORK = Table(
    "Invalid network configuration key: {key}",
    [
        Key("bridge.driver", one_of("native", "openvswitch"), default="native", doc="What makes the bridge."),
        Key("bridge.external_interfaces", _interfaces, member=True, doc="Interfaces of the host to put in."),
        Key("bridge.hwaddr", extension="network_hwaddr", doc="MAC of the bridge; else the kernel's."),
        Key("bridge.mode", one_of("standard", "fan"), default="standard", doc="How addresses are given."),
        Key("bridge.mtu", integer, doc="MTU; 1500, or 1400 with a tunnel."),
        Key("dns.domain", default="lxd", doc="Domain of the names that DNS answers for."),
        Key("dns.mode", one_of("dynamic", "managed", "none"), default="managed", doc="Whose names DNS takes."),
        Key("fan.overlay_subnet", network_address(4), default="240.0.0.0/8", doc="Overlay of the fan."),
        Key("fan.type", one_of("vxlan", "ipip"), default="vxlan", doc="Tunnels of the fan."),
        Key("fan.underlay_subnet", or_words(network_address(4), "auto"), doc="Underlay of the fan."),
        Key("ipv4.address", or_words(host_address(4), "none", "auto"), doc="Address of the bridge, CIDR."),
        Key("ipv4.dhcp", boolean, default="true", doc="Give leases."),
        Key("ipv4.dhcp.expiry", default="1h", extension="network_dhcp_expiry", doc="Time of a lease."),
        Key("ipv4.dhcp.gateway", address, extension="network_dhcp_gateway", doc="Gateway of the leases."),
        Key("ipv4.dhcp.ranges", doc="FIRST-LAST,...; else all but the bridge and the ends."),
        Key("ipv4.firewall", boolean, default="true", extension="network_firewall_filtering",
            doc="Make filter rules."),
        Key("ipv4.nat", boolean, default="false", doc="Masquerade what leaves."),
        Key("ipv4.nat.order", one_of("before", "after"), default="before", extension="network_nat_order",
            doc="Before or after the host's own rules."),
        Key("ipv4.routes", extension="network_routes", doc="More subnets behind the bridge, CIDR,..."),
        Key("ipv4.routing", boolean, default="true", doc="Forward between the bridge and others."),
        Key("ipv6.address", or_words(host_address(6), "none", "auto"), doc="Address of the bridge, CIDR."),
        Key("ipv6.dhcp", boolean, default="true", doc="More than router advertisements."),
        Key("ipv6.dhcp.expiry", default="1h", extension="network_dhcp_expiry", doc="Time of a lease."),
        Key("ipv6.dhcp.ranges", doc="FIRST-LAST,... with ipv6.dhcp.stateful."),
        Key("ipv6.dhcp.stateful", boolean, default="false", doc="Leases instead of SLAAC."),
        Key("ipv6.firewall", boolean, default="true", extension="network_firewall_filtering",
            doc="Make filter rules."),
        Key("ipv6.nat", boolean, default="false", doc="Masquerade what leaves."),
        Key("ipv6.nat.order", one_of("before", "after"), default="before", extension="network_nat_order",
            doc="Before or after the host's own rules."),
        Key("ipv6.routes", extension="network_routes", doc="More subnets behind the bridge, CIDR,..."),
        Key("ipv6.routing", boolean, default="true", doc="Forward between the bridge and others."),
        Key("raw.dnsmasq", doc="Further configuration of dnsmasq."),
        Key("tunnel.*.protocol", one_of("vxlan", "gre"), doc="Kind of the tunnel."),
        Key("tunnel.*.local", address, doc="This end."),
        Key("tunnel.*.remote", address, doc="The other end."),
        Key("tunnel.*.group", address, default="239.0.0.1", doc="Multicast group (vxlan)."),
        Key("tunnel.*.interface", interface_name, extension="network_vxlan_interface",
            doc="Interface of the multicast."),
        Key("tunnel.*.id", integer, default="1", doc="Number of the vxlan."),
        Key("tunnel.*.port", port, default="0", doc="UDP port of the vxlan."),
        Key("user.*", live=True, doc="Anything."),
    ],
)  # fmt: skip


def is_set(config: Mapping[str, str], name: str) -> bool:
    """Whether an address key holds an address (unset and `none` both mean that there is none)."""
    return config.get(name, "") not in _UNSET


def tunnels(config: Mapping[str, str]) -> list[str]:
    """Names of the tunnels of a network, sorted."""
    return sorted({key.split(".")[1] for key in config if key.startswith("tunnel.")})


def check_name(name: str) -> None:
    """Refuses what is no name of an interface. ValueError with LXD's words."""
    if not name:
        raise ValueError("No name provided")
    interface_name(name)
    if name in (".", ".."):
        raise ValueError("Interface name contains invalid characters")


def check(name: str, config: Mapping[str, str]) -> None:
    """Refuses a configuration that the network `name` cannot have. InvalidKey with LXD's words."""
    for key in sorted(config):
        if key.startswith("tunnel.") and key.count(".") != 2:
            raise InvalidKey(f"Invalid network configuration key: {key}")
    NETWORK.validate(config)
    for tunnel in tunnels(config):
        if len(name) + len(tunnel) + 1 > _MAX_NAME:
            raise InvalidKey(f"Network name too long for tunnel interface: {name}-{tunnel}")
    _check_fan(name, config)
    if config.get("bridge.mtu"):
        _check_mtu(parse_integer(config["bridge.mtu"]), config)


def _check_fan(name: str, config: Mapping[str, str]) -> None:
    fan = config.get("bridge.mode") == "fan"
    if fan and len(name) > 11:
        raise InvalidKey("Network name too long to use with the FAN (must be 11 characters or less)")
    for key in sorted(key for key, value in config.items() if value):
        if fan and key.startswith("ipv4."):
            raise InvalidKey("IPv4 configuration may not be set when in 'fan' mode")
        if fan and key.startswith("ipv6."):
            raise InvalidKey("IPv6 configuration may not be set when in 'fan' mode")
        if not fan and key.startswith("fan."):
            raise InvalidKey("FAN configuration may only be set when in 'fan' mode")


def _check_mtu(mtu: int, config: Mapping[str, str]) -> None:
    if is_set(config, "ipv6.address") and mtu < 1280:
        raise InvalidKey("The minimum MTU for an IPv6 network is 1280")
    if is_set(config, "ipv4.address") and mtu < 68:
        raise InvalidKey("The minimum MTU for an IPv4 network is 68")
    if config.get("bridge.mode") == "fan":
        most, words = _FAN_MTU[config.get("fan.type") or "vxlan"]
        if mtu > most:
            raise InvalidKey(f"Maximum MTU for {words} FAN bridge is {most}")
