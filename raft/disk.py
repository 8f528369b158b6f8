"""The few things that journal and snapshots ask of a directory, so that the simulation can lose power in between.

Owns durability (what is synced when); refuses to know what the files hold."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """A directory of append-only files. What was neither synced nor published may be gone or torn after a power cut."""

    def names(self) -> list[str]: ...
    def size(self, name: str) -> int: ...
    def read(self, name: str, offset: int = 0, size: int = -1) -> bytes: ...
    def append(self, name: str, data: bytes) -> None: ...
    def truncate(self, name: str, size: int) -> None: ...
    def sync(self, name: str) -> None: ...
    def publish(self, name: str, target: str) -> None:
        """Sync the file, give it the name `target` in place of what had it, and sync the directory."""

    def remove(self, name: str) -> None: ...
    def close(self) -> None: ...


class Directory:
    """A real directory, held by descriptor: it may be renamed while it is in use (a joiner's `raft.new`)."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        """Raises BlockingIOError while another process, or another Directory of this one, has it open.

        Without `sync` a power cut loses what was written: for tests, which must find that."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._directory)
            raise BlockingIOError(f"{path} is in use by another process") from None
        self._open: dict[str, int] = {}
        self._sync = sync

    def names(self) -> list[str]:
        return os.listdir(self._directory)  # noqa: PTH208 - of a descriptor

    def size(self, name: str) -> int:
        return os.stat(name, dir_fd=self._directory).st_size

    def read(self, name: str, offset: int = 0, size: int = -1) -> bytes:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=self._directory)
        with open(descriptor, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def append(self, name: str, data: bytes) -> None:
        descriptor = self._descriptor(name)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def truncate(self, name: str, size: int) -> None:
        descriptor = self._descriptor(name)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)

    def sync(self, name: str) -> None:
        if self._sync:
            os.fdatasync(self._descriptor(name))

    def publish(self, name: str, target: str) -> None:
        if self._sync:
            os.fsync(self._descriptor(name))
        self._forget(name)
        self._forget(target)
        os.rename(name, target, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        if self._sync:
            os.fsync(self._directory)

    def remove(self, name: str) -> None:
        self._forget(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)

    def close(self) -> None:
        for name in list(self._open):
            self._forget(name)
        os.close(self._directory)

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._open[name] = os.open(name, flags, 0o600, dir_fd=self._directory)
        return self._open[name]

    def _forget(self, name: str) -> None:
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)
