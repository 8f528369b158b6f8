"""Graphics cards (spec/config-keys.md 6, "gpu"): the nodes of all cards that match, or of all that there are.

Owns what matches on the host; refuses to make nodes (`unix.py` does)."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug
from lxdnode.drivers.devices.unix import OWNER_KEYS, of_host
from lxdnode.drivers.errors import DriverError

_PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA, _NVIDIA_CARDS = "10de", Path("/proc/driver/nvidia/gpus")
_DEV = Path("/dev")


@dataclass(frozen=True)
class _Card:
    """A graphics card: its PCI address and ids, and its nodes in /dev/dri."""

    pci: str
    vendor: str
    product: str
    nodes: tuple[Path, ...]

    def matches(self, device: Device) -> bool:
        wanted = {"pci": self.pci, "vendorid": self.vendor, "productid": self.product}
        if any(device.get(key) and device[key] != value for key, value in wanted.items()):
            return False
        return not device.get("id") or device["id"] in self._numbers()

    def _numbers(self) -> list[str]:
        """The minor numbers of its card nodes, as LXD counts cards."""
        return [str(os.minor(node.stat().st_rdev)) for node in self.nodes if node.name.startswith("card")]


def _check(device: Device) -> None:
    pci = device.get("pci", "")
    if pci and not (_PCI_DEVICES / pci).exists():
        raise ValueError(f"Invalid PCI address (no device found): {pci}")
    if pci and any(device.get(key) for key in ("id", "productid", "vendorid")):
        raise ValueError("Cannot use id, productid or vendorid when pci is set")
    if device.get("id") and any(device.get(key) for key in ("pci", "productid", "vendorid")):
        raise ValueError("Cannot use pci, productid or vendorid when id is set")


def _start(plug: Plug) -> list[Part]:
    cards = [card for card in _cards() if card.matches(plug.entry)]
    if not cards:
        raise DriverError("Failed to detect requested GPU device")
    nodes = [node for card in cards for node in card.nodes]
    nvidia = [card for card in cards if card.vendor == _NVIDIA]
    nodes += [_nvidia_node(card) for card in nvidia]
    if nvidia and not plug.nvidia:
        nodes += sorted(node for node in _DEV.glob("nvidia*") if _nvidia_number(node) is None and not node.is_dir())
    return [part for node in nodes for part in of_host(plug, node)]


def _cards() -> Iterator[_Card]:
    for device in sorted(_PCI_DEVICES.glob("*")):
        entries = sorted(_DEV / "dri" / entry.name for entry in device.glob("drm/*"))
        nodes = tuple(
            node for node in entries if node.exists()
        )  # `controlD64` is a name of old kernels without a node.
        if nodes:
            vendor, product = ((device / name).read_text().strip().removeprefix("0x") for name in ("vendor", "device"))
            yield _Card(device.name, vendor, product, nodes)


def _nvidia_node(card: _Card) -> Path:
    """/dev/nvidiaN of a card: N is the driver's word, or there is only one."""
    information = _NVIDIA_CARDS / card.pci / "information"
    if information.exists():
        minor = re.search(r"^Device Minor:\s*(\d+)", information.read_text(), re.MULTILINE)
        if minor is not None:
            return _DEV / f"nvidia{minor[1]}"
    found = [node for node in _DEV.glob("nvidia*") if _nvidia_number(node) is not None]
    if len(found) != 1:
        raise DriverError('Failed to detect correct "/dev/nvidia" path')
    return found[0]


def _nvidia_number(node: Path) -> str | None:
    number = node.name.removeprefix("nvidia")
    return number if number.isdecimal() else None


_KEYS = (
    Key("vendorid", doc="Four hexadecimal digits"),
    Key("productid", doc="Four hexadecimal digits"),
    Key("id", doc="The number of the card: the minor of its node cardN"),
    Key("pci", doc="The address of the card"),
    *OWNER_KEYS,
)
GPU = DeviceType("gpu", _KEYS, _check, _start)
