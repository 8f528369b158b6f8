"""Networks through real daemons: bridges, dnsmasq and firewall of each member (spec/rest.md 7, spec/networks.md)."""

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon, within
from tests.harness.namespaces import run

pytestmark = pytest.mark.slow

NETWORKS = "/1.0/networks"
QUIET = {"ipv4.address": "none", "ipv6.address": "none"}
"""A bridge without addresses: made in a few milliseconds."""


def inside(member: Daemon, *argv: str) -> str:
    """Runs a host tool where the member's interfaces are."""
    assert member.host is not None
    return run("nsenter", f"--net=/run/netns/{member.host.namespace}", *argv)


def links(member: Daemon) -> set[str]:
    return {link["ifname"] for link in json.loads(inside(member, "ip", "-j", "link"))}


def addresses(member: Daemon, name: str) -> set[str]:
    (link,) = json.loads(inside(member, "ip", "-j", "addr", "show", name))
    return {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "No name provided"),
        ({"name": "a"}, r"Interface name is too short \(minimum 2 characters\)"),
        ({"name": "a" * 16}, r"Interface name is too long \(maximum 15 characters\)"),
        ({"name": "a b"}, "Interface name contains invalid characters"),
        ({"name": "br1", "type": "macvlan"}, "Only 'bridge' type networks can be created"),
        ({"name": "lxdbr0"}, "The network already exists"),
        ({"name": "eth0"}, "The network already exists"),
        ({"name": "br1", "config": {"x": "y"}}, "Invalid network configuration key: x"),
        ({"name": "br1", "config": {"ipv4.address": "10.1.0.0/24"}}, "Not a usable IPv4 address: 10.1.0.0/24"),
    ],
)
def test_a_wrong_network_is_refused_with_lxds_words(server: Daemon, body: object, words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        server.post(NETWORKS, body)
    assert refused.value.code == 400
    assert links(server) == {"lo", "eth0", "lxdbr0"}


def test_a_network_is_made_with_free_subnets_and_nat(server: Daemon) -> None:
    server.post(NETWORKS, {"name": "br1"})
    shown = server.get(f"{NETWORKS}/br1")
    subnet = ipaddress.ip_interface(shown["config"]["ipv4.address"])
    assert subnet in ipaddress.ip_network("10.0.0.0/8") and subnet.network.prefixlen == 24
    assert shown["config"]["ipv4.nat"] == "true" and shown["config"]["ipv6.address"].startswith("fd42:")
    assert (shown["status"], shown["locations"], shown["managed"]) == ("Created", ["none"], True)
    assert addresses(server, "br1") == {shown["config"]["ipv4.address"], shown["config"]["ipv6.address"]}
    assert f"ip saddr {subnet.network} ip daddr != {subnet.network} masquerade" in inside(
        server, "nft", "list", "ruleset"
    )
    server.delete(f"{NETWORKS}/br1")
    assert "br1" not in links(server) and "br1" not in inside(server, "nft", "list", "ruleset")


def test_what_cannot_be_started_leaves_nothing(server: Daemon) -> None:
    config = {**QUIET, "ipv4.address": "10.77.0.1/24", "ipv4.dhcp.ranges": "10.77.0.5-here"}
    with pytest.raises(ApiError, match="dnsmasq"):
        server.post(NETWORKS, {"name": "br2", "config": config})
    within(5, "nothing of it is left", lambda: "br2" not in links(server))
    assert f"{NETWORKS}/br2" not in server.get(NETWORKS)


def test_interfaces_of_the_host_are_shown_beside_the_managed_ones(server: Daemon) -> None:
    assert server.get(NETWORKS) == [f"{NETWORKS}/{name}" for name in ("lxdbr0", "eth0", "lo")]
    shown = {one["name"]: one for one in server.get(f"{NETWORKS}?recursion=1")}
    assert (shown["lo"]["type"], shown["lo"]["managed"], shown["lo"]["locations"]) == ("loopback", False, None)
    assert (shown["lxdbr0"]["type"], shown["lxdbr0"]["managed"]) == ("bridge", True)
    assert server.get(f"{NETWORKS}/eth0")["config"] == {}
    for missing in (f"{NETWORKS}/nothing", f"{NETWORKS}/nothing/state", f"{NETWORKS}/eth0/leases"):
        with pytest.raises(ApiError) as refused:
            server.get(missing)
        assert refused.value.code == 404


@pytest.mark.extension("network_state")
def test_the_state_of_an_interface(cluster: Cluster) -> None:
    state = cluster[2].get(f"{NETWORKS}/lxdbr0/state")
    assert (state["mtu"], state["state"], state["type"]) == (1500, "up", "broadcast")
    assert {"family": "inet", "address": "10.95.0.1", "netmask": "24", "scope": "global"} in state["addresses"]
    assert set(state["counters"]) == {"bytes_received", "bytes_sent", "packets_received", "packets_sent"}
    own = cluster[2].get(f"{NETWORKS}/eth0/state")
    assert own["counters"]["bytes_received"] > 0 and own["hwaddr"]
    with pytest.raises(ApiError, match="Interface 'nothing' not found") as missing:
        cluster[2].get(f"{NETWORKS}/nothing/state")
    assert missing.value.code == 404


def test_a_change_acts_at_once_and_a_bad_one_is_taken_back(server: Daemon) -> None:
    server.post(NETWORKS, {"name": "br3", "config": {**QUIET, "ipv4.address": "10.78.0.1/24"}})
    url = f"{NETWORKS}/br3"
    _status, headers, _body = server.request("GET", url)
    server.patch(url, {"config": {"bridge.mtu": "1300", "ipv4.routes": "10.79.0.0/16"}, "description": "d"})
    assert server.get(f"{url}/state")["mtu"] == 1300
    assert "10.79.0.0/16" in inside(server, "ip", "route", "show", "proto", "static")
    assert server.get(url)["description"] == "d"
    body = json.dumps({"config": {}}).encode()
    assert server.request("PUT", url, body, {"If-Match": headers["etag"]})[0] == 412
    with pytest.raises(ApiError, match="Invalid value for an integer: large"):
        server.patch(url, {"config": {"bridge.mtu": "large"}})
    with pytest.raises(ApiError, match="no subnet in CIDR form"):
        server.patch(url, {"config": {"ipv4.routes": "nowhere"}})
    assert server.get(url)["config"]["ipv4.routes"] == "10.79.0.0/16"
    within(5, "the old route is back", lambda: "10.79.0.0/16" in inside(server, "ip", "route"))
    server.put(url, {"config": {"ipv4.address": "10.78.1.1/24"}})
    assert addresses(server, "br3") == {"10.78.1.1/24"}
    assert server.get(url)["description"] == ""
    server.delete(url)


def test_a_network_gets_another_name(server: Daemon) -> None:
    server.post(NETWORKS, {"name": "br4", "config": {**QUIET, "ipv4.address": "10.80.0.1/24"}})
    with pytest.raises(ApiError, match="Network 'eth0' already exists") as taken:
        server.post(f"{NETWORKS}/br4", {"name": "eth0"})
    assert taken.value.code == 409
    server.post(f"{NETWORKS}/br4", {"name": "br5"})
    assert {"br4", "br5"} & links(server) == {"br5"} and addresses(server, "br5") == {"10.80.0.1/24"}
    server.delete(f"{NETWORKS}/br5")


def test_a_daemon_that_starts_again_interrupts_nothing(server: Daemon) -> None:
    before = inside(server, "ip", "-j", "link", "show", "lxdbr0")
    pid_file = server.directory / "networks/lxdbr0/dnsmasq.pid"
    pid = pid_file.read_text()
    server.kill()
    inside(server, "ip", "link", "set", "lxdbr0", "mtu", "1400")
    server.start().wait_ready()
    within(5, "the mtu is right again", lambda: server.get(f"{NETWORKS}/lxdbr0/state")["mtu"] == 1500)
    after = inside(server, "ip", "-j", "link", "show", "lxdbr0")
    assert json.loads(after)[0]["ifindex"] == json.loads(before)[0]["ifindex"]
    assert pid_file.read_text() == pid


@pytest.mark.extension("network_leases")
def test_containers_use_a_network_and_have_leases(cluster: Cluster, image: bytes) -> None:
    fingerprint = cluster[1].ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    source = {"type": "image", "fingerprint": fingerprint}
    nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "ipv4.address": "10.95.0.77"}
    body: dict[str, Any] = {"name": "leased", "source": source, "devices": {"eth0": nic}}
    cluster[1].post("/1.0/containers?target=m2", body)
    hosts = cluster[2].directory / "networks/lxdbr0/dnsmasq.hosts"
    within(5, "its static lease is written", lambda: "10.95.0.77,leased" in (hosts / "leased").read_text())
    leases = cluster[1].get(f"{NETWORKS}/lxdbr0/leases")
    assert [(one["hostname"], one["address"], one["type"]) for one in leases] == [("leased", "10.95.0.77", "static")]
    cluster[3].put("/1.0/containers/leased/state", {"action": "start"})
    within(15, "the container has its address", lambda: "10.95.0.77" in _addresses_of(cluster[3], "leased"))
    assert cluster[3].get(f"{NETWORKS}/lxdbr0")["used_by"] == ["/1.0/containers/leased"]
    with pytest.raises(ApiError, match="The network is currently in use"):
        cluster[1].delete(f"{NETWORKS}/lxdbr0")
    cluster[3].put("/1.0/containers/leased/state", {"action": "stop", "force": True})
    cluster[1].delete("/1.0/containers/leased")
    within(5, "its static lease is gone", lambda: not (hosts / "leased").exists())
    within(5, "its dynamic one as well", lambda: cluster[2].get(f"{NETWORKS}/lxdbr0/leases") == [])
    cluster[1].delete(f"/1.0/images/{fingerprint}")


def _addresses_of(member: Daemon, container: str) -> str:
    return json.dumps(member.get(f"/1.0/containers/{container}/state")["network"] or {})


# In a cluster.


@pytest.mark.extension("network")
def test_a_network_is_made_on_every_member_in_one_step(cluster: Cluster) -> None:
    cluster[2].post(NETWORKS, {"name": "one", "config": {**QUIET, "ipv4.address": "auto"}})
    chosen = cluster[1].get(f"{NETWORKS}/one")["config"]["ipv4.address"]
    for member in cluster.members:
        assert addresses(member, "one") == {chosen}
        shown = member.get(f"{NETWORKS}/one")
        assert (shown["status"], shown["locations"]) == ("Created", ["m1", "m2", "m3"])
    cluster[3].patch(f"{NETWORKS}/one", {"config": {"bridge.mtu": "1280"}})
    assert [member.get(f"{NETWORKS}/one/state")["mtu"] for member in cluster.members] == [1280] * 3
    with pytest.raises(ApiError, match="Renaming a network not supported in LXD clusters"):
        cluster[1].post(f"{NETWORKS}/one", {"name": "two"})
    cluster[1].delete(f"{NETWORKS}/one")
    assert not any("one" in links(member) for member in cluster.members)


def test_a_network_is_defined_member_by_member_and_then_made(cluster: Cluster) -> None:
    def define(target: str, **config: str) -> None:
        cluster[1].post(f"{NETWORKS}?target={target}", {"name": "two", "config": config})

    with pytest.raises(ApiError, match="Config key 'ipv4.address' may not be used as node-specific key"):
        define("m1", **{"ipv4.address": "auto"})
    inside(cluster[2], "ip", "link", "add", "ext0", "type", "veth", "peer", "name", "ext1")
    define("m1")
    define("m2", **{"bridge.external_interfaces": "ext0"})
    with pytest.raises(ApiError, match="The network already defined on node m2"):
        define("m2")
    with pytest.raises(ApiError, match="Network not defined on nodes: m3"):
        cluster[1].post(NETWORKS, {"name": "two", "config": QUIET})
    assert cluster[1].get(f"{NETWORKS}/two")["status"] == "Pending"
    define("m3")
    with pytest.raises(ApiError, match=r"Config key 'bridge.external_interfaces' is node-specific"):
        cluster[1].post(NETWORKS, {"name": "two", "config": {"bridge.external_interfaces": "eth9"}})
    cluster[3].post(NETWORKS, {"name": "two", "config": QUIET, "description": "d"})
    assert "bridge.external_interfaces" not in cluster[1].get(f"{NETWORKS}/two")["config"]
    assert cluster[1].get(f"{NETWORKS}/two?target=m2")["config"]["bridge.external_interfaces"] == "ext0"
    assert cluster[1].get(f"{NETWORKS}/two")["description"] == "d"
    assert json.loads(inside(cluster[2], "ip", "-j", "link", "show", "ext0"))[0]["master"] == "two"
    inside(cluster[2], "ip", "link", "del", "ext0")
    inside(cluster[2], "ip", "link", "add", "ext0", "type", "veth", "peer", "name", "ext1")
    within(5, "it is taken in again", lambda: "master two" in inside(cluster[2], "ip", "link", "show", "ext0"))
    with pytest.raises(ApiError, match="node-specific config key bridge.external_interfaces can't be changed"):
        cluster[1].patch(f"{NETWORKS}/two", {"config": {"bridge.external_interfaces": ""}})
    cluster[1].delete(f"{NETWORKS}/two")
    inside(cluster[2], "ip", "link", "del", "ext0")


@pytest.mark.extension("network_routes")
@pytest.mark.extension("network_dhcp_expiry")
@pytest.mark.extension("network_dhcp_gateway")
@pytest.mark.extension("network_firewall_filtering")
def test_keys_act_on_every_member(cluster: Cluster, tmp_path: Path) -> None:
    config = {**QUIET, "ipv4.address": "10.83.0.1/24", "ipv4.dhcp.expiry": "2m", "ipv4.dhcp.gateway": "10.83.0.9"}
    cluster[1].post(NETWORKS, {"name": "keys", "config": config})
    assert _lease(cluster[3], "keys", tmp_path) == "120 10.83.0.9"
    assert 'iifname "keys"' in inside(cluster[3], "nft", "list", "ruleset")
    cluster[1].patch(f"{NETWORKS}/keys", {"config": {"ipv4.routes": "10.84.0.0/16", "ipv4.firewall": "false"}})
    assert "10.84.0.0/16" in inside(cluster[3], "ip", "route", "show", "dev", "keys")
    assert 'iifname "keys"' not in inside(cluster[3], "nft", "list", "ruleset")
    cluster[2].delete(f"{NETWORKS}/keys")


def _lease(member: Daemon, bridge: str, folder: Path) -> str:
    """Lease time and gateway that a client on a bridge is given."""
    script = folder / "script"
    script.write_text(f'#!/bin/sh\n[ "$1" != bound ] || echo "$lease $router" >{folder}/lease\n')
    script.chmod(0o755)
    inside(member, "ip", "link", "add", "client0", "type", "veth", "peer", "name", "port0")
    inside(member, "ip", "link", "set", "port0", "master", bridge, "up")
    inside(member, "ip", "link", "set", "client0", "up")
    inside(member, "busybox", "udhcpc", "-i", "client0", "-f", "-q", "-n", "-t", "8", "-T", "1", "-s", str(script))
    inside(member, "ip", "link", "del", "client0")
    return (folder / "lease").read_text().strip()


def test_a_member_that_fails_is_named_and_its_interface_is_left_alone(cluster: Cluster) -> None:
    inside(cluster[3], "ip", "link", "add", "three", "type", "bridge")
    with pytest.raises(ApiError, match="member m3: this host has an interface 'three' already"):
        cluster[1].post(NETWORKS, {"name": "three", "config": QUIET})
    within(5, "the others have removed theirs", lambda: "three" not in links(cluster[1]) | links(cluster[2]))
    assert "three" in links(cluster[3])
    inside(cluster[3], "ip", "link", "del", "three")


def test_a_member_that_was_away_catches_up(cluster: Cluster) -> None:
    cluster[1].post(NETWORKS, {"name": "old", "config": QUIET})
    cluster[2].kill()
    cluster[1].post(NETWORKS, {"name": "new", "config": QUIET})
    cluster[3].delete(f"{NETWORKS}/old")
    assert cluster[3].get(f"{NETWORKS}/new")["status"] == "Created"
    assert "old" in links(cluster[2])
    cluster[2].start().wait_ready()
    within(10, "m2 has caught up", lambda: {"old", "new"} & links(cluster[2]) == {"new"})
    cluster[2].delete(f"{NETWORKS}/new")


@pytest.mark.extension("network_vxlan_interface")
def test_a_tunnel_joins_the_bridges_of_all_members_over_the_interface_that_is_named(cluster: Cluster) -> None:
    tunnel = {"protocol": "vxlan", "interface": "eth0", "id": "42", "group": "239.0.0.42"}
    cluster[1].post(NETWORKS, {"name": "wide", "config": QUIET | {f"tunnel.t.{key}": tunnel[key] for key in tunnel}})
    for number, member in enumerate(cluster.members, 1):
        (link,) = json.loads(inside(member, "ip", "-j", "-d", "link", "show", "wide-t"))
        found = link["linkinfo"]["info_data"]
        assert (link["master"], found["link"], found["id"], found["group"]) == ("wide", "eth0", 42, "239.0.0.42")
        inside(member, "ip", "address", "add", f"192.168.77.{number}/24", "dev", "wide")
    for target in ("192.168.77.2", "192.168.77.3"):
        inside(cluster[1], "ping", "-c", "1", "-w", "10", "-i", "0.2", target)
    with pytest.raises(ApiError, match="member m2: interface nosuch does not exist on this host"):
        cluster[1].patch(f"{NETWORKS}/wide", {"config": {"tunnel.t.interface": "nosuch"}})
    assert all("wide-t" in links(member) for member in cluster.members)  # It is back before the refusal is told.
    cluster[1].delete(f"{NETWORKS}/wide")
    assert not {"wide", "wide-t"} & links(cluster[3])
