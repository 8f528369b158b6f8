"""Whether the kernel can map the owners of a file system by the mount, so that nothing must be shifted on disk.

Owns the probe; refuses to guess from names of file systems (ext4, btrfs, tmpfs, xfs can, overlay cannot, ZFS by
version)."""

import ctypes
import os
import subprocess
from pathlib import Path

_OPEN_TREE, _MOUNT_SETATTR = 428, 442
_CLONE, _CLOEXEC, _EMPTY_PATH, _IDMAP = 1, os.O_CLOEXEC, 0x1000, 0x00100000
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
    tree = _libc.syscall(_OPEN_TREE, -100, os.fsencode(path), _CLONE | _CLOEXEC)
    if tree < 0:
        return False
    try:
        # Any process of its own user namespace will do; `cat` ends when we close its input.
        holder = ["unshare", "--user", "--map-root-user", "cat"]
        with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()  # It runs: the namespace is there.
            namespace = os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                attributes = _Attributes(_IDMAP, 0, 0, namespace)
                size = ctypes.sizeof(attributes)
                return not _libc.syscall(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH, ctypes.byref(attributes), size)
            finally:
                os.close(namespace)
                process.stdin.close()
    finally:
        os.close(tree)
