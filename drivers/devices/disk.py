"""Disks: the root file system, bind mounts and custom volumes (spec/config-keys.md 6, "disk")."""

import subprocess
from pathlib import Path

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean, is_true, parse_integer, parse_size, size
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.configure import Mount

_PROPAGATION = ("private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")
_RECURSIVE = "The recursive option is only supported for additional bind-mounted paths."


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
        raise ValueError(_RECURSIVE)
    if pool and path != "/":
        _check_volume(source)


def _look(device: Device) -> None:
    if device.get("recursive") and not Path(device["source"]).is_dir():
        raise ValueError(_RECURSIVE)


def _check_volume(source: str) -> None:
    if source.startswith("/"):
        raise ValueError("Storage volumes cannot be specified as absolute paths.")
    prefix, slash, _ = source.partition("/")
    if slash and prefix in ("container", "image"):
        raise ValueError(f"Using {prefix} storage volumes is not supported.")
    if slash and prefix != "custom":
        raise ValueError(f'Unknown storage type prefix "{prefix}" found.')


def _start(plug: Plug) -> list[Part]:
    """A bind mount of a host path or of a volume; the root disk is the root file system, and no mount."""
    disk = plug.entry
    if is_root(disk):
        return []
    source = plug.path or Path(disk["source"])
    if not source.exists():
        if is_true(disk.get("optional")):
            return []
        raise DriverError(f"Missing source '{disk['source']}' for disk '{plug.name}'")
    recursive = is_true(disk.get("recursive"))
    if source.is_block_device():
        source = _mount_block(plug, source)
    if recursive and not source.is_dir():
        raise DriverError(_RECURSIVE)
    options = (
        "rbind" if recursive else "bind",
        *(["ro"] if is_true(disk.get("readonly")) else []),
        disk.get("propagation") or ("rprivate" if recursive else "private"),
        *(["idmap=container"] if plug.shifted and plug.path else []),
    )
    return [Mount(source, disk["path"], options)]


def _mount_block(plug: Plug, source: Path) -> Path:
    """Mounts a block device with the file system that is found on it."""
    directory = plug.keep("disk")
    directory.mkdir(exist_ok=True)
    options = ["-o", "ro"] if is_true(plug.entry.get("readonly")) else []
    done = subprocess.run(["mount", *options, source, directory], capture_output=True, text=True)
    if done.returncode:
        raise DriverError(f"Source '{source}' of disk '{plug.name}' cannot be mounted: {done.stderr.strip()}")
    return directory


def rate(value: str) -> None:
    """Bytes per second, or operations per second as `Niops`."""
    if value.endswith("iops"):
        parse_integer(value.removesuffix("iops"))
    else:
        parse_size(value)


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
        Key("limits.read", rate, live=True, doc="Bytes per second, or `Niops`"),
        Key("limits.write", rate, live=True, doc="Bytes per second, or `Niops`"),
        Key("limits.max", rate, live=True, doc="Both directions"),
    ),
    _check,
    _start,
    look=_look,
)
