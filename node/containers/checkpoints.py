"""The state of a container's processes, kept beside its files (spec/containers.md 4 and 10; CRIU).

Owns where it lies, what stands still meanwhile, and what a daemon that died in between left; refuses to know what it
is kept for: a stop or a snapshot (`containers.py` and `snapshots.py`)."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime import checkpoint
from lxdnode.drivers.storage import tree
from lxdnode.node.containers import rules
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.live import Live
from lxdnode.node.containers.records import CONTAINERS, STOPPED
from lxdnode.node.durable import sync_folder
from lxdnode.node.errors import NodeError

if TYPE_CHECKING:
    from lxdnode.node.containers.host import Host
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_INTENTS = "checkpoints"
FOLDER = "state"
"""Of a container's volume."""


class Intent(msgspec.Struct):
    """A note of a state that is being written, by the id of its container. `ends`: all of it is on the disk, and the
    container ends next."""

    ends: bool = False


def require(words: str) -> None:
    """NodeError with `words` where there is no CRIU."""
    if not checkpoint.is_installed():
        raise NodeError(f"{words} CRIU isn't installed.")


class Checkpoints:
    """Containers are given by id. Methods raise DriverError with CRIU's words."""

    def __init__(self, node: "Node", host: "Host") -> None:
        self._node = node
        self._host = host

    def folder(self, id: str) -> Path:
        """Where the state of a container's processes is, if it is kept."""
        return self._host.volume(expand(self._node.store.view(), id)) / FOLDER

    async def forget(self, id: str) -> None:
        """Removes the state; nothing when there is none."""
        folder = self.folder(id)
        if folder.exists() or folder.is_symlink():
            await tree.remove(folder)

    @asynccontextmanager
    async def written(self, id: str, live: Live, *, stop: bool) -> AsyncIterator[None]:
        """Writes the state of a container that runs. Its processes stand still within the block. After it they go on
        and the state goes, or they end and it stays (`stop`; `done` follows). When anything fails, or this daemon ends,
        they go on, and no state stays."""
        await self.forget(id)
        folder = self.folder(id)
        paths, intent = self._host.paths(live.running.name), Intent()
        self._node.notes.put(_INTENTS, id, intent)
        try:
            async with self._host.runtime.dumped(live.running.name, paths.configuration, folder, paths.devices, stop):
                yield
                if stop:
                    await trio.to_thread.run_sync(_sync, folder)
                    self._node.notes.put(_INTENTS, id, Intent(ends=True))
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._keep_log, id, "dump")
                await self.forget(id)
            self.done(id)
            if isinstance(error, DriverError):
                raise DriverError(f"snapshot dump failed\n{error}") from None
            raise
        if not stop:
            await self.forget(id)
            self.done(id)

    def _keep_log(self, id: str, work: str) -> None:
        """Leaves CRIU's log of what failed where clients find it."""
        log_file, logs = self.folder(id) / f"{work}.log", self._host.paths(self._name(id)).logs
        if log_file.exists():
            kept = logs / f"snapshot_{work}_{time.strftime('%Y-%m-%dT%H:%M:%S')}.log"
            kept.write_bytes(log_file.read_bytes())

    def _name(self, id: str) -> str:
        return expand(self._node.store.view(), id).name

    def done(self, id: str) -> None:
        """What was begun has ended."""
        self._node.notes.delete(_INTENTS, id)

    async def finish(self) -> None:
        """Completes stops that a daemon of before has begun, and removes states that are half written."""
        for id, intent in list(self._node.notes.all(_INTENTS, Intent)):
            try:
                await self._finish(id, intent)
            except (DriverError, NodeError) as error:
                log.error("work of a former daemon is still unfinished", container=id, error=str(error))
            else:
                self.done(id)

    async def _finish(self, id: str, intent: Intent) -> None:
        if self._node.store.view().get(CONTAINERS, id) is None:
            return
        if self._host.live(id) is not None or not intent.ends:
            await self.forget(id)
            return
        await self._node.store.transact(
            lambda draft: rules.transition(draft, id, STOPPED, stateful=True, last_state__power="STOPPED"),
            author=f"member:{self._node.member}",
            request="stopped with its state",
        )


def _sync(folder: Path) -> None:
    """Sees to it that a power cut leaves all of a state."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
    sync_folder(folder.parent)
