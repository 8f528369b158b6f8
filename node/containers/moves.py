"""Containers that move to another member: this one's data sent, another one's fetched (spec/clustering.md 8).

Owns the order of data and document on both sides, and what a break in between leaves: data are removed only by who
knows, from the document, that the container is not its own. Refuses containers that run."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec
import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import stream
from lxdnode.drivers.storage.volume import Kind, Volume
from lxdnode.drivers.undo import Undo
from lxdnode.node.containers import move_rules
from lxdnode.node.containers.data import Data
from lxdnode.node.containers.records import BACKUPS, CONTAINERS, KIND, Container
from lxdnode.node.errors import NodeError, NotFound, Unavailable

if TYPE_CHECKING:
    from lxdnode.node.containers.containers import Containers
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_INTENTS = "moves"
_RETRY = 2.0
"""Seconds between two looks at how a move has ended, while there is no quorum."""


class Intent(msgspec.Struct):
    """A note of data of a container (its id) that are here, and that go when it is another member's in the end."""

    side: Literal["send", "receive"]
    pool: str
    name: str
    snapshots: list[str]
    backups: list[str] = []


class Request(msgspec.Struct):
    """What the old member asks of the new one: to fetch a container's data from it, and to take it over."""

    member: int
    name: str
    operation: str


class Moves:
    """Containers are given by id. Methods raise NodeError, or DriverError with the host's words."""

    def __init__(self, node: "Node", containers: "Containers", data: Data) -> None:
        self._node = node
        self._containers = containers
        self._data = data
        self._nursery: trio.Nursery

    # The old member.

    async def send(self, id: str, target: int, name: str, operation: str, author: str) -> None:
        """Moves a stopped container of this member to another one, under the same or another name."""
        await self._node.ready.wait()
        async with self._containers.exclusive(id, "move"):
            if self._containers.host.live(id) is not None:
                raise NodeError("Container is running")
            container, backups = self._get(id), [one for one, _ in self._node.store.view().all(BACKUPS, id)]
            intent = Intent("send", container.pool, container.name, self._data.snapshots(id), backups)
            self._node.notes.put(_INTENTS, id, intent)
            try:
                await self._node.store.transact(
                    lambda draft: move_rules.begin(draft, id, name, operation), author=author, request="move container"
                )
                asked = Request(self._node.member, name, operation)
                answer = await self._node.peers.request(target, "POST", f"/internal/containers/{id}/receive", asked)
                answer.metadata()
            except NodeError:
                if await self._is_kept(id):
                    raise
            else:
                await self._is_kept(id)

    async def _is_kept(self, id: str) -> bool:
        """Takes a container back whose move did not succeed; False when it did all the same. When nobody can tell now,
        it is found out in the background, and the container is busy until then."""
        try:
            return await self._settle(id)
        except Unavailable:
            self._nursery.start_soon(self._settle_later, id)
            return True

    def volume(self, id: str, snapshot: str) -> AsyncIterator[bytes]:
        """The stream of the volume of a container that moves away, or of a snapshot of it ("" for the first)."""
        container = self._get(id)
        if container.phase != "moving" or container.member != self._node.member:
            raise NodeError(f"Container '{container.name}' does not move away from this member")
        return stream.send(self._path(container, snapshot))

    def _path(self, container: Container, snapshot: str) -> Path:
        storage = self._node.storage
        if snapshot:
            return storage.snapshots.path(container.pool, container.name, snapshot)
        return storage.container_path(container.pool, container.name)

    # The new member.

    async def receive(self, id: str, request: Request) -> None:
        """Fetches the data of a container that another member lets go, and takes it over."""
        await self._node.ready.wait()
        await self._node.store.barrier()
        async with self._node.locks.hold(id, "move"), Undo() as undo:
            container = self._get(id)
            if container.phase != "moving" or container.operation != request.operation:
                raise NodeError(f"The move of container '{container.name}' was given up")
            pool, name, snapshots = container.pool, request.name, self._data.snapshots(id)
            await self._check_free(pool, name, snapshots)
            self._node.notes.put(_INTENTS, id, Intent("receive", pool, name, snapshots))
            undo.add("see how the move ended", self._settle_in_background, id)
            await self._fetch(id, request, pool, snapshots)
            with trio.CancelScope(shield=True):
                await self._node.store.transact(
                    lambda draft: move_rules.complete(draft, id, name, request.operation, self._containers.place),
                    author=f"member:{request.member}",
                    request="move container",
                )
        self._done(id)

    async def _check_free(self, pool: str, name: str, snapshots: list[str]) -> None:
        driver, volume = self._node.storage.driver(pool), Volume(Kind.CONTAINER, name)
        if await driver.has_volume(volume):
            raise NodeError(f"Data of an unknown container {name} are in the way: move {driver.path(volume)} away")
        for snapshot in snapshots:
            await self._node.storage.snapshots.check_free(pool, name, snapshot)

    async def _fetch(self, id: str, request: Request, pool: str, snapshots: list[str]) -> None:
        async def fill(path: Path, snapshot: str = "") -> None:
            url = f"/internal/containers/{id}/volume?snapshot={quote(snapshot, safe='')}"
            async with self._node.peers.exchange(request.member, "GET", url) as exchange:
                if exchange.status != 200:
                    raise NodeError(f"member {request.member} answered {exchange.status} for {url}")
                await stream.receive(exchange.chunks(), path)

        storage = self._node.storage
        await storage.fill_container(pool, request.name, fill)
        for snapshot in snapshots:
            await storage.snapshots.fill(pool, request.name, snapshot, partial(fill, snapshot=snapshot))

    # How a move ended: the document tells.

    def finish(self, nursery: trio.Nursery) -> None:
        """Ends the moves that a daemon of before was part of; what cannot be told yet goes on in `nursery`."""
        self._nursery = nursery
        for id, _ in list(self._node.notes.all(_INTENTS, Intent)):
            nursery.start_soon(self._settle_later, id)

    def _settle_in_background(self, id: str) -> None:
        self._nursery.start_soon(self._settle_later, id)

    async def _settle_later(self, id: str) -> None:
        while True:
            try:
                await self._node.store.barrier()
                await self._settle(id)
                return
            except Unavailable:
                await trio.sleep(_RETRY)
            except (DriverError, NodeError) as error:
                log.error("data of a move are still here", container=id, error=str(error))
                return

    async def _settle(self, id: str) -> bool:
        """Takes a container back, or removes what is here of one that is another member's; whether it is ours.

        What the new member fetched stays until the move has ended: its last transaction may still come."""
        intent = self._node.notes.get(_INTENTS, id, Intent)
        if intent is None:
            return True
        member = self._node.member
        if intent.side == "send":
            is_ours = await self._node.store.transact(
                lambda draft: move_rules.take_back(draft, id, member),
                author=f"member:{member}",
                request="end a move",
            )
        else:
            container = self._node.store.view().get(CONTAINERS, id)
            if container is not None and container.phase == "moving":
                raise Unavailable("the move has not ended yet")
            is_ours = container is not None and container.member == member
        if not is_ours:
            await self._remove(id, intent)
        self._done(id)
        return is_ours

    async def _remove(self, id: str, intent: Intent) -> None:
        """Removes the data of a move, unless the name is that of another container here meanwhile."""
        view = self._node.store.view()
        other = view.find(KIND, intent.name)
        bearer: Any = None if other in (None, id) else view.get(CONTAINERS, str(other))
        if bearer is None or bearer.member != self._node.member:
            made = Container(name=intent.name, member=self._node.member, pool=intent.pool)
            await self._data.remove(made, intent.snapshots)
        self._containers.backups.remove_files(intent.backups)

    def _done(self, id: str) -> None:
        self._node.notes.delete(_INTENTS, id)

    def _get(self, id: str) -> Container:
        container = self._node.store.view().get(CONTAINERS, id)
        if container is None:
            raise NotFound
        return container
