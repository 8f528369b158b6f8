"""The composition root: builds a member from its parts, runs it, and ends it (DESIGN.md 5).

The only place where api, node and drivers meet; refuses to do anything itself."""

import grp
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog
import trio

from lxdnode.api import devlxd
from lxdnode.api.app import create_app
from lxdnode.api.listener import Server, bind_unix, serve_unix
from lxdnode.api.network import Network
from lxdnode.drivers import orphans
from lxdnode.drivers.errors import DriverError
from lxdnode.node import keypair, logging, memory
from lxdnode.node.cluster import clocks, refetch, rules, upgrade, voters
from lxdnode.node.cluster.membership import Membership
from lxdnode.node.cluster.recovery import Recovery
from lxdnode.node.containers.containers import Containers
from lxdnode.node.errors import NodeError, Unavailable, cause
from lxdnode.node.events import Events
from lxdnode.node.feeds import Feeds
from lxdnode.node.history.history import History
from lxdnode.node.images.images import Images
from lxdnode.node.keypair import KeyPair
from lxdnode.node.networks.networks import Networks
from lxdnode.node.node import Node
from lxdnode.node.notes import Notes
from lxdnode.node.operations import Operations
from lxdnode.node.peers import RAFT_PROTOCOL, Peers
from lxdnode.node.reconcile.loop import Loop
from lxdnode.node.server.description import VERSION
from lxdnode.node.server.endpoints import Endpoints
from lxdnode.node.session import Sessions
from lxdnode.node.storage.storage import Storage
from lxdnode.node.store import Store
from lxdnode.raft import framing
from lxdnode.raft.framing import Damaged, NewerFormat
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

TEST_OFF = "LXD_NODE_TEST_OFF"
"""Names what the store does without, for tests that must find that it is missing (scripts/chaos --off)."""
DRAIN = 5.0
"""Seconds that requests in work have to end when the daemon ends."""


def run(directory: Path, *, logfile: str | None, group: str | None, level: str) -> None:
    """Runs the daemon of a state directory until it is told to end. NodeError when it cannot."""
    memory.return_freed()
    events = Events()
    logging.configure(level, logfile, events.logging)
    Log.off = frozenset(filter(None, os.environ.get(TEST_OFF, "").split(",")))
    framing.compares = "checksums" not in Log.off
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        trio.run(_Daemon(directory, group, events).main)
    except (NodeError, ExceptionGroup) as error:
        raise NodeError(_words(error)) from error


def _words(error: Exception) -> str:
    """What a person reads of the reason why the daemon ended. An error that nobody foresaw keeps its traceback."""
    found = cause(error)
    if not isinstance(found, NodeError | Damaged | DriverError | OSError):
        raise found
    return str(found)


class _Daemon:
    def __init__(self, directory: Path, group: str | None, events: Events) -> None:
        self._directory = directory
        self._group = grp.getgrnam(group).gr_gid if group else None
        self._events = events
        self._peers: Peers | None = None

    async def main(self) -> None:
        """The daemon's life: parts, store, API, host, then whatever comes until a signal."""
        listening = bind_unix(self._directory / "unix.socket", self._group)
        _own_temporary_files(self._directory / "tmp")
        try:
            async with trio.open_nursery() as nursery:
                node = await self._build(nursery)
                server = Server(create_app(node))
                network = Network(server, node.shown, node.own, node.cluster.serve_raft, self._authority())
                node.listener = network
                await nursery.start(network.run)
                await nursery.start(serve_unix, server, listening)
                nursery.start_soon(self._start_host, node)
                await self._until_told(node)
                network.close(network.addresses)
                await self._end(node, server)
                nursery.cancel_scope.cancel()
        finally:
            (self._directory / "unix.socket").unlink(missing_ok=True)

    async def _build(self, nursery: trio.Nursery) -> Node:
        """Opens the store and puts the parts together; nothing on the host is touched."""
        own = keypair.load_or_make(self._directory, "server")
        sessions = Sessions(self._directory, nursery, lambda number: self._dial(number))
        opened = await self._open(sessions, own)
        store = Store(opened, opened.identity.member)
        node = Node(self._directory, store, own, own, sessions)
        self._peers = Peers(self._directory, store)
        if rules.is_clustered(store.view()):
            node.shown = rules.shown_pair(store.view()) or keypair.load(self._directory, "cluster") or own
        else:
            keypair.remove(self._directory, "cluster")
        self._assemble(node, nursery)
        return node

    async def _open(self, sessions: Sessions, own: KeyPair) -> Log:
        """The log of this member: a damaged one is fetched from the others, if there are any."""
        place = refetch.place_of(Notes(self._directory / "notes"))
        try:
            return await sessions.open(own, first=place is None)
        except NewerFormat:
            raise
        except (Damaged, FileNotFoundError) as error:
            if place is None or not place.members:
                raise NodeError(
                    f"The store in {self._directory}/raft is damaged: {error}. No other member has a copy: move it "
                    "aside, start lxd-node again, and restore a backup (lxd-node cluster restore). What is on this "
                    "host stays, and is listed as unknown"
                ) from error
            return await refetch.Refetch(self._directory, place, sessions).run(error)

    def _assemble(self, node: Node, nursery: trio.Nursery) -> None:
        found = rules.member(node.store.view(), node.member)
        node.events = self._events
        node.operations = Operations(nursery, node.member, found.incarnation if found else 0, self._events.operation)
        node.feeds = Feeds(node.store, node.peers, self._events)
        node.history = History(node.store, node.peers)
        node.storage, node.networks = Storage(node), Networks(node)
        node.images, node.containers = Images(node), Containers(node)
        node.cluster, node.recovery = Membership(node), Recovery(node)
        node.endpoints = Endpoints(node)
        node.containers.host.serve_guest = partial(devlxd.serve, node)
        nouns = (node.endpoints, node.storage, node.networks, node.images, node.containers)
        loop = Loop([reconciler for noun in nouns for reconciler in noun.reconcilers()])
        node.sessions.followers = (
            partial(self._events.follow, node.history),
            node.feeds.run,
            node.history.tend,
            node.cluster.heed_removal,
            partial(voters.keep, node),
            partial(upgrade.keep, node),
            clocks.keep,
            partial(refetch.keep_note, node.notes),
            node.endpoints.warn,
            loop.run,
            node.images.updates.keep,
            node.storage.tend,
            node.networks.tend,
            node.networks.follow_hosts,
            node.networks.follow_links,
        )

    async def _dial(self, number: int) -> trio.abc.Stream:
        """A Raft stream to a member. A log that takes long to open dials before its documents can be read."""
        if self._peers is None:
            raise OSError("this member is starting")
        try:
            return await self._peers.connect(number, RAFT_PROTOCOL)
        except Unavailable as error:
            raise OSError(str(error)) from error

    def _authority(self) -> str | None:
        """The CA of PKI mode, when there is one (spec/security.md 5)."""
        path = self._directory / "server.ca"
        return path.read_text() if path.exists() else None

    async def _start_host(self, node: Node) -> None:
        """What is done while the API answers already: the network, this start's record, then the host."""
        await trio.to_thread.run_sync(orphans.end)
        await node.endpoints.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.cluster.heed_removal, node.log)  # who was removed meanwhile gets no further
            await self._record_start(node)
            nursery.cancel_scope.cancel()
        node.sessions.follow()
        for noun in (node.storage, node.networks, node.images):
            await noun.start()
        async with trio.open_nursery() as nursery:
            await nursery.start(node.containers.run)
            node.ready.set()
            await memory.collect()

    async def _record_start(self, node: Node) -> None:
        """Raises this member's incarnation, as soon as there is a quorum to record it."""
        said = ""
        while True:
            try:
                started = await node.store.transact(
                    lambda draft: rules.start(draft, node.member, node.own, VERSION),
                    author="daemon",
                    request="start",
                )
            except Unavailable as error:
                if str(error) != said:
                    log.warning("this start is not recorded yet", error=str(error))
                said = str(error)
                await trio.sleep(0.2)
            else:
                node.operations.belong_to(node.member, started.incarnation)
                return

    async def _until_told(self, node: Node) -> None:
        """Waits for a signal, or for `lxd-node shutdown`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_on_signal, node, nursery.cancel_scope.cancel)
            await node.shutdown.wait()
            nursery.cancel_scope.cancel()

    async def _end(self, node: Node, server: Server) -> None:
        """PWR and `shutdown` stop containers first; TERM and INT leave them running."""
        if node.shutdown.is_set():
            await node.containers.shut_down()
            await node.networks.shut_down()
        await node.log.hand_over()
        await server.drain(DRAIN)


def _own_temporary_files(folder: Path) -> None:
    """Has temporary files made in a directory of this daemon's own: what is left by one that was killed goes now."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    tempfile.tempdir = str(folder)


async def _on_signal(node: Node, end: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGPWR, signal.SIGQUIT) as signals:
        async for number in signals:
            log.info("told to end", signal=signal.Signals(number).name)
            if number == signal.SIGPWR:
                node.shutdown.set()
            else:
                end()
            return
