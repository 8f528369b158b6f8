"""Device nodes of the host: unix-char and unix-block (spec/config-keys.md 6).

Owns the nodes that are made for containers in the host's own tree and mounted into them: no container may make one."""

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

from lxdnode.drivers.config.key import Key
from lxdnode.drivers.config.kinds import boolean, is_false
from lxdnode.drivers.devices.device import Device, DeviceType, Part, Plug
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import to_host
from lxdnode.drivers.runtime.configure import Access, Mount

OWNER_KEYS = (Key("uid", default="0"), Key("gid", default="0"), Key("mode", default="0660"))
_LARGEST_NUMBER = 2**31 - 1
_KINDS = {"unix-char": (stat.S_IFCHR, "c", "character"), "unix-block": (stat.S_IFBLK, "b", "block")}


def _source(device: Device) -> Path:
    return Path(device.get("source") or device["path"])


def _check(device: Device) -> None:
    path = device.get("path") or device.get("source", "")
    if not path:
        raise ValueError('Unix device entry is missing the required "source" or "path" property.')
    if bool(device.get("major")) != bool(device.get("minor")):
        raise ValueError(f"Both major and minor must be supplied for device: {path}")


def is_there(device: Device) -> bool:
    """Whether the node is on the host, or may be made without it; one that is required always counts as there."""
    return not is_false(device.get("required")) or bool(device.get("major")) or _source(device).exists()


def _watched(device: Device) -> list[Path]:
    """An optional node."""
    return [_source(device)] if is_false(device.get("required")) else []


def _look(device: Device) -> None:
    if is_false(device.get("required")) or device.get("major"):
        return
    source = _source(device)
    if not source.exists():
        raise ValueError("The device path doesn't exist on the host and major/minor wasn't specified.")
    mode = source.stat().st_mode
    for type, (_, _, word) in _KINDS.items():
        if type != device["type"] and stat.S_IFMT(mode) == _KINDS[type][0]:
            raise ValueError(f"Path specified for {device['type']} device is a {word} device.")


def of_host(plug: Plug, node: Path) -> list[Part]:
    """A character device of the host under its own path, with the owner and the mode that the entry gives; without one
    the host's mode. DriverError."""
    given = {key: plug.entry[key] for key in ("uid", "gid", "mode") if plug.entry.get(key)}
    try:
        mode = f"{node.stat().st_mode & 0o777:04o}"
    except OSError:
        raise DriverError(f"Missing source '{node}' for device '{plug.name}'") from None
    return start(replace(plug, entry={"type": "unix-char", "path": str(node), "mode": mode, **given}))


def start(plug: Plug) -> list[Part]:
    """A node with the host's numbers or the given ones, mounted where the container wants it. One that is kept already
    stays the same: it may be mounted."""
    device = plug.entry
    kind, letter, word = _KINDS[device["type"]]
    path = device.get("path") or device["source"]
    major, minor = _numbers(plug, kind, word)
    node = plug.keep("unix")
    if not _is_node(node, kind, os.makedev(major, minor)):
        node.unlink(missing_ok=True)
        os.mknod(node, kind, os.makedev(major, minor))
    os.chown(node, *to_host(plug.idmap, _integer(device, "uid", path), _integer(device, "gid", path)))
    node.chmod(parse_mode(device.get("mode") or "0660", path))
    mount = Mount(node, path, ("bind",), owns_target=True)
    return [Access(f"{letter} {major}:{minor} rwm"), mount] if not plug.idmap else [mount]


def _is_node(path: Path, kind: int, numbers: int) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return (stat.S_IFMT(found.st_mode), found.st_rdev) == (kind, numbers)


def _numbers(plug: Plug, kind: int, word: str) -> tuple[int, int]:
    device = plug.entry
    if device.get("major"):
        path = device.get("path") or device["source"]
        return _integer(device, "major", path), _integer(device, "minor", path)
    source = _source(device)
    try:
        found = source.stat()
    except OSError:
        raise DriverError(f"Missing source '{source}' for device '{plug.name}'") from None
    if stat.S_IFMT(found.st_mode) != kind:
        raise DriverError(f"Source '{source}' of device '{plug.name}' is no {word} device")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def _integer(device: Device, key: str, path: str) -> int:
    value = device.get(key) or "0"
    if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > _LARGEST_NUMBER:
        raise DriverError(f"Bad {key} {value} in device {path}")
    return int(value)


def parse_mode(value: str, path: str) -> int:
    """Permissions as octal digits, of what `path` names. DriverError with LXD's words."""
    if not re.fullmatch(r"0*[0-7]{1,4}", value):
        raise DriverError(f"Bad mode {value} in device {path}")
    return int(value, 8)


_KEYS = (
    Key("source", extension="unix_device_rename", doc="The node on the host"),
    Key("path", doc="The node in the container"),
    Key("major"),
    Key("minor"),
    *OWNER_KEYS,
    Key("required", boolean, "true", extension="unix_device_hotplug", doc="Whether it must be on the host"),
)
UNIX_CHAR = DeviceType("unix-char", _KEYS, _check, start, look=_look, is_there=is_there, watched=_watched)
UNIX_BLOCK = DeviceType("unix-block", _KEYS, _check, start, look=_look, is_there=is_there, watched=_watched)
