"""Device nodes of the host: unix-char and unix-block (spec/config-keys.md 6)."""

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean
from lxdnode.drivers.devices.device import Device, DeviceType

OWNER_KEYS = (Key("uid", default="0"), Key("gid", default="0"), Key("mode", default="0660"))


def _check(device: Device) -> None:
    path = device.get("path") or device.get("source", "")
    if not path:
        raise ValueError('Unix device entry is missing the required "source" or "path" property.')
    if bool(device.get("major")) != bool(device.get("minor")):
        raise ValueError(f"Both major and minor must be supplied for device: {path}")


_KEYS = (
    Key("source", extension="unix_device_rename", doc="The node on the host"),
    Key("path", doc="The node in the container"),
    Key("major"),
    Key("minor"),
    *OWNER_KEYS,
    Key("required", boolean, "true", extension="unix_device_hotplug"),
)
UNIX_CHAR = DeviceType("unix-char", _KEYS, _check)
UNIX_BLOCK = DeviceType("unix-block", _KEYS, _check)
