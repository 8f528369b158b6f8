"""Snapshots of this member's containers: made, renamed, removed and restored (spec/containers.md 10).

Owns the order of document and volume, and what a daemon that died left half done; refuses to write the state of
processes (`checkpoints.py` does)."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.undo import Undo
from lxdnode.node.containers import checkpoints, rules, snapshot_rules
from lxdnode.node.containers.live import Live
from lxdnode.node.containers.records import CONTAINERS, STOPPED, Container
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError, NotFound

if TYPE_CHECKING:
    from lxdnode.node.containers.containers import Containers
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_INTENTS = "snapshots"
_NO_STATE = "Stateful snapshot restore requested by snapshot is stateless"


class Intent(msgspec.Struct):
    """A note of work on volumes that was begun, by the id of its snapshot. `names`: the old and the new one of a
    rename. `runs`: the container of a restore is to start again; `start`: its files are as before or back, and that is
    left.
    `stateful`: it starts with the processes of the snapshot."""

    work: Literal["rename", "restore", "start"]
    container: str
    names: tuple[str, str] = ("", "")
    runs: bool = False
    stateful: bool = False


class Snapshots:
    """Containers are given by id, snapshots by the second part of their name. Methods raise NodeError with LXD's
    words, or DriverError with the host's."""

    def __init__(self, node: "Node", containers: "Containers") -> None:
        self._node = node
        self._containers = containers

    async def create(self, container: str, name: str, stateful: bool, author: str) -> None:
        """Makes a snapshot of a container, running or not; "" is the next free name `snapN`."""
        await self._node.ready.wait()
        if stateful:
            self._check_state(container)
        id, volumes = str(uuid.uuid4()), self._node.storage.snapshots
        async with self._node.locks.hold(container, "snapshot"), Undo() as undo:
            name = name or snapshot_rules.next_name(self._node.store.view(), container)
            owner = self._owner(container)
            snapshot_rules.reserve(Draft(self._node.log.state), container, id, name)  # For its refusals.
            await volumes.check_free(owner.pool, owner.name, name)
            request = f"snapshot {owner.name}/{name}"
            await self._node.store.transact(
                lambda draft: snapshot_rules.reserve(draft, container, id, name, stateful=stateful),
                author=author,
                request=request,
            )
            undo.add("forget the snapshot", self._forget, container, id)
            undo.add("remove its volume", volumes.delete, owner.pool, owner.name, name)
            async with self._with_state(container, stateful):
                await volumes.create(owner.pool, owner.name, name)
            await self._node.store.transact(
                lambda draft: snapshot_rules.confirm(draft, container, id), author=author, request=request
            )

    def _check_state(self, container: str) -> Live:
        live = self._containers.host.live(container)
        if live is None:
            raise NodeError("Unable to create a stateful snapshot. The container isn't running.")
        checkpoints.require("Unable to create a stateful snapshot.")
        return live

    @asynccontextmanager
    async def _with_state(self, container: str, stateful: bool) -> AsyncIterator[None]:
        """The state of the processes is among the files in the block, and they stand still meanwhile."""
        if not stateful:
            yield
            return
        async with self._containers.host.checkpoints.written(container, self._check_state(container), stop=False):
            yield

    async def rename(self, container: str, name: str, new: str, author: str) -> None:
        """Gives a snapshot another name."""
        async with self._node.locks.hold(container, "rename a snapshot"), Undo() as undo:
            owner, id = self._owner(container), self._find(container, name)
            snapshot_rules.rename(Draft(self._node.log.state), container, id, new)  # For its refusals.
            self._node.notes.put(_INTENTS, id, Intent("rename", container, (name, new)))
            undo.add("remove the intent", self._done, id)
            undo.add(f"name it {name} again", self._rename_volume, owner, new, name)
            await self._rename_volume(owner, name, new)
            await self._node.store.transact(
                lambda draft: snapshot_rules.rename(draft, container, id, new),
                author=author,
                request=f"rename snapshot {owner.name}/{name}",
            )
        self._done(id)

    async def _rename_volume(self, owner: Container, old: str, new: str) -> None:
        await self._node.storage.snapshots.rename(owner.pool, (owner.name, old), (owner.name, new))

    async def delete(self, container: str, name: str, author: str) -> None:
        """Removes a snapshot."""
        async with self._node.locks.hold(container, "delete a snapshot"):
            owner, id = self._owner(container), self._find(container, name)
            await self._node.store.transact(
                lambda draft: snapshot_rules.condemn(draft, container, id),
                author=author,
                request=f"delete snapshot {owner.name}/{name}",
            )
            await self._node.storage.snapshots.delete(owner.pool, owner.name, name)
            await self._forget(container, id)

    async def restore(self, container: str, name: str, stateful: bool, author: str) -> None:
        """Makes a container, files and configuration, what its snapshot is. One that runs is killed, and started
        again; when the files cannot be put back it stays stopped, with what came until then. `stateful`: its processes
        are those of the snapshot, and run."""
        await self._node.ready.wait()
        async with self._containers.exclusive(container, "restore"):
            owner = self._owner(container)
            name = name.removeprefix(f"{owner.name}/")
            try:
                id = self._find(container, name)
            except NotFound:
                raise NodeError(f"snapshot {owner.name}/{name} does not exist") from None
            if stateful and not snapshot_rules.get(self._node.store.view(), container, id).stateful:
                raise NodeError(_NO_STATE)
            if stateful:
                checkpoints.require("Failed to restore container state.")
            rules.restore_snapshot(Draft(self._node.log.state), container, id, self._containers.place)
            runs = self._containers.host.live(container) is not None
            intent = Intent("start", container, runs=runs or stateful, stateful=stateful)
            try:
                if runs:
                    self._node.notes.put(_INTENTS, id, intent)
                async with self._containers.stopped(container, stateful=stateful):
                    self._node.notes.put(_INTENTS, id, msgspec.structs.replace(intent, work="restore"))
                    await self._put_back(container, id, author, stateful)
                    self._node.notes.put(_INTENTS, id, intent)
            except (DriverError, NodeError):
                self._done(id)  # Not when the daemon ends in between: its successor finishes it.
                raise
            self._done(id)

    async def _put_back(self, container: str, id: str, author: str, stateful: bool) -> None:
        view = self._node.store.view()
        owner, snapshot = self._owner(container), snapshot_rules.get(view, container, id)
        await self._node.storage.snapshots.restore(owner.pool, owner.name, snapshot.name)
        self._containers.host.owners.forget(container)
        if not stateful:
            await self._containers.host.checkpoints.forget(container)
        await self._node.store.transact(
            lambda draft: rules.restore_snapshot(draft, container, id, self._containers.place, stateful=stateful),
            author=author,
            request=f"restore snapshot {owner.name}/{snapshot.name}",
        )

    # What a daemon that died has left.

    async def finish(self) -> None:
        """Ends renames and restores that were begun, removes snapshots that are half made or half gone."""
        for id, intent in list(self._node.notes.all(_INTENTS, Intent)):
            try:
                await self._finish_intent(id, intent)
            except (DriverError, NodeError) as error:
                log.error("work of a former daemon is still unfinished", snapshot=id, error=str(error))
            else:
                self._done(id)
        for container, owner, id, snapshot in list(
            snapshot_rules.unfinished(self._node.store.view(), self._node.member)
        ):
            try:
                await self._node.storage.snapshots.delete(owner.pool, owner.name, snapshot.name)
                await self._forget(container, id)
            except (DriverError, NodeError) as error:
                log.error("snapshot still unfinished", name=f"{owner.name}/{snapshot.name}", error=str(error))

    async def _finish_intent(self, id: str, intent: Intent) -> None:
        try:
            owner = self._owner(intent.container)
            snapshot = snapshot_rules.get(self._node.store.view(), intent.container, id)
        except NotFound:
            return
        if intent.work == "rename":
            old, new = intent.names
            await self._rename_volume(owner, new if snapshot.name == old else old, snapshot.name)
            return
        author = f"member:{self._node.member}"
        if intent.work == "restore":
            await self._put_back(intent.container, id, author, intent.stateful)
        if intent.runs and self._containers.host.live(intent.container) is None:  # It starts with the daemon then.
            await self._node.store.transact(
                lambda draft: rules.transition(draft, intent.container, STOPPED, last_state__power="RUNNING"),
                author=author,
                request="start again after a restore",
            )

    def _done(self, id: str) -> None:
        self._node.notes.delete(_INTENTS, id)

    async def _forget(self, container: str, id: str) -> None:
        await self._node.store.transact(
            lambda draft: snapshot_rules.forget(draft, container, id),
            author=f"member:{self._node.member}",
            request="forget snapshot",
        )

    def _owner(self, container: str) -> Container:
        found = self._node.store.view().get(CONTAINERS, container)
        if found is None:
            raise NotFound
        return found

    def _find(self, container: str, name: str) -> str:
        return snapshot_rules.find(self._node.store.view(), container, name)[0]
