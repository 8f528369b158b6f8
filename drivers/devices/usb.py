"""USB devices by vendor and product (spec/config-keys.md 6, "usb")."""

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean
from lxdnode.drivers.devices.device import Device, DeviceType
from lxdnode.drivers.devices.unix import OWNER_KEYS


def _check(device: Device) -> None:
    if not device.get("vendorid"):
        raise ValueError("Missing vendorid for USB device.")


USB = DeviceType("usb", (Key("vendorid"), Key("productid"), *OWNER_KEYS, Key("required", boolean, "false")), _check)
