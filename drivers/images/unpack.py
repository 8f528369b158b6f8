"""Unpacks an image into a directory: `metadata.yaml`, `templates/` and `rootfs/` (spec/images.md 1).

Owns which tool unpacks which format and what its failure means; refuses to shift owners or to know storage."""

import os
from pathlib import Path

import trio

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images.formats import detect
from lxdnode.drivers.images.inflate import inflate

_DEVICES = tuple(f"--exclude={path}" for path in ("dev/*", "./dev/*", "rootfs/dev/*", "./rootfs/dev/*"))


async def unpack(image: Path, target: Path, *, rootfs: Path | None = None) -> None:
    """Unpacks a unified image, or with `rootfs` the two halves of a split one, into the directory `target`.

    Owners, modes, ACLs and extended attributes are kept by number. DriverError with LXD's words; what was
    unpacked until then stays, for the caller to remove."""
    await _extract(image, target)
    root = target / "rootfs"
    if rootfs is not None:
        _make_root(root, image)
        await _extract(rootfs, root)
    if root.is_symlink() or not root.is_dir():
        raise DriverError(f"Image is missing a rootfs: {image}")


def _make_root(root: Path, image: Path) -> None:
    """A metadata half may bring an empty `rootfs/`, but not a link through which the root half would be written."""
    try:
        root.mkdir(mode=0o755, exist_ok=True)
    except FileExistsError:
        raise DriverError(f"Unsupported image format: {image} has a rootfs that is no directory") from None
    if root.is_symlink():
        raise DriverError(f"Unsupported image format: {image} has a rootfs that is a link")


async def _extract(archive: Path, target: Path) -> None:
    try:
        kind = detect(archive)
        if kind.squashfs:
            await run("unsquashfs", "-f", "-n", "-d", target, archive)
        else:
            excluded = _DEVICES if _in_user_namespace() else ()
            attributes = ("--acls", "--xattrs", "--xattrs-include=*")
            plain = await trio.to_thread.run_sync(inflate, archive) if kind.extension == ".tar.gz" else None
            source, option = (plain.path, "--no-auto-compress") if plain else (archive, kind.tar)
            await run("tar", option, "--numeric-owner", "-p", *attributes, *excluded, "-C", target, "-xf", source)
    except DriverError as error:
        raise await _explain(error, archive, target) from None


async def _explain(error: DriverError, archive: Path, target: Path) -> DriverError:
    space = await trio.to_thread.run_sync(os.statvfs, target)
    if space.f_bfree < 2:
        return DriverError("Unable to unpack image, run out of disk space.")
    return DriverError(f"Unpack failed, {error}.  {archive}")


def _in_user_namespace() -> bool:
    """Whether this daemon runs in a container, where no device node can be made."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
