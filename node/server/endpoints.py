"""The addresses that this member listens on, as its settings want them.

Owns bringing the listener in line with the documents; refuses to change them (`Node.configure` does, and moves the
listener first)."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

import structlog

from lxdnode.node.cluster.rules import member
from lxdnode.node.errors import NodeError
from lxdnode.node.keypair import KeyPair
from lxdnode.node.reconcile.loop import Reconciler
from lxdnode.node.server.keys import ADDRESS_KEYS
from lxdnode.node.server.records import SETTINGS
from lxdnode.node.server.rules import listened

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)


class Listener(Protocol):
    """What the node needs of the network listener (`api/network.py`)."""

    @property
    def addresses(self) -> Collection[str]:
        """What is listened on."""

    async def listen(self, addresses: Collection[str]) -> None:
        """Listens on these and on no other. NodeError when one cannot be bound; those before are kept then."""

    def show(self, pair: KeyPair) -> None:
        """Shows this certificate from the next connection on."""


class Endpoints:
    """Where this member is reached."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def reconcilers(self) -> list[Reconciler]:
        """What `node/reconcile/loop.py` runs."""
        return [Reconciler(SETTINGS.name, lambda: ADDRESS_KEYS, self.reconcile)]

    async def start(self) -> None:
        """Listens for the first time; what cannot be bound yet is tried again by the loop."""
        try:
            await self._listen()
        except NodeError as error:
            log.error("the API is not served over TLS", error=str(error))

    async def reconcile(self, key: str) -> None:
        """Listens where the settings say, when the changed one is an address. A server that is joining has its settings
        in the new store only when it has joined."""
        found = member(self._node.store.view(), self._node.member)
        if key not in ADDRESS_KEYS or found is None or found.phase == "joining":
            return
        async with self._node.locks.hold("configuration", "listen"):
            await self._listen()

    async def _listen(self) -> None:
        """Listens wherever it can. NodeError for the last address that cannot be bound: one may not be there yet when a
        host has just started, and must not keep the others closed."""
        listener, wanted = self._node.listener, listened(self._node.settings.all())
        failed: NodeError | None = None
        for address in wanted:
            try:
                await listener.listen({address, *listener.addresses} & set(wanted))
            except NodeError as error:
                failed = NodeError(f"{address}: {error}")
        if not wanted:
            await listener.listen(())
        if failed is not None:
            raise failed
