"""The owners of containers' root file systems: what is on the disk is what a start wants, shifted once or never.

Owns the record of what is on the disk and the notes of shifts that were begun; refuses to change files itself
(drivers/host/shift.py does)."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import IdMap, decode, encode
from lxdnode.drivers.host.idmapped import can_map
from lxdnode.drivers.host.shift import shift
from lxdnode.node.containers import rules
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.errors import NodeError, NotFound

if TYPE_CHECKING:
    from lxdnode.node.containers.host import Host
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
_INTENTS = "owners"


class Intent(msgspec.Struct):
    """A note of a shift that was begun, by the id of its container: both maps as `volatile.idmap.next` has them."""

    old: str
    new: str


class Owners:
    """Containers are given by id. Methods raise DriverError, NodeError or OSError."""

    def __init__(self, node: "Node", host: "Host") -> None:
        self._node = node
        self._host = host

    async def prepare(self, found: Expanded, rootfs: Path) -> tuple[bool, str]:
        """Sees to it that the owners are right for a start: (whether the kernel maps them, what is on disk).

        Where the kernel can, nothing is ever shifted, and the map of the disk stays the empty one; else the files are
        shifted from the map that is recorded to the one that is wanted, by way of the empty one: only so can be told
        what a shift that broke off has done."""
        old = decode(found.status.volatile.get("volatile.last_state.idmap", ""))
        if (begun := self._node.notes.get(_INTENTS, found.id, Intent)) is not None:
            old = await self._resume(found.id, rootfs, begun)
        new = decode(found.status.volatile.get("volatile.idmap.next", ""))
        if not old and (not new or await trio.to_thread.run_sync(can_map, rootfs)):
            return bool(new), encode(())
        if old != new:
            for before, after in ((old, ()), ((), new)):
                if before != after:
                    await self._shift(found.id, rootfs, before, after)
        return False, encode(new)

    def forget(self, id: str) -> None:
        """The files have gone, or are others now: no shift of theirs is to be finished."""
        self._node.notes.delete(_INTENTS, id)

    async def finish(self) -> None:
        """Ends the shifts that a daemon of before has begun: copies and images are made of what is recorded."""
        for id, intent in list(self._node.notes.all(_INTENTS, Intent)):
            try:
                rootfs = self._host.volume(expand(self._node.store.view(), id)) / "rootfs"
                await self._resume(id, rootfs, intent)
            except NotFound:
                self.forget(id)
            except (DriverError, NodeError, OSError) as error:
                log.error("work of a former daemon is still unfinished", container=id, error=str(error))

    async def _resume(self, id: str, rootfs: Path, begun: Intent) -> IdMap:
        await self._shift(id, rootfs, decode(begun.old), decode(begun.new), resumed=True)
        return decode(begun.new)

    async def _shift(self, id: str, rootfs: Path, old: IdMap, new: IdMap, *, resumed: bool = False) -> None:
        self._node.notes.put(_INTENTS, id, Intent(encode(old), encode(new)))
        await trio.to_thread.run_sync(partial(shift, rootfs, old, new, resumed=resumed))
        await self._node.store.transact(
            lambda draft: rules.note_map(draft, id, encode(new)),
            author=f"member:{self._node.member}",
            request="shift owners",
        )
        self.forget(id)
