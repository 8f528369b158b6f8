"""A volume between two servers by rsync, over any stream of bytes both ways (spec/migration.md 5).

Owns the options of both sides, which are part of LXD's protocol; refuses to know what carries the bytes."""

import os
import subprocess
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import trio

from lxdnode.drivers.errors import DriverError

_BLOCK = 128 * 1024
_WORDS = 2000
_SENDER = ("-ar", "--devices", "--numeric-ids", "--partial", "--sparse")
_RECEIVER = ("--server", "-vlogDtpre.iLsfx", "--numeric-ids", "--devices", "--partial", "--sparse")
_FEATURES = {
    "xattrs": ("--xattrs", "--filter=-x security.selinux"),
    "delete": ("--delete",),
    "compress": ("--compress", "--compress-level=2"),
}
FEATURES = frozenset(_FEATURES)
"""What two sides may agree upon; both must have the same."""
_VANISHED = 24
"""rsync's status when files went away while it read: the container runs."""


class Duplex(Protocol):
    """The connection to the other rsync. `receive` gives b"" once the other side has ended its direction, `finish`
    ends ours."""

    async def receive(self) -> bytes: ...
    async def send(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...


async def send(volume: Path, connection: Duplex, *, features: Collection[str] = ()) -> None:
    """Sends the content of a volume. DriverError with rsync's words. rsync.bwlimit is not for this: it holds where two
    servers differ in their native way (spec/migration.md 5)."""
    inside, outside = os.pipe(), os.pipe()
    # rsync starts its "remote shell", which joins it with our two pipes (dash knows no two-digit descriptors). It ends
    # with what comes from the other side, since rsync waits for its end before it closes what goes there.
    joined = f"bash -c 'cat <&0 >&{outside[1]} {inside[0]}<&- & exec cat <&{inside[0]} {outside[1]}>&-'"
    argv = [
        "rsync",
        *_SENDER,
        *_options(features),
        "--bwlimit",
        "0",
        f"{volume}/",
        "localhost:/tmp/foo",
        "-e",
        joined,
    ]
    ours = (inside[0], outside[1])
    to_rsync, from_rsync = trio.lowlevel.FdStream(inside[1]), trio.lowlevel.FdStream(outside[0])
    with _words() as words:
        try:
            process = await trio.lowlevel.open_process(
                argv, pass_fds=ours, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words
            )
        finally:
            for descriptor in ours:
                os.close(descriptor)
        await _join(process, to_rsync, from_rsync, connection)
        _check(process, words, f"sending {volume}", allowed=(0, _VANISHED))


async def receive(volume: Path, connection: Duplex, *, features: Collection[str] = ()) -> None:
    """Fills a volume with what the other side sends. DriverError with rsync's words; what came until then stays."""
    with _words() as words:
        process = await trio.lowlevel.open_process(
            ["rsync", *_RECEIVER, *_options(features), ".", f"{volume}/"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
        )
        assert process.stdin is not None and process.stdout is not None
        await _join(process, process.stdin, process.stdout, connection)
        _check(process, words, f"receiving {volume}", allowed=(0,))


def _options(features: Collection[str]) -> list[str]:
    return [option for feature, options in _FEATURES.items() if feature in features for option in options]


async def _join(
    process: trio.Process, to_rsync: trio.abc.SendStream, from_rsync: trio.abc.ReceiveStream, connection: Duplex
) -> None:
    """Copies both ways until both directions have ended, and rsync with them; it is killed when anything fails."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_feed, connection.receive, to_rsync)
            while data := await from_rsync.receive_some(_BLOCK):
                await connection.send(bytes(data))
            await connection.finish()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await trio.aclose_forcefully(to_rsync)
            await trio.aclose_forcefully(from_rsync)


async def _feed(read: Callable[[], Awaitable[bytes]], to_rsync: trio.abc.SendStream) -> None:
    """What comes goes to rsync; once that has ended, what still comes is read all the same, up to its end."""
    while data := await read():
        with suppress(trio.BrokenResourceError):
            await to_rsync.send_all(data)
    await to_rsync.aclose()


def _words() -> BinaryIO:
    """A file in memory for what rsync says."""
    return os.fdopen(os.memfd_create("stderr"), "rb")


def _check(process: trio.Process, words: BinaryIO, what: str, allowed: tuple[int, ...]) -> None:
    text = os.pread(words.fileno(), _WORDS, 0).decode(errors="replace").strip()
    if process.returncode not in allowed:
        raise DriverError(f"{what} failed: {text or f'rsync ended with status {process.returncode}'}")
