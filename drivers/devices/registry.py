"""The device types by name, and the checks over a whole set of devices.

Owns the words for unknown types and for root disks; refuses the rules of one type (its own file has them)."""

from collections.abc import Mapping

from lxdnode.drivers.devices.device import Device, DeviceType
from lxdnode.drivers.devices.disk import DISK, is_root
from lxdnode.drivers.devices.gpu import GPU
from lxdnode.drivers.devices.infiniband import INFINIBAND
from lxdnode.drivers.devices.nic import NIC
from lxdnode.drivers.devices.none import NONE
from lxdnode.drivers.devices.proxy import PROXY
from lxdnode.drivers.devices.unix import UNIX_BLOCK, UNIX_CHAR
from lxdnode.drivers.devices.usb import USB

DEVICE_TYPES: dict[str, DeviceType] = {
    kind.name: kind for kind in (NONE, NIC, DISK, UNIX_CHAR, UNIX_BLOCK, USB, GPU, INFINIBAND, PROXY)
}


def validate_devices(devices: Mapping[str, Device], expanded: bool = False) -> None:
    """Checks a local set of devices, or an expanded one, which must have exactly one root disk.

    ValueError with LXD's words (spec/config-keys.md 6, "common rules")."""
    paths: set[str] = set()
    for name in sorted(devices):
        device = devices[name]
        kind = device.get("type", "")
        if not kind:
            raise ValueError(f"Missing device type for device '{name}'")
        if kind not in DEVICE_TYPES:
            raise ValueError(f"Invalid device type for device '{name}'")
        DEVICE_TYPES[kind].validate(device)
        if expanded:
            DEVICE_TYPES[kind].look(device)
        if kind == "disk" and not expanded:
            if device["path"] in paths:
                raise ValueError(f"More than one disk device uses the same path: {device['path']}.")
            paths.add(device["path"])
    if expanded:
        root_disk(devices)


def root_disk(devices: Mapping[str, Device]) -> tuple[str, Device]:
    """The name and entry of the one root disk of an expanded set. ValueError when there is none or more than one."""
    roots = [(name, device) for name, device in devices.items() if is_root(device)]
    if not roots:
        raise ValueError("No root device could be found.")
    if len(roots) > 1:
        raise ValueError("More than one root device found.")
    return roots[0]
