"""Packs a container's volume into a unified image (spec/containers.md 11).

Owns the tool and its options; refuses to hash or to keep what comes out."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import IdMap
from lxdnode.drivers.images import owners
from lxdnode.drivers.images.metadata import NAME

_BLOCK = 1 << 20
_WORDS = 2000
_OPTIONS = ("--sort=name", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*")
# What tar adds to the files' own data by itself: its process id in names, and times of reading.
_PLAIN = ("--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")


async def pack(
    volume: Path,
    metadata: bytes,
    compressor: str,
    write: Callable[[bytes], Awaitable[None]],
    *,
    shifted: IdMap = (),
) -> None:
    """Gives an image of `volume` (a directory with `rootfs/`, perhaps `templates/`) to `write`, in blocks.

    `metadata`: the text of its metadata.yaml. `compressor`: a program on PATH that takes `-c`, or `none`. `shifted`:
    the map that the root file system is shifted by. Equal content gives equal bytes. DriverError with the tools'
    words."""
    words = os.memfd_create("stderr")
    try:
        with tempfile.TemporaryDirectory(prefix="lxd-node-") as scratch:
            mapped = await trio.to_thread.run_sync(owners.options, volume / "rootfs", shifted, Path(scratch))
            command = _command(volume, metadata, compressor, Path(scratch), mapped)
            code = await _stream(command, words, write)
        if code:
            text = os.pread(words, _WORDS, 0).decode(errors="replace").strip()
            raise DriverError(f"packing {volume} failed: {text or f'status {code}'}")
    finally:
        os.close(words)


def _command(volume: Path, metadata: bytes, compressor: str, scratch: Path, mapped: list[str]) -> list[str]:
    """tar's words; the metadata is laid out in `scratch`, since it may differ from the volume's own."""
    (scratch / NAME).write_bytes(metadata)
    os.utime(scratch / NAME, (0, 0))
    parts = [part for part in ("rootfs", "templates") if (volume / part).is_dir()]
    options = (*_compression(compressor), *_OPTIONS, *_PLAIN, *mapped)
    return ["tar", *options, "-cf", "-", "-C", str(scratch), NAME, "-C", str(volume), *parts]


async def _stream(argv: list[str], stderr: int, write: Callable[[bytes], Awaitable[None]]) -> int:
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, argv, stdout=subprocess.PIPE, stderr=stderr, check=False)
        process: trio.Process = await nursery.start(run)
        assert process.stdout is not None
        while block := await process.stdout.receive_some(_BLOCK):
            await write(bytes(block))
    assert process.returncode is not None
    return process.returncode


def is_compressor(name: str) -> bool:
    """Whether images can be compressed by a name: `none`, or a program of this host's PATH."""
    return name == "none" or ("/" not in name and " " not in name and shutil.which(name) is not None)


def _compression(compressor: str) -> tuple[str, ...]:
    if compressor == "none":
        return ()
    if not is_compressor(compressor):
        raise DriverError(f'exec: "{compressor}": executable file not found in $PATH')
    # Without -n gzip writes the time into its head.
    return ("-I", f"{compressor} -c -n" if compressor == "gzip" else f"{compressor} -c")
