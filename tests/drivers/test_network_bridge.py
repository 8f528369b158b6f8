"""A managed network on real parts: bridge, nftables and dnsmasq in a namespace, with a client in another one."""

import ipaddress
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.network import addresses, interfaces, leases
from lxdnode.drivers.network.dnsmasq import Host
from lxdnode.drivers.network.firewall import table
from lxdnode.drivers.network.network import Network
from tests.harness.inside import inside
from tests.harness.namespaces import run

HWADDR = "00:16:3e:01:02:03"
_LEASE_SCRIPT = '#!/bin/sh\n[ "$1" != bound ] || echo "$ip $router $dns $domain" >"$OUT"\n'


@dataclass(frozen=True)
class Lab:
    """A host namespace with a state directory, and room for clients on a bridge."""

    host: str
    client: str
    state: Path

    def network(self, **config: str) -> Network:
        keys = {key.replace("__", "."): value for key, value in config.items()}
        return Network(self.state, "br0", keys)

    def start(self, network: Network, *hosts: Host) -> None:
        inside(self.host, network.start, hosts)

    def addresses(self, device: str = "br0") -> set[str]:
        (link,) = json.loads(run("ip", "-j", "-n", self.host, "addr", "show", device))
        return {f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"] if entry["scope"] == "global"}

    def rules(self) -> str:
        return run("nsenter", f"--net=/run/netns/{self.host}", "nft", "list", "ruleset")

    def attach(self) -> None:
        """Puts the client's eth0 on the bridge."""
        run("ip", "-n", self.host, "link", "add", "veth0", "type", "veth", "peer", "name", "eth0",
            "address", HWADDR, "netns", self.client)  # fmt: skip
        run("ip", "-n", self.host, "link", "set", "veth0", "master", "br0", "up")
        run("ip", "-n", self.client, "link", "set", "eth0", "up")

    def lease(self) -> list[str]:
        """Asks for a lease as a container would: address, gateway, DNS server, domain."""
        script, out = self.state / "lease", self.state / "lease.out"
        script.write_text(_LEASE_SCRIPT)
        script.chmod(0o755)
        os.environ["OUT"] = str(out)
        run("nsenter", f"--net=/run/netns/{self.client}", "busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n",
            "-t", "5", "-T", "1", "-s", str(script), "-x", "hostname:guest")  # fmt: skip
        return out.read_text().split()

    def dnsmasq(self) -> int:
        return int((self.state / "networks/br0/dnsmasq.pid").read_text())


@pytest.fixture
def lab() -> Iterator[Lab]:
    if os.getuid() != 0 or not shutil.which("dnsmasq") or not shutil.which("nft"):
        pytest.skip("needs root, dnsmasq and nft")
    names = f"wnh{os.getpid()}", f"wnc{os.getpid()}"
    state = Path(tempfile.mkdtemp(prefix="lxd-node-test-"))
    state.chmod(0o711)  # dnsmasq runs as nobody and reads its files there
    for name in names:
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
    lab = Lab(*names, state)
    yield lab
    inside(lab.host, lab.network().delete)
    for name in names:
        run("ip", "netns", "del", name)
    shutil.rmtree(state)


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def within(seconds: float, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} seconds"
        time.sleep(0.02)


def test_a_client_gets_a_lease_a_name_and_a_way_out(lab: Lab) -> None:
    lab.start(lab.network(ipv4__address="10.99.1.1/24", ipv4__nat="true"))
    lab.attach()
    address, gateway, server, domain = lab.lease()
    assert ipaddress.ip_address(address) in ipaddress.ip_network("10.99.1.0/24")
    assert (gateway, server, domain) == ("10.99.1.1", "10.99.1.1", "lxd")
    (lease,) = leases.read(lab.state / "networks/br0")
    assert (lease.hwaddr, lease.address, lease.hostname) == (HWADDR, address, "guest")
    run("ip", "-n", lab.client, "addr", "add", f"{address}/24", "dev", "eth0")
    run("ip", "netns", "exec", lab.client, "ping", "-c1", "-W2", "10.99.1.1")
    found = run("ip", "netns", "exec", lab.client, "busybox", "nslookup", "guest.lxd", "10.99.1.1")
    assert address in found


def test_a_static_lease_is_given_and_changed_while_dnsmasq_runs(lab: Lab) -> None:
    network = lab.network(ipv4__address="10.99.1.1/24")
    lab.start(network, Host("c1", HWADDR, "10.99.1.50"))
    lab.attach()
    assert lab.lease()[0] == "10.99.1.50"
    pid = lab.dnsmasq()
    lab.start(network, Host("c1", HWADDR, "10.99.1.60"))
    assert lab.dnsmasq() == pid
    # The client asks for the address that it had, which is no longer the one meant for it.
    assert lab.lease()[0] == "10.99.1.60"
    lab.start(network)
    assert not list((lab.state / "networks/br0/dnsmasq.hosts").iterdir())


def test_starting_again_repairs_without_interrupting(lab: Lab) -> None:
    network = lab.network(ipv4__address="10.99.1.1/24", ipv6__address="fd42:1::1/64", ipv4__routes="10.98.0.0/16")
    lab.start(network)
    (before,) = json.loads(run("ip", "-j", "-n", lab.host, "link", "show", "br0"))
    pid = lab.dnsmasq()
    run("ip", "-n", lab.host, "addr", "flush", "dev", "br0", "scope", "global")
    run("ip", "-n", lab.host, "addr", "add", "10.1.1.1/24", "dev", "br0")
    run("nsenter", f"--net=/run/netns/{lab.host}", "nft", "delete", "table", "inet", table("br0"))
    lab.start(network)
    (after,) = json.loads(run("ip", "-j", "-n", lab.host, "link", "show", "br0"))
    assert (after["ifindex"], after["address"]) == (before["ifindex"], before["address"])
    assert lab.addresses() == {"10.99.1.1/24", "fd42:1::1/64"}
    assert "10.98.0.0/16" in run("ip", "-n", lab.host, "route", "show", "proto", "static")
    assert table("br0") in lab.rules()
    assert lab.dnsmasq() == pid and is_alive(pid)


def test_a_dnsmasq_that_died_is_started_again_and_a_stale_number_hurts_nobody(lab: Lab) -> None:
    network = lab.network(ipv4__address="10.99.1.1/24")
    lab.start(network)
    first = lab.dnsmasq()
    os.kill(first, signal.SIGKILL)
    within(2, lambda: not is_alive(first))
    (lab.state / "networks/br0/dnsmasq.pid").write_text(str(os.getpid()))  # the number now is another process's
    lab.start(network)
    assert lab.dnsmasq() not in (first, os.getpid()) and is_alive(lab.dnsmasq())


def test_stopping_leaves_nothing_behind(lab: Lab) -> None:
    network = lab.network(
        ipv4__address="10.99.1.1/24", ipv4__nat="true", tunnel__one__protocol="vxlan",
        tunnel__one__local="10.99.1.1", tunnel__one__remote="10.99.1.2",
    )  # fmt: skip
    lab.start(network)
    pid = lab.dnsmasq()
    (tunnel,) = json.loads(run("ip", "-j", "-n", lab.host, "link", "show", "br0-one"))
    assert (tunnel["master"], tunnel["mtu"]) == ("br0", 1400)
    inside(lab.host, network.delete)
    assert not is_alive(pid)
    assert lab.rules() == ""
    assert "br0" not in run("ip", "-n", lab.host, "link")
    assert not network.directory.exists()
    inside(lab.host, network.delete)


def test_an_external_interface_joins_and_is_released(lab: Lab) -> None:
    run("ip", "-n", lab.host, "link", "add", "ext0", "type", "veth", "peer", "name", "far0", "netns", lab.client)
    before = lab.network(bridge__external_interfaces="ext0, later0")
    lab.start(before)
    assert json.loads(run("ip", "-j", "-n", lab.host, "link", "show", "ext0"))[0]["master"] == "br0"
    inside(lab.host, lab.network().replace, before.config)
    assert "master" not in json.loads(run("ip", "-j", "-n", lab.host, "link", "show", "ext0"))[0]
    run("ip", "-n", lab.host, "addr", "add", "192.0.2.1/24", "dev", "ext0")
    with pytest.raises(DriverError, match="Only unconfigured network interfaces can be bridged"):
        lab.start(before)


@pytest.fixture
def outside(lab: Lab) -> Iterator[str]:
    """An address beyond the host whose owner knows no way back to the bridge's subnet."""
    name = f"wno{os.getpid()}"
    run("ip", "netns", "add", name)
    run("ip", "-n", lab.host, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", name)
    for namespace, device, address in ((lab.host, "up0", "198.51.100.1"), (name, "eth0", "198.51.100.2")):
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", device)
        run("ip", "-n", namespace, "link", "set", device, "up")
    yield "198.51.100.2"
    run("ip", "netns", "del", name)


def reaches(lab: Lab, address: str) -> bool:
    """Whether the client on the bridge gets an answer from beyond the host."""
    run("ip", "-n", lab.client, "addr", "replace", "10.99.1.20/24", "dev", "eth0")
    run("ip", "-n", lab.client, "route", "replace", "default", "via", "10.99.1.1")
    told = run("nsenter", f"--net=/run/netns/{lab.client}", "ping", "-c1", "-W1", address, check=False)
    return "1 received" in told


def test_masquerading_and_routing_are_what_the_keys_say(lab: Lab, outside: str) -> None:
    subnet = {"ipv4__address": "10.99.1.1/24"}
    lab.start(lab.network(**subnet, ipv4__nat="true"))
    lab.attach()
    assert reaches(lab, outside)
    lab.start(lab.network(**subnet, ipv4__nat="true", ipv4__nat__order="after"))
    assert reaches(lab, outside)
    lab.start(lab.network(**subnet, ipv4__nat="true", ipv4__firewall="false"))
    assert reaches(lab, outside)
    lab.start(lab.network(**subnet))
    assert not reaches(lab, outside)
    lab.start(lab.network(**subnet, ipv4__nat="true", ipv4__routing="false"))
    assert not reaches(lab, outside)


def test_mtu_and_hwaddr_are_set_and_a_ports_mac_does_not_change_the_bridges(lab: Lab) -> None:
    lab.start(lab.network(bridge__mtu="1280", bridge__hwaddr="00:16:3e:ff:ff:fe", ipv4__address="10.99.1.1/24"))
    lab.attach()
    link = inside(lab.host, interfaces.show, "br0")
    assert (link.mtu, link.hwaddr, link.type, link.kind) == (1280, "00:16:3e:ff:ff:fe", "bridge", "broadcast")
    assert [address.address for address in link.addresses if address.scope == "global"] == ["10.99.1.1"]


def test_ipv6_addresses_are_advertised(lab: Lab) -> None:
    lab.start(lab.network(ipv6__address="fd42:1::1/64"))
    lab.attach()
    within(10, lambda: "fd42:1:" in run("ip", "-n", lab.client, "-6", "addr", "show", "eth0", "scope", "global"))


def test_an_automatic_subnet_avoids_every_route(lab: Lab) -> None:
    lab.start(lab.network(ipv4__address="10.99.1.1/24", ipv4__routes="10.0.0.0/9"))

    def choose() -> object:
        return addresses.choose(4, interfaces.routed_subnets())

    for _ in range(5):
        chosen = ipaddress.ip_interface(inside(lab.host, choose))
        assert chosen.ip == chosen.network[1]
        assert not chosen.network.overlaps(ipaddress.ip_network("10.0.0.0/9"))
    run("ip", "-n", lab.host, "route", "add", "10.128.0.0/9", "dev", "br0")
    with pytest.raises(DriverError, match="Failed to automatically find an unused IPv4 subnet"):
        inside(lab.host, choose)


def test_what_is_not_served_says_so(lab: Lab) -> None:
    with pytest.raises(DriverError, match="Open vSwitch isn't installed on this system"):
        lab.start(lab.network(bridge__driver="openvswitch"))
    with pytest.raises(DriverError, match="fan mode is not served"):
        lab.start(lab.network(bridge__mode="fan"))
    with pytest.raises(DriverError, match="Interface 'br0' not found"):
        inside(lab.host, interfaces.show, "br0")


async def test_interfaces_are_read_by_several_threads_at_once() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(trio.to_thread.run_sync, interfaces.routed_subnets)
            nursery.start_soon(trio.to_thread.run_sync, interfaces.show, "lo")


def test_a_list_of_interfaces_is_read_again_after_each_change_and_only_then(lab: Lab) -> None:
    async def look() -> list[bool]:
        listing = interfaces.Listing()
        first = await listing.read()
        same = await listing.read() is first
        run("ip", "link", "add", "added", "type", "bridge")
        added = [one.name for one in await listing.read()]
        run("ip", "link", "del", "added")
        return [same, "added" in added, "added" in [one.name for one in await listing.read()]]

    assert inside(lab.host, look) == [True, True, False]
