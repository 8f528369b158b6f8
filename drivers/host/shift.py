"""Changes the owners of a whole tree from one id map to another, where the kernel cannot map them by the mount.

Owns modes that a change of owner would lose (set-user-id); refuses to run in the daemon's loop: call it from a
worker thread. ACLs keep their ids."""

import os
import stat
from pathlib import Path

from lxdnode.drivers.host.idmap import IdMap, to_container, to_host


def shift(root: Path, old: IdMap, new: IdMap) -> None:
    """Gives every file below `root` (and `root`) the host ids that `new` has for what `old` shows. OSError.

    Repeating it after a crash is not safe: the caller keeps record of what is on disk."""
    for _, directories, files, descriptor in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            _move(name, descriptor, old, new)
    parent = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _move(root.name, parent, old, new)
    finally:
        os.close(parent)


def _move(name: str, directory: int, old: IdMap, new: IdMap) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    uid, gid = to_host(new, *to_container(old, found.st_uid, found.st_gid))
    os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    if found.st_mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(found.st_mode):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=directory)
