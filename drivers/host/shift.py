"""Changes the owners of a whole tree from one id map to another, where the kernel cannot map them by the mount.

Owns modes that a change of owner would lose (set-user-id); refuses to run in the daemon's loop: call it from a
worker thread. ACLs keep their ids."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lxdnode.drivers.host.idmap import IdMap, holds, to_container, to_host


def shift(root: Path, old: IdMap, new: IdMap, *, resumed: bool = False) -> None:
    """Gives every file below `root` (and `root`) the host ids that `new` has for what `old` shows. OSError.

    `resumed`: it was begun before and broken off. Then one of the maps must be the empty one: what was done is told by
    its ids."""
    linked: set[int] = set()
    for name, directory in _below(root):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in linked:  # By another of its names.
                continue
            linked.add(found.st_ino)
        if not resumed or not _is_done(found.st_uid, old, new):
            _move(name, directory, found, old, new)


def _below(root: Path) -> Iterator[tuple[str, int]]:
    """(name, descriptor of its directory) of everything, the root last."""
    for _, directories, files, descriptor in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            yield name, descriptor
    parent = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root.name, parent
    finally:
        os.close(parent)


def _is_done(uid: int, old: IdMap, new: IdMap) -> bool:
    return holds(new, uid) if new else not holds(old, uid)


def _move(name: str, directory: int, found: os.stat_result, old: IdMap, new: IdMap) -> None:
    uid, gid = to_host(new, *to_container(old, found.st_uid, found.st_gid))
    os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    if found.st_mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=directory)
