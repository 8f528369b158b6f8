"""USB devices, graphics cards and VLANs of a host in containers, where a kernel has such (scripts/lab)."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.daemons import ApiError, Daemon, within

CARDS = sorted(Path("/sys/bus/pci/devices").glob("*/drm/card*"))


def has_module(name: str) -> bool:
    """Whether the kernel can load a module."""
    try:
        return subprocess.run(["modprobe", "--dry-run", name], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [pytest.mark.lab, pytest.mark.slow]
usb = pytest.mark.skipif(not has_module("dummy_hcd"), reason="this kernel has no dummy_hcd, which is a USB bus")
vlan = pytest.mark.skipif(not has_module("8021q"), reason="this kernel has no VLANs")
gpu = pytest.mark.skipif(not CARDS, reason="there is no graphics card")
VENDOR, PRODUCT = "1a2b", "3c4d"


class Box:
    """A container."""

    def __init__(self, server: Daemon, name: str) -> None:
        self.api = server
        self.url = f"/1.0/containers/{name}"

    def change(self, action: str) -> None:
        self.api.put(f"{self.url}/state", {"action": action, "force": True})

    def plug(self, **devices: dict[str, str]) -> None:
        """Adds devices, or changes them; those of type none are gone."""
        self.api.patch(self.url, {"devices": devices})

    def says(self, line: str) -> str:
        """What a shell line inside writes."""
        done = self.api.post(f"{self.url}/exec", {"command": ["sh", "-c", line], "record-output": True})
        return self.api.request("GET", done["metadata"]["output"]["1"])[2].decode().strip()


@pytest.fixture(params=["unprivileged", "privileged"])
def box(server: Daemon, fingerprint: str, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A running container of each kind."""
    config = {"security.privileged": str(request.param == "privileged").lower()}
    source = {"type": "image", "fingerprint": fingerprint}
    server.post("/1.0/containers", {"name": f"hw-{request.param}", "source": source, "config": config})
    made = Box(server, f"hw-{request.param}")
    made.change("start")
    yield made
    if server.get(made.url)["status"] != "Stopped":
        made.change("stop")
    server.delete(made.url)


class Plug:
    """A USB device: the kernel's serial gadget on the kernel's own bus."""

    def push_in(self) -> None:
        modprobe("g_serial", f"idVendor=0x{VENDOR}", f"idProduct=0x{PRODUCT}")

    def pull_out(self) -> None:
        modprobe("--remove", "g_serial")


def modprobe(*words: str) -> None:
    subprocess.run(["modprobe", *words], check=True)


@pytest.fixture
def plug() -> Iterator[Plug]:
    """A device that is not plugged yet."""
    modprobe("dummy_hcd")
    made = Plug()
    yield made
    made.pull_out()
    modprobe("--remove", "dummy_hcd")


@usb
@pytest.mark.extension("usb_devices")
def test_a_usb_device_comes_and_goes_with_the_hosts(box: Box, plug: Plug) -> None:
    box.plug(
        one={"type": "usb", "vendorid": VENDOR, "uid": "5", "mode": "0640"}, other={"type": "usb", "vendorid": "ffff"}
    )
    assert box.says("find /dev/bus -type c") == ""
    plug.push_in()
    within(30, "its node", lambda: box.says("find /dev/bus -type c") != "")
    node = box.says("find /dev/bus -type c")
    assert box.says(f"stat -c '%u %g %a %t' {node}") == "5 0 640 bd"
    assert VENDOR[2:] + " " + VENDOR[:2] in box.says(
        f"head -c 18 {node} | od -A n -t x1"
    )  # Its descriptor, by libusb's way.
    box.change("restart")
    assert box.says("find /dev/bus -type c") == node
    plug.pull_out()
    within(30, "no node", lambda: box.says("find /dev/bus -type c") == "")
    plug.push_in()
    within(30, "its node again", lambda: box.says("find /dev/bus -type c") != "")
    box.plug(one={"type": "usb", "vendorid": VENDOR, "productid": "0000"})
    assert box.says("find /dev/bus -type c") == ""
    box.plug(one={"type": "usb", "vendorid": VENDOR, "productid": PRODUCT})
    assert box.says("stat -c %a $(find /dev/bus -type c)") == "664"  # The host's.
    box.plug(one={"type": "none"})
    assert box.says("find /dev/bus -type c") == ""


@pytest.fixture
def dummy(server: Daemon) -> Iterator[Callable[..., str]]:
    """Runs `ip` where the server's interfaces are, one of which is `dummy0`."""
    assert server.host is not None
    enter = ["nsenter", f"--net=/run/netns/{server.host.namespace}", "ip"]

    def ip(*words: str) -> str:
        return subprocess.run([*enter, *words], check=True, capture_output=True, text=True).stdout

    ip("link", "add", "dummy0", "type", "dummy")
    ip("link", "set", "dummy0", "up")
    yield ip
    ip("link", "del", "dummy0")


@vlan
@pytest.mark.extension("network_vlan")
@pytest.mark.extension("network_vlan_physical")
def test_a_nic_is_on_a_vlan_of_its_parent(box: Box, dummy: Callable[..., str]) -> None:
    nic = {"type": "nic", "parent": "dummy0"}
    dummy("link", "add", "link", "dummy0", "name", "seven", "type", "vlan", "id", "7")
    box.plug(
        top={"nictype": "macvlan", "vlan": "5", "name": "top0", **nic},
        known={"nictype": "macvlan", "vlan": "7", "name": "top1", **nic},
        whole={"nictype": "physical", "vlan": "9", "name": "whole0", **nic},
    )
    for restarted in (False, True):
        if restarted:
            box.change("restart")
        shown = dummy("-d", "link", "show")
        assert "dummy0.5@dummy0" in shown and "vlan protocol 802.1Q id 5" in shown
        assert "dummy0.7" not in shown and "dummy0.9@" not in shown
        inside = box.says("ip -d link show; ls /sys/class/net")
        assert {"top0", "top1", "whole0"} < set(inside.split())
        upper = {name: box.says(f"cat /sys/class/net/{name}/iflink") for name in ("top0", "top1")}
        assert dummy("-o", "link", "show", "dummy0.5").split(":")[0] == upper["top0"]
        assert dummy("-o", "link", "show", "seven").split(":")[0] == upper["top1"]
    box.plug(whole={"type": "none"}, top={"type": "none"})
    assert "dummy0.9@dummy0" in dummy("link", "show")
    assert not {"top0", "whole0"} & set(box.says("ls /sys/class/net").split())


@gpu
@pytest.mark.extension("gpu_devices")
def test_a_graphics_card_is_chosen_by_its_ids_and_address(box: Box) -> None:
    card = CARDS[0]
    address, vendor = card.parents[1].name, (card.parents[1] / "vendor").read_text().strip().removeprefix("0x")
    assert box.says("ls /dev/dri") == ""
    for choice in ({}, {"pci": address}, {"vendorid": vendor}, {"id": card.name.removeprefix("card")}):
        box.plug(card={"type": "gpu", "gid": "44", **choice})
        assert box.says(f"stat -c '%g %a %t' /dev/dri/{card.name}") == "44 660 e2", choice
        assert box.says(f"dd if=/dev/dri/{card.name} count=0 2>&1 && echo opened").endswith("opened")
        box.plug(card={"type": "none"})
        assert box.says(f"ls /dev/dri/{card.name}") == ""
    for choice in ({"vendorid": "0000"}, {"vendorid": vendor, "productid": "0000"}, {"id": "77"}):
        with pytest.raises(ApiError, match="^Failed to detect requested GPU device$"):
            box.plug(card={"type": "gpu", **choice})
    box.plug(card={"type": "gpu"})
    box.change("restart")
    assert card.name in box.says("ls /dev/dri").split()
