"""Trees of files, as every driver without snapshots of its own copies and removes them (spec/storage.md 8).

Owns the options of cp, rsync and rm; refuses to know pools."""

from pathlib import Path

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError

_OPTIONS = ("-a", "-HAX", "--sparse", "--devices", "--delete", "--checksum", "--numeric-ids")
_FILL = ("-dR", "--preserve=mode,ownership,timestamps,links,xattr", "--reflink=auto")
_VANISHED = "(code 24)"


async def fill(source: Path, target: Path, *, limit: str = "") -> None:
    """As `copy`, for a `target` that is empty: cp takes 60 ms for 300 files, rsync 90. What cp cannot do (a file
    vanished, an attribute that the target does not take), rsync finishes, or says why not."""
    if limit not in ("", "0"):
        await copy(source, target, limit=limit)
        return
    try:
        await run("cp", *_FILL, f"{source}/.", f"{target}/")
    except DriverError:
        await copy(source, target)


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
