"""Devices as pure values: addresses of proxies, rates of disks, what stays plugged, and what was noted of it."""

from pathlib import Path

import pytest

from lxdnode.drivers.devices import proxy
from lxdnode.drivers.devices.device import Plug
from lxdnode.drivers.devices.forwarder import Address, Forward
from lxdnode.drivers.devices.registry import DEVICE_TYPES
from lxdnode.drivers.host import limits
from lxdnode.drivers.host.cgroup import Layout, Setting
from lxdnode.drivers.host.limits import Rates
from lxdnode.drivers.runtime.configure import Access, Mount, Nic
from lxdnode.node.containers import live, plugging
from lxdnode.node.containers.live import Plugged

V1 = Layout({"blkio": Path("/sys/fs/cgroup/blkio"), "net_prio": Path("/sys/fs/cgroup/net_prio")}, None, frozenset())
V2 = Layout({}, Path("/sys/fs/cgroup"), frozenset({"io"}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tcp:10.0.0.1:80", [Address("tcp", "10.0.0.1", 80)]),
        ("tcp:[::1]:80-81", [Address("tcp", "::1", 80), Address("tcp", "::1", 81)]),
        ("udp:0.0.0.0:1,3-4", [Address("udp", "0.0.0.0", port) for port in (1, 3, 4)]),
        ("unix:/a:b", [Address("unix", "/a:b", 0)]),
        ("unix:@a", [Address("unix", "@a", 0)]),
    ],
)
def test_addresses_of_proxies(text: str, found: list[Address]) -> None:
    assert proxy.parse(text) == found


@pytest.mark.parametrize("text", ["tcp", "tcp:1.1.1.1", "tcp:1.1.1.1:", "tcp:1.1.1.1:a", "tcp:1.1.1.1:70000", "x:1:1"])
def test_wrong_addresses_of_proxies(text: str) -> None:
    with pytest.raises(ValueError):
        proxy.parse(text)


def test_abstract_sockets_and_addresses_as_the_kernel_takes_them() -> None:
    assert Address("unix", "@a", 0).target == "\0a"
    assert Address("tcp", "::1", 80).target == ("::1", 80)


def test_rates_of_a_disk_are_bytes_or_operations() -> None:
    assert limits.parse_rates("10MB", "20iops", "") == Rates(read=10_000_000, writes=20)
    assert limits.parse_rates("10MB", "20iops", "1kB") == Rates(read=1000, write=1000)
    assert limits.parse_rates("", "", "") == Rates()


def test_disks_on_one_device_share_the_mean_of_their_rates() -> None:
    rates = {"8:0": [Rates(read=100), Rates(read=300, writes=7)]}
    values = {setting.file.removeprefix("blkio.throttle."): setting.value for setting in limits.disk_rates(V1, rates)}
    assert values == {
        "read_bps_device": "8:0 200",
        "write_bps_device": "8:0 0",
        "read_iops_device": "8:0 0",
        "write_iops_device": "8:0 7",
    }
    assert limits.disk_rates(V2, rates) == [Setting("io", "io.max", "8:0 rbps=200 wbps=max riops=max wiops=7")]
    assert limits.disk_rates(V2, {"8:0": []})[0].value == "8:0 rbps=max wbps=max riops=max wiops=max"


def test_network_priority_is_set_on_every_interface_where_the_kernel_can() -> None:
    found = limits.network_priority(V1, "5", ["eth1", "eth0"])
    assert [setting.value for setting in found] == ["eth0 5", "eth1 5"]
    assert limits.network_priority(V2, "5", ["eth0"]) == []


def plug(**entry: str) -> Plug:
    return Plug("one", entry, {}, Path("/nowhere"))


@pytest.mark.parametrize(
    ("old", "new", "stays"),
    [
        ({"type": "nic", "nictype": "p2p"}, {"type": "nic", "nictype": "p2p", "limits.max": "1Mbit"}, True),
        ({"type": "nic", "nictype": "p2p"}, {"type": "nic", "nictype": "p2p", "mtu": "1400"}, False),
        ({"type": "nic", "nictype": "p2p"}, {"type": "disk", "nictype": "p2p"}, False),
        ({"type": "disk", "path": "/a"}, {"type": "disk", "path": "/a", "limits.read": "1MB"}, True),
        ({"type": "disk", "path": "/a"}, {"type": "disk", "path": "/a", "readonly": "true"}, False),
    ],
)
def test_only_a_change_in_place_leaves_a_device_plugged(old: dict[str, str], new: dict[str, str], stays: bool) -> None:
    assert plugging._stays(Plugged(old, []), plug(**new)) is stays
    assert plugging._stays(Plugged(old, []), None) is False


def test_what_is_plugged_survives_its_note(tmp_path: Path) -> None:
    address = Address("unix", "/s", 0)
    plugged = {
        "a/b": Plugged({"type": "nic"}, [Nic("eth0", "veth1", "br0", "00:16:3e:00:00:01", type="macvlan")]),
        "c": Plugged({"type": "unix-char"}, [Access("c 1:5 rwm"), Mount(Path("/x y"), "/d", owns_target=True)]),
        "d": Plugged(
            {"type": "proxy"}, [Forward([address], [address], True, (1, 2), (1, 2), 0o600, None, False, Path("/pid"))]
        ),
    }
    live.save(tmp_path / "plugged", plugged)
    assert live.load(tmp_path / "plugged") == plugged
    assert live.load(tmp_path / "none") == {}


def test_every_type_declares_what_changes_in_place() -> None:
    assert DEVICE_TYPES["nic"].live >= {"limits.ingress", "limits.egress", "limits.max", "ipv4.address"}
    assert DEVICE_TYPES["disk"].live == {"size", "limits.read", "limits.write", "limits.max"}
    assert not DEVICE_TYPES["proxy"].live and not DEVICE_TYPES["unix-char"].live
