"""Calls of the kernel that the C library has no function for.

Owns how one fails; refuses to know any of them."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: object) -> int:
    """What the call of a number (the same on every architecture since 5.1) returns. OSError when it fails."""
    found = _libc.syscall(number, *arguments)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(found)
