"""Network interfaces of containers, from their start on and while they run, through another member."""

import json
import subprocess

import pytest

from tests.harness.boxes import Box, Make
from tests.harness.daemons import ApiError, Cluster, within
from tests.harness.namespaces import run

pytestmark = pytest.mark.slow

_NIC = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0"}


def test_a_nic_is_plugged_gets_a_lease_and_goes(either: Box) -> None:
    either.plug(eth1={"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "hwaddr": "00:16:3e:11:22:33"})
    assert either.network()["eth1"]["hwaddr"] == "00:16:3e:11:22:33"
    assert either.network()["eth1"]["state"] == "up"
    either.run("udhcpc", "-n", "-q", "-t", "15", "-T", "1", "-s", "/usr/share/udhcpc/default.script", "-i", "eth1")
    addresses = either.network()["eth1"]["addresses"]
    assert any(one["address"].startswith("10.95.0.") for one in addresses)
    either.unplug("eth1")
    assert "eth1" not in either.network()
    assert "volatile.eth1.name" not in either.api.get(either.url)["config"]


def test_nics_of_every_kind_are_plugged_and_there_from_the_start(make: Make, cluster: Cluster) -> None:
    box = make()
    assert cluster[1].host is not None
    subprocess.run([*cluster[1].host.enter, "ip", "link", "add", "spare", "type", "veth", "peer", "spare1"], check=True)
    try:
        box.plug(
            p2p={"type": "nic", "nictype": "p2p", "name": "pp0", "host_name": "devpp0", "mtu": "1400"},
            mac={"type": "nic", "nictype": "macvlan", "parent": "lxdbr0", "name": "mac0"},
            phys={"type": "nic", "nictype": "physical", "parent": "spare", "name": "phys0"},
        )
        for _ in ("plugged", "from the start"):
            found = box.network()
            assert {"eth0", "pp0", "mac0", "phys0"} <= found.keys()
            assert (found["pp0"]["host_name"], found["pp0"]["mtu"]) == ("devpp0", 1400)
            assert found["mac0"]["hwaddr"] == box.api.get(box.url)["config"]["volatile.mac.hwaddr"]
            box.restart()
        box.unplug("p2p", "mac", "phys")
        assert box.network().keys() == {"lo", "eth0"}
        links = subprocess.run([*cluster[1].host.enter, "ip", "-j", "link"], capture_output=True, check=True).stdout
        names = {link["ifname"] for link in json.loads(links)}
        assert "spare" in names and "devpp0" not in names
    finally:
        subprocess.run([*cluster[1].host.enter, "ip", "link", "del", "spare1"], check=False)


def test_a_nic_whose_name_is_taken_takes_nothing_from_who_has_it(make: Make, cluster: Cluster) -> None:
    box, host = make(), cluster[1].host
    assert host is not None
    run(*host.enter, "ip", "link", "add", "own0", "address", "00:16:3e:00:00:77", "type", "veth")
    taken = "^Interface (.* cannot be added: File exists$|'lxdbr0' exists already: )"
    try:
        before = run(*host.enter, "ip", "-o", "link", "show", "type", "bridge"), box.network()["eth0"]["hwaddr"]
        for entry in (
            _NIC | {"host_name": "lxdbr0"},
            {"type": "nic", "nictype": "macvlan", "parent": "lxdbr0", "name": "eth0"},
            {"type": "nic", "nictype": "physical", "parent": "own0", "name": "eth0", "hwaddr": "00:16:3e:00:00:78"},
        ):
            with pytest.raises(ApiError, match=taken):
                box.plug(bad=entry)
            shown = run(*host.enter, "ip", "-o", "link", "show", "type", "bridge")
            assert (shown, box.network()["eth0"]["hwaddr"]) == before, entry
        assert "00:16:3e:00:00:77" in run(*host.enter, "ip", "-o", "link", "show", "own0")
    finally:
        run(*host.enter, "ip", "link", "del", "own0")


def test_a_nic_of_a_profile_is_plugged_on_the_member_that_runs_the_container(make: Make, cluster: Cluster) -> None:
    cluster[1].post("/1.0/profiles", {"name": "wired"})
    try:
        box = make(profiles=["default", "wired"])
        device = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0"}
        cluster[3].put("/1.0/profiles/wired", {"devices": {"more": device}})
        within(5, "the nic", lambda: "eth1" in box.network())
        cluster[3].put("/1.0/profiles/wired", {"devices": {}})
        within(5, "no nic", lambda: "eth1" not in box.network())
        box.api.lxc("delete", "--force", box.name)
    finally:
        cluster[1].delete("/1.0/profiles/wired")


def test_frames_under_a_foreign_address_do_not_leave_a_container(make: Make, cluster: Cluster) -> None:
    def filters() -> str:
        assert cluster[1].host is not None
        return run(*cluster[1].host.enter, "nft", "list", "ruleset", "bridge")

    def reaches_the_bridge(address: str) -> bool:
        box.run("ip", "link", "set", "eth1", "down")
        box.run("ip", "link", "set", "eth1", "address", address)
        box.run("ip", "link", "set", "eth1", "up")
        box.run("sh", "-c", "ip address flush dev eth1; ip address add 10.95.0.77/24 dev eth1")
        return not box.fails("ping", "-c", "1", "-W", "1", "-I", "eth1", "10.95.0.1")

    box, own, foreign = make(), "00:16:3e:aa:bb:01", "00:16:3e:aa:bb:02"
    nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth1", "hwaddr": own}
    box.run("ip", "link", "set", "eth0", "down")
    box.plug(more=nic | {"security.mac_filtering": "true"})
    assert reaches_the_bridge(own) and not reaches_the_bridge(foreign)
    box.restart()
    box.run("ip", "link", "set", "eth0", "down")
    assert reaches_the_bridge(own) and not reaches_the_bridge(foreign)
    box.plug(more=nic)
    assert reaches_the_bridge(foreign) and not filters()
    box.plug(more=nic | {"security.mac_filtering": "true", "host_name": "veth.a"})
    assert "veth.a" in filters()
    box.api.lxc("stop", "--force", box.name)
    assert not filters()
    with pytest.raises(ApiError, match="cannot be filtered"):
        box.plug(more=nic | {"security.mac_filtering": "true", "host_name": 'a"b'})
        box.api.put(f"{box.url}/state", {"action": "start"})


def test_traffic_to_a_container_is_limited_in_place(make: Make, cluster: Cluster) -> None:
    box = make()
    nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth0"}

    def classes() -> str:
        assert cluster[1].host is not None
        host_name = box.network()["eth0"]["host_name"]
        command = [*cluster[1].host.enter, "tc", "class", "show", "dev", host_name]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    box.plug(eth0=nic | {"limits.ingress": "8Mbit"})
    before = box.network()["eth0"]["host_name"]
    assert "rate 8Mbit" in classes()
    box.plug(eth0=nic | {"limits.ingress": "2Mbit"})
    assert "rate 2Mbit" in classes() and box.network()["eth0"]["host_name"] == before
    box.restart()
    assert "rate 2Mbit" in classes()
    with pytest.raises(ApiError, match=r"^Limits of veth\w+ cannot be set: "):
        box.plug(eth0=nic | {"limits.ingress": "4Mbit", "limits.egress": f"{2**62}bit"})
    within(10, "the old one again", lambda: "rate 2Mbit" in classes())
    box.plug(eth0=nic)
    assert "rate" not in classes()
    macvlan = {"type": "nic", "nictype": "macvlan", "parent": "lxdbr0", "limits.max": "2Mbit"}
    for _ in range(4):  # Nobody else plugs meanwhile what is refused in the end.
        with pytest.raises(ApiError, match=r"^Network limits are only supported on bridged and p2p interfaces$"):
            box.plug(mac=macvlan)
        assert "eth1" not in box.network()
