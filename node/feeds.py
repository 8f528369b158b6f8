"""The events and operations of the other members, as this member's clients see them.

Owns a feed (a websocket to /1.0/events) from each peer while a client listens here, and what happens when one breaks
(DESIGN.md 4); refuses to have any when nobody listens."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.cluster.rules import members
from lxdnode.node.errors import NodeError
from lxdnode.node.events import Events
from lxdnode.node.operations import SUCCESS, lost, parse_id
from lxdnode.node.peers import Peers
from lxdnode.node.settings import Settings
from lxdnode.node.store import Store
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

LINGER = 60.0
"""Seconds that feeds stay after the last client has gone: the next `lxc` command comes soon."""
READY_LIMIT = 5.0
"""Seconds that a 202 waits for the feed of its member."""
_ASK_LIMIT = 2.0
_PING_EVERY, _PONG_LIMIT = 5.0, 10.0
_FIRST_DELAY, _LAST_DELAY = 0.2, 3.0
_TYPES = "operation,logging"
_BREAKS = (NodeError, ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.TooSlowError)


class _Message(msgspec.Struct):
    type: str
    timestamp: str
    metadata: dict[str, Any]


class _Feed:
    """What is known of one peer: whether its events arrive, and its operations that have not ended."""

    def __init__(self) -> None:
        self.live = trio.Event()
        self.running: set[str] = set()


class Feeds:
    """The feeds of this member."""

    def __init__(self, store: Store, peers: Peers, events: Events) -> None:
        self._store = store
        self._peers = peers
        self._events = events
        self._settings = Settings(store)
        self._feeds: dict[int, _Feed] = {}

    async def ready(self, number: int) -> None:
        """Returns when events of a member reach the clients here, or nobody listens. A 202 waits for it: `lxc` waits
        for the event of the end, and would hang when that came before its feed."""
        if self._events.has_clients:
            with trio.move_on_after(READY_LIMIT):
                await self._feed(number).live.wait()

    async def operations(self) -> list[dict[str, Any]]:
        """The operations of the other members that answer within 2 s, as objects."""
        found: list[dict[str, Any]] = []

        async def ask(number: int) -> None:
            try:
                with trio.move_on_after(_ASK_LIMIT):
                    found.extend(await self._operations_of(number))
            except NodeError as error:
                log.info("operations of a member are left out", member=number, error=str(error))

        async with trio.open_nursery() as nursery:
            for number in self._others():
                nursery.start_soon(ask, number)
        return found

    async def run(self, own: Log) -> None:
        """Keeps feeds while there are clients, until cancelled; `own`: the log that tells who the members are."""
        self._feeds.clear()
        while True:
            while not self._events.has_clients:
                await self._events.changed.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_members, own)
                await self._until_unused()
                nursery.cancel_scope.cancel()
            self._feeds.clear()

    async def _until_unused(self) -> None:
        while True:
            while self._events.has_clients:
                await self._events.changed.wait()
            with trio.move_on_after(LINGER):
                while not self._events.has_clients:
                    await self._events.changed.wait()
            if not self._events.has_clients:
                return

    async def _follow_members(self, own: Log) -> None:
        """One feed a member: for those that are there, and for each that comes."""
        started: set[int] = set()
        async with trio.open_nursery() as nursery, own.watch(MEMBERS.name) as changes:
            while True:
                for number in set(self._others()) - started:
                    nursery.start_soon(self._follow, number)
                    started.add(number)
                await anext(changes)

    def _others(self) -> Iterable[int]:
        own = self._store.member
        return [member.number for member in members(self._store.view()) if member.number != own]

    def _feed(self, number: int) -> _Feed:
        return self._feeds.setdefault(number, _Feed())

    async def _follow(self, number: int) -> None:
        """Keeps the feed of one member, with pauses that grow while it cannot be reached."""
        feed, delay = self._feed(number), _FIRST_DELAY
        while not self._fail_lost(number, feed):
            try:
                await self._read(number, feed)
                delay = _FIRST_DELAY
            except* _BREAKS as errors:
                log.info("no events from a member", member=number, error=str(errors.exceptions[0]))
            if feed.live.is_set():
                feed.live, delay = trio.Event(), _FIRST_DELAY
            await trio.sleep(delay)
            delay = min(delay * 2, _LAST_DELAY)

    async def _read(self, number: int, feed: _Feed) -> None:
        """Connects, makes good what was missed, and passes on events until the connection ends."""
        stream: Any = await self._peers.connect(number)
        try:
            async with trio.open_nursery() as nursery:
                socket = await wrap_client_stream(nursery, stream, "lxd-node", f"/1.0/events?type={_TYPES}")
                await self._make_good(number, feed)
                feed.live.set()
                nursery.start_soon(_keep_alive, socket)
                while True:
                    self._pass_on(number, feed, msgspec.json.decode(await socket.get_message(), type=_Message))
        finally:
            await trio.aclose_forcefully(stream)

    def _pass_on(self, number: int, feed: _Feed, message: _Message) -> None:
        if message.type == "operation":
            self._note(feed, message.metadata)
        self._events.pass_on(number, message.type, message.timestamp, message.metadata)

    def _note(self, feed: _Feed, operation: dict[str, Any]) -> None:
        if operation["status_code"] >= SUCCESS:
            feed.running.discard(operation["id"])
        else:
            feed.running.add(operation["id"])

    async def _make_good(self, number: int, feed: _Feed) -> None:
        """Tells how the member's operations stand now; those that ended unseen, and are forgotten there, are lost."""
        current = await self._operations_of(number)
        ids = {operation["id"] for operation in current}
        for id in feed.running - ids:
            self._tell_lost(number, feed, id, "it ended while its member could not be reached: its outcome is unknown")
        for operation in current:
            self._note(feed, operation)
            self._events.pass_on(number, "operation", operation["updated_at"], operation)

    def _fail_lost(self, number: int, feed: _Feed) -> bool:
        """Fails the operations whose daemon has ended, or is offline; whether the member has left the cluster."""
        member = find_member(self._store.view(), number)
        if member is None or member.phase == "removed":
            incarnation = math.inf
        else:
            incarnation = math.inf if self._is_offline(number) else member.incarnation
        for id in list(feed.running):
            parsed = parse_id(id)
            if parsed is not None and parsed[1] < incarnation:
                self._tell_lost(number, feed, id, f"member {member.name if member else number} went away")
        return member is None or member.phase == "removed"

    def _is_offline(self, number: int) -> bool:
        age = self._store.log.liveness().get(number, 0.0)
        return age > self._settings.number("cluster.offline_threshold")

    def _tell_lost(self, number: int, feed: _Feed, id: str, words: str) -> None:
        feed.running.discard(id)
        operation = lost(id, words)
        self._events.pass_on(number, "operation", operation["updated_at"].isoformat(), operation)

    async def _operations_of(self, number: int) -> list[dict[str, Any]]:
        answer = await self._peers.request(number, "GET", "/1.0/operations?recursion=1")
        return [operation for of_status in answer.metadata().values() for operation in of_status]


async def _keep_alive(socket: WebSocketConnection) -> None:
    """Notices a member that went without a word."""
    while True:
        await trio.sleep(_PING_EVERY)
        with trio.fail_after(_PONG_LIMIT):
            await socket.ping()
