"""Graphics cards (spec/config-keys.md 6, "gpu")."""

from pathlib import Path

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.devices.device import Device, DeviceType
from lxdnode.drivers.devices.unix import OWNER_KEYS

_PCI_DEVICES = Path("/sys/bus/pci/devices")


def _check(device: Device) -> None:
    pci = device.get("pci", "")
    if pci and not (_PCI_DEVICES / pci).exists():
        raise ValueError(f"Invalid PCI address (no device found): {pci}")
    if pci and any(device.get(key) for key in ("id", "productid", "vendorid")):
        raise ValueError("Cannot use id, productid or vendorid when pci is set")
    if device.get("id") and any(device.get(key) for key in ("pci", "productid", "vendorid")):
        raise ValueError("Cannot use pci, productid or vendorid when id is set")


GPU = DeviceType("gpu", (Key("vendorid"), Key("productid"), Key("id"), Key("pci"), *OWNER_KEYS), _check)
