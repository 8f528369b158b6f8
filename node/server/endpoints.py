"""Where this member is reached, and which certificates it shows there.

Owns bringing the listener in line with the documents, and the steps to another certificate; refuses to change
addresses (`Node.configure` does, and moves the listener first)."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from lxdnode.node import keypair
from lxdnode.node.cluster import rules
from lxdnode.node.cluster.records import CLUSTERS, Member
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import NodeError, Unavailable, alone
from lxdnode.node.keypair import KeyPair
from lxdnode.node.reconcile.loop import Reconciler
from lxdnode.node.server.keys import ADDRESS_KEYS
from lxdnode.node.server.records import SETTINGS
from lxdnode.node.server.rules import listened
from lxdnode.raft.log import Log

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)

DAY = 24 * 3600.0
_ANSWER_LIMIT = 5.0
"""Seconds that a member has to say that it knows the key which comes."""


class Listener(Protocol):
    """What the node needs of the network listener (`api/network.py`)."""

    @property
    def addresses(self) -> Collection[str]:
        """What is listened on."""

    async def listen(self, addresses: Collection[str]) -> None:
        """Listens on these and on no other. NodeError when one cannot be bound; those before are kept then."""

    def show(self, pair: KeyPair, own: KeyPair) -> None:
        """Shows `pair` from the next connection on, and `own` to members that ask for this member's own key."""


class Endpoints:
    """The endpoints of one member."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def reconcilers(self) -> list[Reconciler]:
        """What `node/reconcile/loop.py` runs."""
        return [
            Reconciler(SETTINGS.name, lambda: ADDRESS_KEYS, self.reconcile_address),
            Reconciler(CLUSTERS.name, lambda: [CLUSTERS.name], self.reconcile_certificate),
        ]

    # Addresses

    async def start(self) -> None:
        """Listens for the first time; what cannot be bound yet is tried again by the loop."""
        try:
            await self._listen()
        except NodeError as error:
            log.error("the API is not served over TLS", error=str(error))

    async def reconcile_address(self, key: str) -> None:
        """Listens where the settings say, when the changed one is an address. A server that is joining has its settings
        in the new store only when it has joined."""
        found = rules.member(self._node.store.view(), self._node.member)
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

    # Certificates

    async def reconcile_certificate(self, _id: str) -> None:
        """Shows the pair that the documents have for all servers of the cluster."""
        node = self._node
        pair = rules.shown_pair(node.store.view())
        if pair is None:
            return
        if keypair.load(node.directory, "cluster") != pair:
            keypair.save(node.directory, "cluster", pair)
        if node.shown != pair:
            node.show(pair)

    async def replace_shared(self, pair: KeyPair, author: str, request: str) -> None:
        """Has all servers of the cluster show another pair: this one at once, the others as they apply it, who is away
        when it returns."""
        await self._node.store.transact(lambda draft: rules.show(draft, pair), author=author, request=request)
        await self.reconcile_certificate(CLUSTERS.name)

    async def replace_own(self, pair: KeyPair, author: str, request: str) -> None:
        """Takes another key as this member's own. Whoever has not learned of it could not talk to this member any more,
        so Unavailable when a member is away; both keys are good until the new one is in place, here and in its
        document, and a daemon that dies in between records at its start the one that it has."""
        node = self._node
        async with node.locks.hold("certificate", request):
            self._check_all_there(node.store.view())
            await self._announce(pair.fingerprint, author, request)
            try:
                await self._await_others()
            except Exception:
                await self._announce("", author, request)  # who has that key must not be taken for this member
                raise
            keypair.save(node.directory, "server", pair)
            node.own = pair
            node.show(node.shown if rules.is_clustered(node.store.view()) else pair)
            await node.store.transact(
                lambda draft: rules.take_key(draft, node.member, pair), author=author, request=request
            )

    async def _announce(self, fingerprint: str, author: str, request: str) -> None:
        def rule(draft: Draft) -> None:
            rules.announce_key(draft, self._node.member, fingerprint)

        await self._node.store.transact(rule, author=author, request=request)

    def _check_all_there(self, view: View) -> None:
        there = {*self._node.cluster.reachable(), self._node.member}
        away = [member.name for member in rules.members(view) if member.number not in there]
        if away:
            raise Unavailable(
                f"Nothing was changed: {', '.join(away)} must know the new key before it is used. "
                "Start these members, or remove them"
            )

    async def _await_others(self) -> None:
        """Returns when every other member has applied what was committed before: it answers after a barrier.
        Unavailable when one does not."""
        with alone():
            async with trio.open_nursery() as nursery:
                for other in rules.members(self._node.store.view()):
                    if other.number != self._node.member:
                        nursery.start_soon(self._ask, other)

    async def _ask(self, other: Member) -> None:
        try:
            with trio.fail_after(_ANSWER_LIMIT):
                (await self._node.peers.request(other.number, "GET", "/1.0/cluster")).metadata()
        except trio.TooSlowError:
            raise Unavailable(
                f"Nothing was changed: {other.name} does not answer. Start it anew, or remove it"
            ) from None

    async def warn(self, _log: Log) -> None:
        """Says in the log once a day which certificates have expired, or soon will: nothing stops for it here, but
        clients may refuse them."""
        while True:
            for what, pair in (("the cluster's", self._node.shown), ("this member's own", self._node.own)):
                if (state := keypair.validity(pair.certificate)) != keypair.VALID:
                    log.warning("a certificate must be replaced", certificate=what, state=state)
            await trio.sleep(DAY)
