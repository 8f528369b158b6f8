"""Owners of files as a container sees them, for a tar of a tree whose owners are shifted on the disk.

Owns the maps that tar reads; refuses to change any file. Blocks: call it from a worker thread."""

import os
from collections.abc import Iterable
from pathlib import Path

from lxdnode.drivers.host.idmap import IdMap, to_container


def options(root: Path, entries: IdMap, scratch: Path) -> list[str]:
    """tar's options that store the owners below `root` as the container of `entries` sees them; none when nothing is
    shifted. The maps are written into `scratch`. tar takes no ranges, so that every owner that occurs is named."""
    if not entries:
        return []
    users, groups = _owners(root)
    kinds = {
        "owner": {uid: to_container(entries, uid, 0)[0] for uid in users},
        "group": {gid: to_container(entries, 0, gid)[1] for gid in groups},
    }
    for kind, found in kinds.items():
        (scratch / kind).write_text("".join(f"+{old} +{new}\n" for old, new in sorted(found.items())))
    return [f"--{kind}-map={scratch / kind}" for kind in kinds]


def _owners(root: Path) -> tuple[set[int], set[int]]:
    """All users and groups that own something below `root`."""
    users, groups = set(), set()
    for _, directories, files, descriptor in os.fwalk(root, follow_symlinks=False):
        found = [os.fstat(descriptor), *_statuses(descriptor, (*directories, *files))]
        users |= {status.st_uid for status in found}
        groups |= {status.st_gid for status in found}
    return users, groups


def _statuses(directory: int, names: Iterable[str]) -> Iterable[os.stat_result]:
    return (os.stat(name, dir_fd=directory, follow_symlinks=False) for name in names)
