"""The files of images as clients get them: one raw file, of which a part may be asked, or two as multipart.

Owns heads and ranges (spec/images.md 6); refuses to decide who may have them."""

import os
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from quart.wrappers import Response

from lxdnode.api.responses import raw
from lxdnode.drivers.images.formats import detect
from lxdnode.node.images.files import Files

_BLOCK = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def send(fingerprint: str, files: Files, wanted_range: str) -> Response:
    """The answer to an export. `wanted_range` is the Range header, "" for all of it."""
    if files.rootfs is not None:
        return await _multipart(fingerprint, files.image, files.rootfs)
    name = f"{fingerprint}{detect(files.image).extension}"
    return await send_file(files.image, {"Content-Disposition": f"inline;filename={name}"}, wanted_range)


async def send_file(path: Path, headers: dict[str, str], wanted_range: str = "") -> Response:
    """A file, or with a Range of one part that part."""
    file, size = await _open(path)
    found = part(wanted_range, size)
    return found.answer(_blocks(file, found.first, found.length), headers)


@dataclass(frozen=True)
class Part:
    """What is sent of a file of `size` bytes: `length` of them from `first` on, with the status 200 (all of it), 206,
    or 416 for a part that the file has not."""

    first: int
    length: int
    status: int
    size: int

    def answer(self, body: bytes | AsyncIterator[bytes], headers: dict[str, Any]) -> Response:
        """The answer with these bytes."""
        ranges = {206: f"bytes {self.first}-{self.first + self.length - 1}/{self.size}", 416: f"bytes */{self.size}"}
        named = {"Content-Range": ranges[self.status]} if self.status in ranges else {}
        response = raw(body, {"Accept-Ranges": "bytes", **headers, **named}, self.length)
        response.status_code = self.status
        return response


def part(wanted: str, size: int) -> Part:
    """What a Range header ("" for none) asks of a file; several ranges, and what is none, ask for all of it."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match.groups() == ("", ""):
        return Part(0, size, 200, size)
    first, last = _bounds(match[1], match[2], size)
    return Part(0, 0, 416, size) if first > last else Part(first, last + 1 - first, 206, size)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """The first and last byte of a range; `-N` is the last N bytes."""
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


async def _open(path: Path) -> tuple[Any, int]:
    """A file and its size. It is opened before the answer, so that one that is deleted meanwhile is sent whole."""
    file = await trio.open_file(path, "rb")
    return file, os.fstat(file.fileno()).st_size


async def _blocks(file: Any, start: int, length: int) -> AsyncIterator[bytes]:
    async with file:
        await file.seek(start)
        while length and (block := await file.read(min(_BLOCK, length))):
            length -= len(block)
            yield block


async def _multipart(fingerprint: str, metadata: Path, rootfs: Path) -> Response:
    """Both halves of a split image, the metadata first: the client's hash goes over them in this order."""
    boundary = uuid.uuid4().hex
    heads = [
        _head(boundary, "metadata", f"meta-{fingerprint}{detect(metadata).extension}"),
        b"\r\n" + _head(boundary, "rootfs", f"{fingerprint}{detect(rootfs).extension}"),
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()
    opened = [await _open(path) for path in (metadata, rootfs)]
    length = sum(map(len, heads)) + len(tail) + sum(size for _file, size in opened)

    async def body() -> AsyncIterator[bytes]:
        for head, (file, size) in zip(heads, opened, strict=True):
            yield head
            async for block in _blocks(file, 0, size):
                yield block
        yield tail

    return raw(body(), {}, length, f"multipart/form-data; boundary={boundary}")


def _head(boundary: str, part: str, filename: str) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
