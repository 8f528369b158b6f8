"""InfiniBand interfaces (spec/config-keys.md 6, "infiniband")."""

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.devices.device import Device, DeviceType


def _check(device: Device) -> None:
    kind = device.get("nictype", "")
    if not kind:
        raise ValueError("Missing nic type")
    if kind not in ("physical", "sriov"):
        raise ValueError(f"Bad nic type: {kind}")
    if not device.get("parent"):
        raise ValueError(f"Missing parent for {kind} type nic")


INFINIBAND = DeviceType("infiniband", (Key("nictype"), Key("parent"), Key("name"), Key("hwaddr"), Key("mtu")), _check)
