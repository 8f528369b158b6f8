"""One member: its parts in one place, as the nouns and the API reach them.

Owns nothing but the parts and what follows from several of them; `daemon.py` builds and runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from lxdnode.node.cluster.rules import is_clustered, move
from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.documents import Draft
from lxdnode.node.keypair import KeyPair
from lxdnode.node.locks import Locks
from lxdnode.node.notes import Notes
from lxdnode.node.peers import Peers
from lxdnode.node.server import rules
from lxdnode.node.server.description import Host, environment
from lxdnode.node.server.endpoints import Endpoints, Listener
from lxdnode.node.server.keys import ADDRESS, CLUSTER_ADDRESS, PASSWORD, hash_password, matches_password
from lxdnode.node.session import Sessions
from lxdnode.node.settings import Settings
from lxdnode.node.store import Store
from lxdnode.node.trust import Trust

if TYPE_CHECKING:
    from lxdnode.node.cluster.membership import Membership
    from lxdnode.node.cluster.recovery import Recovery
    from lxdnode.node.containers.containers import Containers
    from lxdnode.node.events import Events
    from lxdnode.node.feeds import Feeds
    from lxdnode.node.history.history import History
    from lxdnode.node.images.images import Images
    from lxdnode.node.networks.networks import Networks
    from lxdnode.node.operations import Operations
    from lxdnode.node.storage.storage import Storage
    from lxdnode.raft.log import Log


@dataclass
class Node:
    """The parts of a member. `own` is the key pair that it shows as a client, `shown` the one that its servers show
    (the cluster's, once it is in one)."""

    directory: Path
    store: Store
    own: KeyPair
    shown: KeyPair
    sessions: Sessions
    host: Host = field(default_factory=Host)
    locks: Locks = field(default_factory=Locks)
    ready: trio.Event = field(default_factory=trio.Event)
    shutdown: trio.Event = field(default_factory=trio.Event)
    listener: Listener = field(init=False)
    endpoints: Endpoints = field(init=False)
    operations: Operations = field(init=False)
    events: Events = field(init=False)
    feeds: Feeds = field(init=False)
    history: History = field(init=False)
    networks: Networks = field(init=False)
    storage: Storage = field(init=False)
    images: Images = field(init=False)
    containers: Containers = field(init=False)
    cluster: Membership = field(init=False)
    recovery: Recovery = field(init=False)

    @property
    def log(self) -> Log:
        """The log that the store writes to; it is another one after a join."""
        return self.store.log

    @property
    def member(self) -> int:
        """The number of this member."""
        return self.store.member

    @cached_property
    def settings(self) -> Settings:
        """The settings in force."""
        return Settings(self.store)

    @cached_property
    def trust(self) -> Trust:
        """The judge of callers."""
        return Trust(self.store)

    @cached_property
    def peers(self) -> Peers:
        """Connections to the other members."""
        return Peers(self.directory, self.store)

    @cached_property
    def notes(self) -> Notes:
        """Durable facts of this host alone."""
        return Notes(self.directory / "notes")

    def environment(self) -> dict[str, Any]:
        """The `environment` of GET /1.0."""
        address = self.settings.get("core.https_address")
        return environment(self.store.view(), self.member, self.host, self.shown, address, self.storage.in_use())

    def show(self, pair: KeyPair) -> None:
        """Shows another certificate to those who connect from now on."""
        self.shown = pair
        self.listener.show(pair, self.own)

    def become(self, log: Log, member: int) -> None:
        """Goes on with another log as the store, under the number that this server has there."""
        self.store.log, self.store.member = log, member
        found = find_member(self.store.view(), member)
        self.operations.belong_to(member, found.incarnation if found else 0)

    async def configure(self, values: Mapping[str, Any], replace: bool, author: str, request: str) -> None:
        """Changes the server's configuration (all of it, or the given keys), and acts on it.

        The listener moves first: an address that cannot be bound, or that no member could reach, changes nothing."""
        password = values.get(PASSWORD)
        hashed = (
            await trio.to_thread.run_sync(hash_password, password) if isinstance(password, str) and password else ""
        )
        stored = rules.check(values, hashed)
        async with self.locks.hold("configuration", request), self._listening(stored, replace):
            await self.store.transact(
                lambda draft: self._write(draft, values, hashed, replace), author=author, request=request
            )

    @asynccontextmanager
    async def _listening(self, stored: Mapping[str, str], replace: bool) -> AsyncIterator[None]:
        """Listens where a changed configuration wants it; where it was before, when the block fails."""
        before = self.settings.all()
        after = stored if replace else {**before, **stored}
        moves = rules.listened(before) != rules.listened(after)
        if moves:
            if is_clustered(self.store.view()):
                rules.advertised(after)
            await self.listener.listen(rules.listened(after))
        try:
            yield
        except BaseException:
            if moves:
                with trio.CancelScope(shield=True):
                    await self.listener.listen(rules.listened(before))
            raise

    def _write(self, draft: Draft, values: Mapping[str, Any], hashed: str, replace: bool) -> None:
        changed = rules.change(draft, self.member, values, hashed, replace)
        if changed & {ADDRESS, CLUSTER_ADDRESS} and is_clustered(draft):
            move(draft, self.member, rules.advertised(rules.effective(draft, self.member)))

    async def admits(self, password: str) -> bool:
        """Whether a client may add itself with this trust password; never when none is set."""
        stored = self.settings.get(PASSWORD)
        return bool(stored) and await trio.to_thread.run_sync(matches_password, stored, password)
