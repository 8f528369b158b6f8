"""Events: what happens on this cluster, told to whoever listens on /1.0/events (spec/rest.md 1.8).

Owns the listeners and the shape of messages; refuses to wait for a slow listener, and to fetch the events of other
members (`node/feeds.py`)."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
import trio

from lxdnode.node.history.history import Gap, History
from lxdnode.node.operations import Operation
from lxdnode.raft.history import Change
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

TYPES = ("logging", "operation", "lifecycle")
QUEUE = 1024
"""Messages that a listener may be behind before it is closed: an operation's end must not be missing in between."""
_LEVELS = {"debug": "dbug", "info": "info", "warning": "warn", "error": "eror", "exception": "eror", "critical": "crit"}
_encoder = msgspec.json.Encoder()


class Listener:
    """One who listens. Iterating gives messages as JSON text, and ends when it was too slow."""

    def __init__(self, types: frozenset[str], local: bool) -> None:
        self.types = types
        self.local = local
        self._send, self._receive = trio.open_memory_channel[str](QUEUE)

    def __aiter__(self) -> trio.MemoryReceiveChannel[str]:
        return self._receive

    def offer(self, message: str) -> bool:
        """Queues a message; False when the listener is too far behind, and therefore ended."""
        try:
            self._send.send_nowait(message)
        except trio.WouldBlock:
            self._send.close()
            return False
        return True


class Events:
    """The listeners of this member. `changed` is set, and replaced, when the first comes or the last goes."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.changed = trio.Event()

    @property
    def has_clients(self) -> bool:
        """Whether a client (not a member) listens here."""
        return any(not listener.local for listener in self._listeners)

    @contextmanager
    def listen(self, types: frozenset[str], local: bool = False) -> Iterator[Listener]:
        """A listener for types of events; `local` leaves out what other members sent and what all members see anyhow:
        that is what members ask of each other."""
        listener = Listener(types - {"lifecycle"} if local else types, local)
        self._listeners.add(listener)
        self._tell()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def operation(self, operation: Operation) -> None:
        """Tells that an operation of this member was made, changed or ended."""
        if self._listeners:
            self._publish("operation", operation.render())

    def logging(self, _logger: object, method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A structlog processor that passes every record on to the listeners, whatever the log file's level is."""
        if self._listeners:
            hidden = ("event", "level", "timestamp", "exc_info")
            context = {key: str(value) for key, value in record.items() if key not in hidden}
            metadata = {"message": str(record.get("event", "")), "level": _LEVELS.get(method, "info")}
            self._publish("logging", metadata | {"context": context})
        return record

    def pass_on(self, member: int, type: str, timestamp: str, metadata: Any) -> None:
        """Tells the clients here what member `member` sent."""
        message = {"type": type, "timestamp": timestamp, "metadata": metadata, "node": member}
        self._tell_all(type, message, remote=True)

    def _publish(self, type: str, metadata: Any) -> None:
        self._tell_all(type, {"type": type, "timestamp": datetime.now(UTC), "metadata": metadata})

    def _tell_all(self, type: str, message: dict[str, Any], remote: bool = False) -> None:
        """Gives a message to those who listen for a type."""
        text = ""
        for listener in [one for one in self._listeners if type in one.types and not (remote and one.local)]:
            text = text or encode(message)
            if not listener.offer(text):
                self._listeners.discard(listener)

    async def follow(self, history: History, log: Log) -> None:
        """Emits the lifecycle events of every transaction as it is applied, until cancelled."""
        async for item in history.replay(log, log.state.index):
            for message in lifecycle(item):
                self._tell_all("lifecycle", message)


def lifecycle(item: Change | Gap, after: tuple[int, float] = (0, 0)) -> Iterator[dict[str, Any]]:
    """The messages of a change that follow the one with the id `after`; ids are INDEX.NUMBER, the same on every member.
    What is not known any more is one message of type gap, so that silence is not taken for "nothing happened":
    `from` and `to` are the first and the last index that are missing, and `id` is where to go on."""
    if isinstance(item, Gap):
        reason = "no member that could be asked knows these changes any more"
        metadata = {"from": item.after + 1, "to": item.index, "reason": reason}
        yield {"type": "gap", "timestamp": datetime.now(UTC), "metadata": metadata, "id": str(item.index)}
        return
    for number, event in enumerate(item.events):
        if (item.index, number) > after:
            metadata = {"action": event.action, "source": event.source} | (
                {"context": event.context} if event.context else {}
            )
            at = datetime.fromtimestamp(item.at, UTC)
            yield {"type": "lifecycle", "timestamp": at, "metadata": metadata, "id": f"{item.index}.{number}"}


def encode(message: dict[str, Any]) -> str:
    """A message as it is sent."""
    return _encoder.encode(message).decode()
