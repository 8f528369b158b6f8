"""Logs of containers that have had their time (spec/containers.md 8).

Owns how long they stay; refuses what is no log: only files in a container's own directory of logs go."""

import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from lxdnode.node.containers.records import CONTAINERS

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)

_HOUR = 3600.0
_EVERY = 24 * _HOUR
_UNCHANGED = 48 * _HOUR
_UNKNOWN = 24 * _HOUR
_KEPT = "lxc.conf"


async def keep(node: "Node") -> None:
    """Removes once a day what is too old, until cancelled."""
    while True:
        known = {one.name for _, one in node.store.view().all(CONTAINERS) if one.member == node.member}
        await trio.to_thread.run_sync(expire, node.directory / "logs", known, time.time())
        await trio.sleep(_EVERY)


def expire(logs: Path, known: Collection[str], now: float) -> None:
    """Removes the files that nobody has written for 48 hours, but lxc.conf, and after 24 hours the directories of
    containers that are not `known`. `now`: Unix time."""
    for folder in logs.iterdir() if logs.is_dir() else ():
        if folder.is_dir() and not folder.is_symlink():
            try:
                _expire(folder, folder.name in known, now)
            except FileNotFoundError:
                continue  # Renamed or removed meanwhile.
            except OSError as error:  # No log is worth the daemon.
                log.warning("old logs stay", directory=str(folder), error=str(error))


def _expire(folder: Path, known: bool, now: float) -> None:
    if not known and _last_change(folder) < now - _UNKNOWN:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for file in folder.iterdir():
        if file.name != _KEPT and file.is_file() and file.lstat().st_mtime < now - _UNCHANGED:
            file.unlink(missing_ok=True)


def _last_change(folder: Path) -> float:
    """When a directory, or a file in it, was written last."""
    return max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
