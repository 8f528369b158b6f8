"""Disks: the root file system, bind mounts and custom volumes (spec/config-keys.md 6, "disk")."""

from pathlib import Path

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean, is_true, size
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.configure import Mount

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


_LATER = ("limits.read", "limits.write", "limits.max")


def _start(plug: Plug) -> list[Part]:
    """A bind mount of a host path or of a volume; the root disk is the root file system, and no mount."""
    disk = plug.entry
    for key in _LATER:
        if disk.get(key):
            raise DriverError(f"Key {key} of disk '{plug.name}' is not supported yet: unset it to start")
    if is_root(disk):
        return []
    source = plug.path or Path(disk["source"])
    if not source.exists():
        if is_true(disk.get("optional")):
            return []
        raise DriverError(f"Missing source '{disk['source']}' for disk '{plug.name}'")
    options = (
        *(["rbind"] if is_true(disk.get("recursive")) else ["bind"]),
        *(["ro"] if is_true(disk.get("readonly")) else []),
        *([disk["propagation"]] if disk.get("propagation") else []),
        *(["idmap=container"] if plug.shifted and plug.path else []),
    )
    return [Mount(source, disk["path"], options)]


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
    _start,
)
