"""Disks: the root file system, bind mounts and custom volumes (spec/config-keys.md 6, "disk")."""

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean, size
from lxdnode.drivers.devices.device import Device, DeviceType

_PROPAGATION = ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")


def is_root(device: Device) -> bool:
    """Whether an entry is the root disk: a disk on `/` without a source."""
    return device.get("type") == "disk" and device.get("path") == "/" and not device.get("source")


def propagation(value: str) -> None:
    """A mount propagation mode of a disk."""
    if value and value not in _PROPAGATION:
        raise ValueError(f"Invalid propagation mode '{value}'")


def _check(device: Device) -> None:
    path, source, pool = (device.get(name, "") for name in ("path", "source", "pool"))
    if not path:
        raise ValueError('Disk entry is missing the required "path" property.')
    if path != "/" and not source:
        raise ValueError('Disk entry is missing the required "source" property.')
    if path == "/" and source:
        raise ValueError('Root disk entry may not have a "source" property set.')
    if path != "/" and device.get("size"):
        raise ValueError("Only the root disk may have a size quota.")
    if device.get("recursive") and (path == "/" or pool):
        raise ValueError("The recursive option is only supported for additional bind-mounted paths.")
    if pool and path != "/":
        _check_volume(source)


def _check_volume(source: str) -> None:
    if source.startswith("/"):
        raise ValueError("Storage volumes cannot be specified as absolute paths.")
    prefix, slash, _ = source.partition("/")
    if slash and prefix in ("container", "image"):
        raise ValueError(f"Using {prefix} storage volumes is not supported.")
    if slash and prefix != "custom":
        raise ValueError(f'Unknown storage type prefix "{prefix}" found.')


DISK = DeviceType(
    "disk",
    (
        Key("path", doc="Where in the container"),
        Key("source", doc="A path of the host, or a volume when `pool` is set"),
        Key("pool", extension="storage", doc="The storage pool"),
        Key("size", size, live=True, doc="Quota of the root disk"),
        Key("readonly", boolean, "false"),
        Key("optional", boolean, "false", doc="Whether the source may be missing"),
        Key("recursive", boolean, "false", doc="Whether mounts below the source come along"),
        Key("propagation", propagation, "private", extension="container_mount_propagation"),
        Key("limits.read", live=True, doc="Bytes per second, or `Niops`"),
        Key("limits.write", live=True, doc="Bytes per second, or `Niops`"),
        Key("limits.max", live=True, doc="Both directions"),
    ),
    _check,
)
