"""Joining a cluster: this server's side (DESIGN.md 3.4).

Owns the order of the steps and the way back from each; the cluster's side is `accept.py`. Until the end the old store
is kept, so that a join that fails leaves the server as it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
import trio

from lxdnode.node import keypair
from lxdnode.node.cluster.accept import Accepted, Definition, Joiner, reach
from lxdnode.node.cluster.rules import set_phase
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import NodeError, Unavailable
from lxdnode.node.fingerprint import fingerprint_of_pem
from lxdnode.node.http import request
from lxdnode.node.keypair import KeyPair
from lxdnode.node.node import Node
from lxdnode.node.peers import RAFT_PROTOCOL, dial, dial_member
from lxdnode.node.server.description import VERSION
from lxdnode.node.server.rules import advertised, change
from lxdnode.node.session import Session
from lxdnode.raft.log import Log
from lxdnode.raft.state import State
from lxdnode.raft.transaction import LEVEL

log = structlog.get_logger(__name__)

CATCH_UP = 120.0
"""Seconds in which a joining server must have received the log."""
_AUTHOR = "join"


@dataclass(frozen=True)
class Wanted:
    """A request to join, as PUT /1.0/cluster has it. `member_config`: (entity, name, key, value)."""

    name: str
    address: str
    cluster_address: str
    cluster_certificate: str
    password: str
    member_config: tuple[tuple[str, str, str, str], ...]


class Join:
    """One join of this server, which keeps its settings `addresses`. `number_of` tells who dials in while the documents
    are still on their way."""

    def __init__(self, node: Node, wanted: Wanted, addresses: Mapping[str, str]) -> None:
        self._node = node
        self._wanted = wanted
        self._addresses = addresses
        self._address = advertised(addresses)
        self._accepted: Accepted | None = None
        self._session: Session | None = None

    async def run(self) -> None:
        """Joins, or leaves everything as it was and raises what went wrong."""
        node = self._node
        accepted = self._accepted = await self._ask()
        pair = KeyPair(accepted.certificate, accepted.private_key)
        before = node.store.log, node.store.member, node.shown
        try:
            node.show(pair)
            self._session = await node.sessions.learn(accepted.cluster, accepted.epoch, accepted.number, self._dial)
            await self._catch_up(self._session.log)
            await self._become_member(pair)
        except BaseException:
            with trio.CancelScope(shield=True):
                if not await self._drop():
                    await self._take_back(*before)
                    raise
        node.sessions.forget()

    def number_of(self, fingerprint: str) -> int:
        """The number of the member that owns a key; 0 for any other."""
        known = self._accepted.members if self._accepted else []
        return next((one.number for one in known if one.fingerprint == fingerprint), 0)

    async def serve_raft(self, stream: trio.abc.Stream, number: int) -> None:
        """Takes a stream of a member of the cluster, once the log that it feeds exists."""
        if self._session is not None:
            await self._session.log.serve(stream, number)

    async def _ask(self) -> Accepted:
        """Asks the cluster to let this server in: it has a number there afterwards."""
        wanted = self._wanted
        joiner = Joiner(
            name=wanted.name,
            address=self._address,
            password=wanted.password,
            level=LEVEL,
            version=VERSION,
            member_config=list(wanted.member_config),
            pools=_definitions(self._node.storage.definitions()),
            networks=_definitions(self._node.networks.definitions()),
            addresses=dict(self._addresses),
        )
        try:
            metadata = await self._request("/internal/cluster/accept", joiner)
        except NodeError as error:
            raise NodeError(_accept_words(str(error))) from error
        return msgspec.convert(metadata, Accepted)

    async def _request(self, path: str, body: object) -> Any:
        pin = fingerprint_of_pem(self._wanted.cluster_certificate)
        stream = await dial(self._node.directory, self._wanted.cluster_address, {pin})
        try:
            return (await request(stream, "POST", path, body)).metadata()
        finally:
            await trio.aclose_forcefully(stream)

    async def _dial(self, number: int) -> trio.abc.Stream:
        """A stream to a member, by what its documents say, or before they came by what the cluster said."""
        assert self._accepted is not None
        accepted = self._accepted
        state = self._session.log.state if self._session else State()
        address, keys = reach(View(state), accepted.members, number)
        try:
            return await dial_member(self._node.directory, address, accepted.certificate, keys, RAFT_PROTOCOL)
        except Unavailable as error:
            raise OSError(str(error)) from error

    async def _catch_up(self, joining: Log) -> None:
        with trio.move_on_after(CATCH_UP) as scope:
            await joining.caught_up()
        if scope.cancelled_caught:
            raise Unavailable(
                f"the cluster's log did not arrive within {CATCH_UP:g} s: can its leader reach {self._address}?"
            )

    async def _become_member(self, pair: KeyPair) -> None:
        """Makes the received log the store, makes this member's pools and networks, and says that it has joined."""
        node, accepted = self._node, self._accepted
        assert self._session is not None and accepted is not None
        keypair.save(node.directory, "cluster", pair)
        await node.sessions.adopt(self._session)
        node.become(self._session.log, accepted.number)
        node.sessions.follow()
        await node.storage.settle_own()
        await node.networks.settle_own()

        def joined(draft: Draft) -> None:
            set_phase(draft, accepted.number, "member")
            # A cluster of an older version has not taken them with the request to join.
            change(draft, accepted.number, self._addresses, "", replace=False)

        await node.store.transact(joined, author=_AUTHOR, request="PUT /1.0/cluster")

    async def _drop(self) -> bool:
        """Has the cluster forget the join; whether it was too late for that, because the last step had been committed
        though its outcome was not seen here. Who cannot be told forgets by itself after a minute."""
        assert self._accepted is not None
        try:
            answer = await self._request("/internal/cluster/drop", {"number": self._accepted.number})
        except NodeError as error:
            log.warning("the cluster was not told that the join failed", error=str(error))
            return False
        return bool(answer["joined"])

    async def _take_back(self, log: Log, member: int, shown: KeyPair) -> None:
        """Leaves no trace on this server."""
        node = self._node
        if node.store.log is not log:
            await node.storage.remove_own(only_settled=True)
            await node.networks.remove_own(only_settled=True)
            node.become(await node.sessions.revert(), member)
            node.sessions.follow()
        if self._session is not None:
            await node.sessions.discard(self._session)
        keypair.remove(node.directory, "cluster")
        node.show(shown)


def _definitions(found: Mapping[str, tuple[str, Mapping[str, str]]]) -> list[Definition]:
    return [Definition(name, dict(config), driver) for name, (driver, config) in sorted(found.items())]


def _accept_words(words: str) -> str:
    """LXD's two prefixes: a wrong password fails before the request to add the node."""
    if words == "not authorized":
        return "Failed to setup cluster trust: Failed to add client cert to cluster: not authorized"
    return f"failed to request to add node: {words}"
