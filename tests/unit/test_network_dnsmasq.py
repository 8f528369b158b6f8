"""The command line and the files of dnsmasq, and the rules of nftables (spec/networks.md 4 and 5)."""

from pathlib import Path

from lxdnode.drivers.network import leases
from lxdnode.drivers.network.dnsmasq import Host, command_line, host_files
from lxdnode.drivers.network.firewall import ruleset

D = Path("/d/networks/br0")
V4 = {"ipv4.address": "10.0.0.1/24"}
V6 = {"ipv6.address": "fd42::1/64"}


def words(**config: str) -> str:
    return " ".join(command_line("br0", D, {key.replace("__", "."): value for key, value in config.items()}))


def test_ipv4_leases_are_given_from_the_second_host_on() -> None:
    assert words(ipv4__address="10.0.0.1/24").startswith(
        "dnsmasq --strict-order --bind-interfaces --pid-file=/d/networks/br0/dnsmasq.pid --except-interface=lo "
        "--no-ping --interface=br0 --quiet-dhcp --quiet-dhcp6 --quiet-ra --listen-address=10.0.0.1 --dhcp-no-override "
        "--dhcp-authoritative --dhcp-leasefile=/d/networks/br0/dnsmasq.leases "
        "--dhcp-hostsfile=/d/networks/br0/dnsmasq.hosts --dhcp-range 10.0.0.2,10.0.0.254,1h "
        "-s lxd -S /lxd/ --conf-file=/d/networks/br0/dnsmasq.raw -u "
    )


def test_ranges_gateway_and_expiry_are_taken() -> None:
    line = words(
        ipv4__address="10.0.0.1/24", ipv4__dhcp__ranges="10.0.0.5-10.0.0.9, 10.0.0.20-10.0.0.30",
        ipv4__dhcp__gateway="10.0.0.2", ipv4__dhcp__expiry="2m", dns__mode="none",
    )  # fmt: skip
    assert "--dhcp-option=3,10.0.0.2 --dhcp-range 10.0.0.5,10.0.0.9,2m --dhcp-range 10.0.0.20,10.0.0.30,2m" in line
    assert "-S /lxd/" not in line


def test_ipv6_is_stateless_unless_asked_otherwise() -> None:
    assert "--enable-ra" in words(ipv6__address="fd42::1/64")
    assert "--dhcp-range ::,constructor:br0,ra-stateless,ra-names" in words(ipv6__address="fd42::1/64")
    assert "--dhcp-range ::,constructor:br0,ra-only" in words(ipv6__address="fd42::1/64", ipv6__dhcp="false")
    assert "--dhcp-range fd42::2,fd42::ffff:ffff:ffff:ffff,64,1h" in words(
        ipv6__address="fd42::1/64", ipv6__dhcp__stateful="true"
    )
    assert words(ipv4__address="10.0.0.1/24", ipv6__address="fd42::1/64").count("--dhcp-authoritative") == 1


def test_hosts_have_a_file_each_and_copies_share_one() -> None:
    hosts = [
        Host("c1", "00:16:3e:00:00:01", "10.0.0.5", "fd42::5"),
        Host("c2", "00:16:3e:00:00:02", "10.0.0.5", "fd42::5"),
        Host("c3", "00:16:3e:00:00:03"),
    ]
    assert host_files({}, hosts) == {
        "c1": "00:16:3e:00:00:01,00:16:3e:00:00:02,10.0.0.5,[fd42::5],c1\n",
        "c3": "00:16:3e:00:00:03,c3\n",
    }
    assert host_files({"dns.mode": "dynamic"}, hosts[2:]) == {}


def test_leases_of_both_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.leases").write_text(
        "1700000000 00:16:3e:00:00:01 10.0.0.5 c1 01:00:16:3e:00:00:01\n"
        "duid 00:01:00:01:2c\n"
        "1700000000 1234567 fd42::5 * 00:01:00:01:2c:aa:bb:cc:00:16:3e:00:00:01\n"
    )
    assert [(lease.hwaddr, lease.address, lease.hostname) for lease in leases.read(tmp_path)] == [
        ("00:16:3e:00:00:01", "10.0.0.5", "c1"),
        ("00:16:3e:00:00:01", "fd42::5", "*"),
    ]
    leases.drop(tmp_path, {"00:16:3e:00:00:01"})
    assert (tmp_path / "dnsmasq.leases").read_text() == "duid 00:01:00:01:2c\n"


def test_a_network_has_the_rules_that_its_keys_ask_for() -> None:
    assert ruleset("br0", {}) == ""
    assert 'iifname "br0" meta nfproto ipv4 udp dport { 67, 53 } accept' in ruleset("br0", V4)
    assert 'oifname "br0" meta nfproto ipv6 udp sport { 547, 53 } accept' in ruleset("br0", V6)
    assert 'iifname "br0" meta nfproto ipv4 accept' in ruleset("br0", V4)
    assert 'iifname "br0" meta nfproto ipv4 reject' in ruleset("br0", V4 | {"ipv4.routing": "false"})
    assert "masquerade" not in ruleset("br0", V4)


def test_nat_stays_when_the_firewall_keys_are_off() -> None:
    rules = ruleset("br0", V4 | {"ipv4.nat": "true", "ipv4.firewall": "false"})
    assert "ip saddr 10.0.0.0/24 ip daddr != 10.0.0.0/24 masquerade" in rules
    assert "accept\n" not in rules and "priority srcnat - 1" in rules
    assert "priority srcnat + 1" in ruleset("br0", V4 | {"ipv4.nat": "true", "ipv4.nat.order": "after"})
