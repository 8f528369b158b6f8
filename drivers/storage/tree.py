"""Trees of files, as every driver without snapshots of its own copies and removes them (spec/storage.md 8).

Owns the options of rsync and rm; refuses to know pools."""

from pathlib import Path

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError

_OPTIONS = ("-a", "-HAX", "--sparse", "--devices", "--delete", "--checksum", "--numeric-ids")
_VANISHED = "(code 24)"


async def copy(source: Path, target: Path, *, limit: str = "") -> None:
    """Makes `target` (a directory that exists) equal to `source`; `limit` is `rsync.bwlimit` of the source's pool.

    Files that vanish meanwhile are no failure: the source may be a container that runs."""
    try:
        await run("rsync", *_OPTIONS, "--bwlimit", limit or "0", f"{source}/", f"{target}/")
    except DriverError as error:
        if _VANISHED not in str(error):
            raise


async def remove(path: Path) -> None:
    """Removes a tree; nothing when there is none. What is mounted in it is left alone, and then is an error."""
    await run("rm", "-rf", "--one-file-system", "--", path)
