"""The API on real sockets inside the test's own process: members with a real log, real TLS and the real trust decision.

Owns members without containers, images, networks and storage; refuses to be a daemon (`daemons.py` runs those)."""

import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import h11
import msgspec
import trio

from lxdnode.api.app import App
from lxdnode.api.listener import Server, bind_unix, serve_unix
from lxdnode.api.network import Network
from lxdnode.api.route import Route, declared
from lxdnode.api.routes import certificates, events, operations, profiles, server
from lxdnode.node.callers import Peer
from lxdnode.node.cluster.records import CLUSTER, CLUSTERS, KIND, MEMBERS, Cluster, Member
from lxdnode.node.documents import Draft
from lxdnode.node.events import Events
from lxdnode.node.feeds import Feeds
from lxdnode.node.history.history import History
from lxdnode.node.keypair import KeyPair, make, save
from lxdnode.node.node import Node
from lxdnode.node.operations import Operations
from lxdnode.node.store import Store
from lxdnode.raft.log import Log
from lxdnode.raft.state import State

ROUTES = [one for module in (server, certificates, profiles, operations, events) for one in declared(module)]


class Answer(msgspec.Struct, frozen=True):
    """One answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def metadata(self) -> Any:
        assert self.status < 400, self.body
        return self.json["metadata"]


class Client:
    """One connection, kept for all requests."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Sends a request and reads its answer. A body that is not bytes is sent as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        fields = {"host": "lxd", "content-length": str(len(data)), **(headers or {})}
        head = h11.Request(method=method, target=path, headers=list(fields.items()))
        await self.send(head, *([h11.Data(data=data)] if data else []), h11.EndOfMessage())
        return await self.answer()

    async def upgrade(self, path: str) -> Answer:
        """Asks for a websocket that will be refused, and reads the refusal."""
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        return await self.ask("GET", path, headers={"Upgrade": "websocket", "Connection": "Upgrade", **key})

    async def send(self, *events: Any) -> None:
        await self.stream.send_all(b"".join(self.http.send(event) or b"" for event in events))

    async def next(self) -> Any:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(bytes(await self.stream.receive_some(65536)))
        return event

    async def answer(self) -> Answer:
        while not isinstance(head := await self.next(), h11.Response):
            assert isinstance(head, h11.InformationalResponse), head
        data = b""
        while not isinstance(event := await self.next(), h11.EndOfMessage):
            assert isinstance(event, h11.Data), event
            data += event.data
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
        headers = {name.decode().lower(): value.decode() for name, value in head.headers}
        return Answer(head.status_code, headers, data)


class Site:
    """One member that serves its API."""

    def __init__(self, node: Node, app: App, server: Server, network: Network, nursery: trio.Nursery) -> None:
        self.node = node
        self.app = app
        self.server = server
        self.network = network
        self.nursery = nursery
        self.clients: list[Client] = []

    @property
    def socket(self) -> Path:
        return self.node.directory / "unix.socket"

    async def connect(self) -> Client:
        """A connection to the unix socket."""
        return self._client(await trio.open_unix_socket(str(self.socket)))

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request over the unix socket."""
        client = await self.connect()
        async with client.stream:
            return await client.ask(method, path, body, headers)

    async def dial(self, pair: KeyPair | None = None) -> Client:
        """A connection over TLS that shows the certificate of `pair`, or none."""
        context = client_context(self.node.directory, pair)
        host, _, port = min(self.network.addresses).rpartition(":")
        stream = await trio.open_ssl_over_tcp_stream(host, int(port), ssl_context=context, https_compatible=True)
        await stream.do_handshake()
        return self._client(stream)

    def _client(self, stream: trio.abc.Stream) -> Client:
        client = Client(stream)
        self.clients.append(client)
        return client


def client_context(directory: Path, pair: KeyPair | None = None) -> Any:
    """A context that takes any server, and shows `pair`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pair is not None:
        save(directory, "client", pair)
        context.load_cert_chain(directory / "client.crt", directory / "client.key")
    return context


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def cluster(directory: Path, count: int, routes: Sequence[Route] = ()) -> AsyncIterator[list[Site]]:
    """Members m1 to mN that know each other as such. Each has a log of its own: what the API does between members is
    shown here, not what Raft does."""
    shown, own = make(), [make() for _ in range(count)]
    records = [
        Member(
            number=number,
            voter=True,
            name=f"m{number}",
            address=f"127.0.0.1:{free_port()}",
            fingerprint=pair.fingerprint,
            certificate=pair.certificate,
            incarnation=1,
        )
        for number, pair in enumerate(own, 1)
    ]
    async with trio.open_nursery() as nursery:
        sites = [
            await _start(directory, nursery, record, records, pair, shown, routes)
            for record, pair in zip(records, own, strict=True)
        ]
        try:
            yield sites
        finally:
            for site in sites:
                site.app.links.close()
                for client in site.clients:
                    await trio.aclose_forcefully(client.stream)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def alone(directory: Path, routes: Sequence[Route] = ()) -> AsyncIterator[Site]:
    """One member."""
    async with cluster(directory, 1, routes) as sites:
        yield sites[0]


async def _start(
    directory: Path,
    nursery: trio.Nursery,
    member: Member,
    members: Sequence[Member],
    own: KeyPair,
    shown: KeyPair,
    routes: Sequence[Route],
) -> Site:
    home = directory / member.name
    home.mkdir()
    save(home, "server", own)
    save(home, "cluster", shown)
    log = Log.create(
        home / "raft", cluster=str(uuid.uuid4()), initial=_initial(member, len(members) > 1), member=member.number
    )
    await nursery.start(log.run)
    store = Store(log, member.number)
    await store.transact(lambda draft: _put_others(draft, member, members), author="test", request="TEST")
    node = Node(home, store, own, shown, cast(Any, None))
    node.events = Events()
    node.operations = Operations(nursery, member.number, member.incarnation, node.events.operation)
    node.feeds = Feeds(node.store, node.peers, node.events)
    node.storage = cast(Any, SimpleNamespace(in_use=list))
    app = App(node, [*ROUTES, *routes])
    serving = Server(app)

    async def no_raft(stream: trio.abc.Stream, peer: Peer) -> None:
        await stream.send_all(b"raft for " + peer.fingerprint.encode())

    network = Network(serving, shown, own, no_raft)
    await nursery.start(serve_unix, serving, bind_unix(home / "unix.socket"))
    await nursery.start(network.run)
    await network.listen([member.address])
    node.history = History(node.store, node.peers)
    nursery.start_soon(node.events.follow, node.history, log)
    nursery.start_soon(node.feeds.run, node.log)
    return Site(node, app, serving, network, nursery)


def _initial(own: Member, clustered: bool) -> Any:
    """The first transaction of a member's log, of which it is the only voter: Raft plays no part here."""
    draft = Draft(State())
    draft.put(CLUSTERS, CLUSTER, Cluster(enabled=clustered))
    _put(draft, own)
    return draft.transaction("test", "TEST", 1)


def _put(draft: Draft, member: Member) -> None:
    draft.put(MEMBERS, str(member.number), member)
    draft.name(KIND, member.name, str(member.number))


def _put_others(draft: Draft, own: Member, members: Sequence[Member]) -> None:
    for member in members:
        if member is not own:
            _put(draft, msgspec.structs.replace(member, voter=False))


def routes_of(**handlers: Any) -> list[Route]:
    """The routes that functions made by a test declare."""
    module = ModuleType("routes")
    for name, handler in handlers.items():
        handler.__module__ = module.__name__
        setattr(module, name, handler)
    return declared(module)
