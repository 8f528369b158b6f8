"""The files of images on this member: where they are, and how new ones get there whole or not at all.

Owns the names `images/FP` and `images/FP.rootfs` and the check of fingerprints; refuses to know documents and HTTP."""

import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from lxdnode.node.errors import NodeError

_BLOCK = 1 << 20
"""Bytes that are hashed and written in one go by a thread: handing them over costs as much as 256 KiB of hashing."""
PARTS = ("metadata", "rootfs")
_SUFFIX = {"metadata": "", "rootfs": ".rootfs"}


@dataclass(frozen=True)
class Files:
    """The files of one image: `image` is the unified one or the metadata half, `rootfs` the other half if split."""

    image: Path
    rootfs: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.image.stat().st_size + (self.rootfs.stat().st_size if self.rootfs else 0)


def files_of(directory: Path, fingerprint: str) -> Files | None:
    """The files of an image in `directory`, or None when they are not (all) there."""
    image, rootfs = (directory / f"{fingerprint}{_SUFFIX[part]}" for part in PARTS)
    if not image.exists():
        return None
    return Files(image, rootfs if rootfs.exists() else None)


def remove(directory: Path, fingerprint: str) -> None:
    """Removes the files of an image; the one without which it counts as absent goes first."""
    for part in PARTS:
        (directory / f"{fingerprint}{_SUFFIX[part]}").unlink(missing_ok=True)


class Incoming:
    """An image that arrives: `await incoming.write("rootfs", chunk)` for each chunk in the order of the parts.

    async with incoming: ...; await incoming.finish(); incoming.publish()

    Blocks are hashed and written by a thread. What was not published is removed at the end of the block, or of a
    `received` block that fails: between the two the bytes wait for the operation that makes an image of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stem = f".incoming-{uuid.uuid4()}"
        self._hash = hashlib.sha256()
        self._open: dict[str, int] = {}
        self._waiting = bytearray()
        self._part = PARTS[0]
        directory.mkdir(mode=0o700, exist_ok=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all parts in order; complete after `finish`."""
        return self._hash.hexdigest()

    @property
    def files(self) -> Files:
        """Where the parts are until they are published."""
        return Files(self._path("metadata"), self._path("rootfs") if "rootfs" in self._open else None)

    def _path(self, part: str) -> Path:
        return self._directory / f"{self._stem}{_SUFFIX[part]}"

    @asynccontextmanager
    async def received(self) -> AsyncIterator[None]:
        """While bytes are taken in that are kept for later; they are removed when the block fails."""
        try:
            yield
        except BaseException:
            self.discard()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Removes what has arrived, unless it was published."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        for part in PARTS:
            self._path(part).unlink(missing_ok=True)

    async def write(self, part: str, chunk: bytes) -> None:
        """Takes the next bytes of a part."""
        if part != self._part:
            await self._flush()
            self._part = part
        self._waiting += chunk
        if len(self._waiting) >= _BLOCK:
            await self._flush()

    async def finish(self) -> Files:
        """Has all bytes on the disk; returns where they are."""
        await self._flush()
        for descriptor in self._open.values():
            await trio.to_thread.run_sync(os.fdatasync, descriptor)
        return self.files

    async def _flush(self) -> None:
        block, self._waiting = self._waiting, bytearray()
        try:
            await trio.to_thread.run_sync(self._write, self._part, block)
        except OSError as error:
            raise NodeError(f"the image cannot be kept in {self._directory}: {error.strerror}") from error

    def _write(self, part: str, block: bytearray) -> None:
        if part not in self._open:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._open[part] = os.open(self._path(part), flags, 0o644)
        self._hash.update(block)
        left = memoryview(block)
        while left:
            left = left[os.write(self._open[part], left) :]

    def check(self, expected: str) -> None:
        """Refuses what is not the image that was meant. NodeError with LXD's words."""
        if expected and self.fingerprint != expected:
            raise NodeError(f"fingerprints don't match, got {self.fingerprint} expected {expected}")

    def publish(self) -> Files:
        """Gives the files the names under which they are found; the root file system first, since the other one says
        that the image is there."""
        files = self.files
        for part in reversed(PARTS):
            if part in self._open:
                self._path(part).rename(self._directory / f"{self.fingerprint}{_SUFFIX[part]}")
        found = files_of(self._directory, self.fingerprint)
        assert found is not None, files
        return found


def sweep(directory: Path) -> None:
    """Removes what a former daemon left half received."""
    for path in directory.glob(".incoming-*"):
        path.unlink()
