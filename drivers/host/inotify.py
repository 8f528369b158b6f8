"""Names that appear and disappear in directories of this host, told by the kernel.

Owns the inotify descriptor; refuses to read what a file says."""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

_CREATE, _DELETE, _MOVED, _SELF, _ONLY_DIRECTORIES = 0x100, 0x200, 0x0C0, 0xC00, 0x01000000
_BUFFER = 65536
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """What happens in a set of directories, from its making on."""

    def __init__(self) -> None:
        self._descriptor = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify: {os.strerror(number)}")

    def add(self, paths: Iterable[Path]) -> None:
        """Watches, for each path, the nearest directory above it that exists."""
        for path in paths:
            mask = _CREATE | _DELETE | _MOVED | _SELF | _ONLY_DIRECTORIES
            for parent in path.parents:
                if _libc.inotify_add_watch(self._descriptor, os.fsencode(parent), mask) >= 0:
                    break

    async def wait(self) -> None:
        """Returns when something has happened; what, the caller looks for himself."""
        await trio.lowlevel.wait_readable(self._descriptor)
        os.read(self._descriptor, _BUFFER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
