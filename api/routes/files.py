"""/1.0/containers/NAME/files: files of running and stopped containers (spec/rest.md 4.4).

Owns the headers and the streaming; what a path may reach is `drivers/runtime/files.py`'s."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote

import trio
from quart.wrappers import Response

from lxdnode.api.downloads import part
from lxdnode.api.responses import empty, raw, sync
from lxdnode.api.route import Call, route
from lxdnode.api.routes.containers import find_here
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.files import Attributes, Root, Status
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.files import open_root
from lxdnode.node.errors import Invalid, NodeError, NotFound

_CHUNK = 2**20
"""Bytes that one turn of a thread reads or writes: 256 KiB cost a third of the rate."""
_UNSIZED = 64 * 2**20
"""Most bytes that are read of a file without a size."""
T = TypeVar("T")


@route("GET", "/1.0/containers/<name>/files")
async def read_file(call: Call) -> Response:
    """A file as it is, a link's target, or the names in a directory."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    path = _path(call)
    try:
        status, content = await _in_root(call, here, lambda root: _read(root, path))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound from None
    headers = _headers(status)
    if isinstance(content, list):
        response = sync([os.fsencode(name).decode(errors="replace") for name in content])
        response.headers.extend(headers)
        return response
    name = quote(PurePosixPath(path).name)
    headers["Content-Disposition"] = f"inline;filename={name}"
    if isinstance(content, str):
        return raw(os.fsencode(content) + b"\n", headers)
    found = part(call.headers.get("Range", ""), len(content) if isinstance(content, bytes) else status.size)
    if isinstance(content, bytes):
        return found.answer(content[found.first : found.first + found.length], headers)
    return found.answer(_stream(content, found.first, found.length), headers)


def _read(root: Root, path: str) -> tuple[Status, list[str] | str | bytes | int]:
    """What is at a path: names, a link's target, the bytes of a small file, or a descriptor of a large one. The kernel
    gives its own files (/proc) no size: they are read until they end."""
    status = root.status(path)
    if status.type == "directory":
        return status, root.list(path)
    if status.type == "symlink":
        return status, root.read_link(path)
    descriptor, status = root.open(path)
    if status.size > _CHUNK:
        return status, descriptor
    with open(descriptor, "rb") as file:
        return status, file.read(status.size or _UNSIZED) or b""


async def _stream(descriptor: int, first: int, size: int) -> AsyncIterator[bytes]:
    """Exactly `size` bytes of a file from `first` on, as the head promised; one that shrinks meanwhile ends the
    connection."""
    try:
        os.lseek(descriptor, first, os.SEEK_SET)
        while size:
            data = await trio.to_thread.run_sync(os.read, descriptor, min(size, _CHUNK))
            if not data:
                raise NodeError("the file became shorter while it was read")
            size -= len(data)
            yield data
    finally:
        os.close(descriptor)


@route("POST", "/1.0/containers/<name>/files")
async def write_file(call: Call) -> Response:
    """Writes or makes a file, a directory or a link."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    path, attributes = _path(call), _attributes(call)
    kind, write = call.headers.get("X-LXD-type", "") or "file", call.headers.get("X-LXD-write", "") or "overwrite"
    if write not in ("overwrite", "append"):
        raise Invalid(f"Bad file write mode: {write}")
    try:
        if kind == "file":
            await _write(call, here, path, attributes, write == "append")
        elif kind == "directory":
            await _in_root(call, here, lambda root: root.make_directory(path, attributes))
        elif kind == "symlink":
            target = (await call.body()).decode()
            await _in_root(call, here, lambda root: root.make_link(path, target, attributes))
        else:
            raise Invalid(f"Bad file type: {kind}")
    except (FileNotFoundError, NotADirectoryError):
        raise NodeError("file does not exist") from None
    except IsADirectoryError:
        raise NodeError("Path already exists as a directory") from None
    return empty()


async def _write(call: Call, here: Expanded, path: str, attributes: Attributes, append: bool) -> None:
    """Streams the body into a file. One that comes in one piece costs one turn of a thread."""
    pieces = _pieces(call.stream())
    first = await anext(pieces)

    def begin(root: Root) -> int:
        descriptor = root.create(path, attributes, append)
        _write_all(descriptor, first)
        return descriptor

    descriptor = await _in_root(call, here, begin)
    try:
        async for piece in pieces:
            await trio.to_thread.run_sync(_write_all, descriptor, piece)
    finally:
        os.close(descriptor)


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks in pieces of about 1 MiB; at least one, which may be empty."""
    piece = bytearray()
    async for chunk in chunks:
        piece += chunk
        if len(piece) >= _CHUNK:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@route("DELETE", "/1.0/containers/<name>/files", extension="file_delete")
async def delete_file(call: Call) -> Response:
    """Removes a file, a link or an empty directory."""
    here = await find_here(call)
    if isinstance(here, Response):
        return here
    path = _path(call)
    try:
        await _in_root(call, here, lambda root: root.delete(path))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound from None
    return empty()


async def _in_root(call: Call, here: Expanded, work: Callable[[Root], T]) -> T:
    """Does `work` with the container's files in a thread. NodeError with the host's words."""

    def do() -> T:
        with open_root(call.node, here.id) as root:
            return work(root)

    try:
        return await trio.to_thread.run_sync(do)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        raise NodeError(f"{error.filename}: {error.strerror}") from None
    except DriverError as error:
        raise NodeError(str(error)) from None


def _path(call: Call) -> str:
    path = call.query.get("path", "")
    if not path:
        raise Invalid("missing path argument")
    if "\0" in path:
        raise Invalid("the path holds a zero byte")
    return path


def _headers(status: Status) -> dict[str, Any]:
    return {
        "X-LXD-uid": str(status.uid),
        "X-LXD-gid": str(status.gid),
        "X-LXD-mode": f"{status.mode:04o}",
        "X-LXD-type": status.type,
    }


def _attributes(call: Call) -> Attributes:
    """Owner and mode of the request; what is not a number counts as absent. A mode is octal only with a leading 0."""

    def parse(name: str) -> int | None:
        text = call.headers.get(name, "")
        if not text.isdecimal():
            return None
        try:
            return int(text, 8 if name == "X-LXD-mode" and text.startswith("0") else 10)
        except ValueError:
            return None

    return Attributes(parse("X-LXD-uid"), parse("X-LXD-gid"), parse("X-LXD-mode"))
