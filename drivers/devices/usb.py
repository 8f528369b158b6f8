"""USB devices by vendor and product (spec/config-keys.md 6, "usb"): the nodes of all that match, as they come and go.

Owns what matches on the host; refuses to make nodes (`unix.py` does)."""

from collections.abc import Iterator
from pathlib import Path

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean, is_true
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug
from lxdnode.drivers.devices.unix import OWNER_KEYS, of_host
from lxdnode.drivers.errors import DriverError

_DEVICES = Path("/sys/bus/usb/devices")
_NODES = Path("/dev/bus/usb")


def _check(device: Device) -> None:
    if not device.get("vendorid"):
        raise ValueError("Missing vendorid for USB device.")


def _start(plug: Plug) -> list[Part]:
    """The nodes of all that match now, none is fine. One that cannot be made (it was just pulled out) is left out, or
    fails where the device is `required`."""
    parts: list[Part] = []
    for node in _matching(plug.entry):
        try:
            parts += of_host(plug, node)
        except DriverError:
            if is_true(plug.entry.get("required")):
                raise
    return parts


def _matching(device: Device) -> Iterator[Path]:
    """The nodes of the devices with the vendor, and the product if one is given. Interfaces have no numbers."""
    for found in sorted(_DEVICES.glob("*")):
        try:
            vendor, product, bus, number = ((found / name).read_text().strip() for name in _NUMBERS)
        except OSError:
            continue
        if vendor == device["vendorid"] and device.get("productid", "") in ("", product):
            yield _NODES / f"{int(bus):03d}" / f"{int(number):03d}"


def _watched(device: Device) -> list[Path]:
    """Buses, and what is on each of them."""
    return [_NODES / "bus", *(bus / "device" for bus in _NODES.glob("*"))]


_NUMBERS = ("idVendor", "idProduct", "busnum", "devnum")
_KEYS = (
    Key("vendorid", doc="Four hexadecimal digits"),
    Key("productid", doc="Four hexadecimal digits; any when absent"),
    *OWNER_KEYS,
    Key("required", boolean, "false", doc="Whether a node that cannot be made fails the start"),
)
USB = DeviceType("usb", _KEYS, _check, _start, watched=_watched, many=True)
