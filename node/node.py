"""One member: its parts in one place, as the nouns and the API reach them.

Owns nothing but the parts and what follows from several of them; `daemon.py` builds and runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from lxdnode.node.keypair import KeyPair
from lxdnode.node.locks import Locks
from lxdnode.node.notes import Notes
from lxdnode.node.peers import Peers
from lxdnode.node.server.description import Host, environment
from lxdnode.node.server.keys import PASSWORD, matches_password
from lxdnode.node.settings import Settings
from lxdnode.node.store import Store
from lxdnode.node.trust import Trust

if TYPE_CHECKING:
    from lxdnode.node.cluster.membership import Membership
    from lxdnode.node.containers.containers import Containers
    from lxdnode.node.events import Events
    from lxdnode.node.feeds import Feeds
    from lxdnode.node.images.images import Images
    from lxdnode.node.networks.networks import Networks
    from lxdnode.node.operations import Operations
    from lxdnode.node.storage.storage import Storage
    from lxdnode.raft.log import Log


@dataclass
class Node:
    """The parts of a member. `own` is the key pair that it shows as a client, `shown` the one that its servers show
    (the cluster's, once it is in one). `start` runs a task of the daemon that lives as long as it."""

    directory: Path
    store: Store
    own: KeyPair
    shown: KeyPair
    start: Callable[..., None]
    host: Host = field(default_factory=Host)
    locks: Locks = field(default_factory=Locks)
    ready: trio.Event = field(default_factory=trio.Event)
    operations: Operations = field(init=False)
    events: Events = field(init=False)
    feeds: Feeds = field(init=False)
    networks: Networks = field(init=False)
    storage: Storage = field(init=False)
    images: Images = field(init=False)
    containers: Containers = field(init=False)
    cluster: Membership = field(init=False)

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

    async def admits(self, password: str) -> bool:
        """Whether a client may add itself with this trust password; never when none is set."""
        stored = self.settings.get(PASSWORD)
        return bool(stored) and await trio.to_thread.run_sync(matches_password, stored, password)
