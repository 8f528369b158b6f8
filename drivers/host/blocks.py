"""The block devices of this host: which whole disk is behind a path.

Owns the ways of /sys and of mounts; refuses to know what a limit on one means (`limits.py` does)."""

import os
from pathlib import Path

from lxdnode.drivers.errors import DriverError

_SYSTEM = Path("/sys/dev/block")


def disk_of(path: Path) -> str:
    """`MAJOR:MINOR` of the disk on which a path lies, or that it is; of a partition its disk. DriverError for a file
    system without a disk of its own (tmpfs, overlay, ZFS)."""
    number = path.stat().st_rdev if path.is_block_device() else path.stat().st_dev
    if os.major(number) == 0:  # btrfs gives each subvolume a number of its own.
        source = _mounted_source(path)
        if source is None or not source.is_block_device():
            raise DriverError(f"Block device doesn't support quotas: {os.major(number)}:{os.minor(number)}")
        number = source.stat().st_rdev
    entry = _SYSTEM / f"{os.major(number)}:{os.minor(number)}"
    if (entry / "partition").exists():
        return (entry.resolve().parent / "dev").read_text().strip()
    return entry.name


def _mounted_source(path: Path) -> Path | None:
    """What is mounted where a path lies."""
    best, found = -1, None
    resolved = path.resolve()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), Path(after.split()[1])
    return found
