"""A volume as a stream of bytes, from the member that has it to the one that gets it.

Owns the tools and that half a stream is an error on both sides; refuses to know who they are."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from lxdnode.drivers.errors import DriverError

_BLOCK = 1 << 20
_WORDS = 2000
_ATTRIBUTES = ("--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*")


async def send(volume: Path) -> AsyncIterator[bytes]:
    """All of a volume, its own mode and owners included, in blocks. DriverError with tar's words, perhaps after many
    of them."""
    argv = ["tar", "--format=posix", "--sparse", *_ATTRIBUTES, "-cf", "-", "-C", str(volume), "."]
    async with _running(argv, f"sending {volume}", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while block := await process.stdout.receive_some(_BLOCK):
            yield bytes(block)


async def receive(chunks: AsyncIterator[bytes], volume: Path) -> None:
    """Fills a volume (an empty directory) with what `send` gave. DriverError with tar's words; what came until then
    stays, for the caller to remove."""
    argv = ["tar", "-p", *_ATTRIBUTES, "-xf", "-", "-C", str(volume)]
    async with _running(argv, f"receiving {volume}", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            async for chunk in chunks:
                await process.stdin.send_all(chunk)
        except trio.BrokenResourceError:
            pass  # tar has ended, and its status says why.
        await process.stdin.aclose()


@asynccontextmanager
async def _running(
    argv: list[str], what: str, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL
) -> AsyncIterator[trio.Process]:
    """A tool that must end well after the block; it is killed when the block fails."""
    words = os.memfd_create("stderr")
    process = await trio.lowlevel.open_process(argv, stdin=stdin, stdout=stdout, stderr=words)
    try:
        yield process
        if await process.wait():
            text = os.pread(words, _WORDS, 0).decode(errors="replace").strip()
            raise DriverError(f"{what} failed: {text}")
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                await trio.aclose_forcefully(stream)
        os.close(words)
