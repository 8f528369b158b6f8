"""Exchanging two directories in one step, which Python's standard library does not offer."""

import ctypes
import os
from pathlib import Path

from lxdnode.node.durable import sync_folder

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: Path, other: Path) -> None:
    """Each of two paths on one file system gets the other's name, atomically and durably (renameat2 of Linux)."""
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    sync_folder(one.parent)
