"""Which configurations a network takes, with LXD's words (spec/networks.md 2)."""

import pytest

from lxdnode.drivers.config.key import InvalidKey
from lxdnode.drivers.network import keys

_TUNNEL = {"tunnel.one.protocol": "vxlan"}
_FAN = {"bridge.mode": "fan"}


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("br0", {"ipv4.adress": "x"}, "Invalid network configuration key: ipv4.adress"),
        ("br0", {"tunnel.one": "x"}, "Invalid network configuration key: tunnel.one"),
        ("br0", {"tunnel.a.b.protocol": "gre"}, "Invalid network configuration key: tunnel.a.b.protocol"),
        ("br0", {"tunnel.one.colour": "x"}, "Invalid network configuration key: tunnel.one.colour"),
        ("br0", {"tunnel.one.port": "65536"}, "Invalid port number: 65536"),
        ("br0", {"bridge.external_interfaces": "eth0,e"}, "Invalid interface name 'e'"),
        ("br0", {"bridge.driver": "ovs"}, r"Invalid value: ovs \(not one of \[native openvswitch\]\)"),
        ("br0", {"bridge.mtu": "large"}, "Invalid value for an integer: large"),
        ("br0", {"ipv4.address": "10.0.0.1"}, "Not an IPv4 address: 10.0.0.1"),
        ("br0", {"ipv4.address": "10.0.0.0/24"}, "Not a usable IPv4 address: 10.0.0.0/24"),
        ("br0", {"ipv4.address": "fd42::1/64"}, "Not an IPv4 address: fd42::1/64"),
        ("br0", {"ipv6.address": "fd42::/64"}, "Not a usable IPv6 address: fd42::/64"),
        ("br0", {"ipv4.nat": "maybe"}, "Invalid value for a boolean: maybe"),
        ("br0", {"bridge.mtu": "1000", "ipv6.address": "auto"}, "The minimum MTU for an IPv6 network is 1280"),
        ("br0", {"bridge.mtu": "60", "ipv4.address": "auto"}, "The minimum MTU for an IPv4 network is 68"),
        (
            "a-long-name",
            _TUNNEL | {"tunnel.four.id": "2"},
            "too long for tunnel interface: a-long-name-four",
        ),
        ("a-longer-name", _FAN, "Network name too long to use with the FAN"),
        ("br0", _FAN | {"ipv4.nat": "true"}, "IPv4 configuration may not be set when in 'fan' mode"),
        ("br0", _FAN | {"ipv6.address": "auto"}, "IPv6 configuration may not be set when in 'fan' mode"),
        ("br0", {"fan.type": "ipip"}, "FAN configuration may only be set when in 'fan' mode"),
        ("br0", _FAN | {"fan.type": "ipip", "bridge.mtu": "1500"}, "Maximum MTU for an IPIP FAN bridge is 1480"),
        ("br0", _FAN | {"bridge.mtu": "1500"}, "Maximum MTU for a VXLAN FAN bridge is 1450"),
        ("br0", _FAN | {"fan.underlay_subnet": "10.0.0.1/16"}, "Not an IPv4 network address: 10.0.0.1/16"),
    ],
)
def test_a_wrong_configuration_is_refused(name: str, config: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidKey, match=words):
        keys.check(name, config)


def test_what_fits_passes() -> None:
    keys.check("br0", {"ipv4.address": "auto", "ipv6.address": "none", "bridge.mtu": "9000", "user.x": "y"})
    keys.check("br0", _TUNNEL | {"tunnel.one.port": "4789", "bridge.external_interfaces": "eth0, eth1"})
    keys.check("br0", _FAN | {"fan.underlay_subnet": "auto"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "No name provided"),
        ("a", "Interface name is too short"),
        ("a" * 16, "Interface name is too long"),
        ("a/b", "Interface name contains invalid characters"),
        ("..", "Interface name contains invalid characters"),
    ],
)
def test_a_wrong_name_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        keys.check_name(name)
