"""Whether the kernel can map the owners of a file system by the mount, so that nothing must be shifted on disk.

Owns the probe, and such mounts for who cannot make them itself; refuses to guess from names of file systems (ext4,
btrfs, tmpfs, xfs can, overlay cannot, ZFS by version)."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import Entry, IdMap
from lxdnode.drivers.host.syscalls import call

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CWD, _CLONE, _CLOEXEC, _EMPTY_PATH, _FROM_EMPTY, _IDMAP, _DETACH = -100, 1, os.O_CLOEXEC, 0x1000, 0x4, 0x00100000, 2
_libc = ctypes.CDLL(None, use_errno=True)
_known: dict[int, bool] = {}


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))


def can_map(path: Path) -> bool:
    """Whether an idmapped mount of the file system of `path` works; tried once for each. Blocks for some ms."""
    device = path.stat().st_dev
    if device not in _known:
        _known[device] = _try(path)
    return _known[device]


def _try(path: Path) -> bool:
    try:
        os.close(_tree(path, (Entry(True, True, 0, 0, 1),)))
    except OSError:
        return False
    return True


def mount(path: Path, target: Path, entries: IdMap) -> None:
    """Mounts the tree of `path` at the new directory `target`, with the owners that a map makes of them: what a
    container sees of its idmapped root. DriverError. Blocks for some ms."""
    target.mkdir(exist_ok=True)
    try:
        tree = _tree(path, entries)
        try:
            call(_MOVE_MOUNT, tree, b"", _CWD, os.fsencode(target), _FROM_EMPTY)
        finally:
            os.close(tree)
    except OSError as error:
        raise DriverError(f"{path} cannot be mounted on {target}: {error.strerror}") from None


def unmount(target: Path) -> None:
    """Takes such a mount away, for who comes from now on; nothing when it is not there."""
    _libc.umount2(os.fsencode(target), _DETACH)
    with suppress(FileNotFoundError):
        target.rmdir()


def _tree(path: Path, entries: IdMap) -> int:
    """A detached mount of a tree with mapped owners. OSError where the kernel cannot."""
    tree = call(_OPEN_TREE, _CWD, os.fsencode(path), _CLONE | _CLOEXEC)
    try:
        with _namespace(entries) as namespace:
            attributes = _Attributes(_IDMAP, 0, 0, namespace)
            size = ctypes.sizeof(attributes)
            call(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, ctypes.byref(attributes), size)
    except BaseException:
        os.close(tree)
        raise
    return tree


@contextmanager
def _namespace(entries: IdMap) -> Iterator[int]:
    """A user namespace with a map, held by a process that ends when we close its input."""
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()  # It runs: the namespace is there.
        lines = [line.split(" ", 1) for entry in entries for line in entry.lxc()]
        for kind, file in (("u", "uid_map"), ("g", "gid_map")):
            Path(f"/proc/{process.pid}/{file}").write_text("".join(f"{rest}\n" for own, rest in lines if own == kind))
        namespace = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
            process.stdin.close()
