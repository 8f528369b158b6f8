"""Connections to other members, kept from one forwarded request to the next.

Owns which kept connection may still be used, and HTTP/1.1 as a client over it; refuses to know requests and answers
(`api/forward.py`)."""

import math
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import h11
import trio

from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.errors import Unavailable
from lxdnode.node.node import Node

WINDOW = 256 * 2**10
"""Bytes that one direction holds between the client's connection and the member's."""
AWAY = 4.0
"""Seconds without a word from a member after which a request to it is given up: forty heartbeats."""
_LOOK_AGAIN = 0.5
"""Seconds before one that is away already is given up: a leader that is new has not heard anybody yet."""
_KEPT, _KEPT_FOR = 8, 60.0
_Key = tuple[int, str, str, str]
"""Whose connections: number, address and key of the member, and the own key that it was shown."""


class Broken(Exception):
    """The connection to the member ended before its answer was complete."""


class Link:
    """One exchange over a connection to a member. `reused`: the member may have closed it just now."""

    def __init__(self, stream: trio.abc.Stream, name: str, reused: bool, age: Callable[[], float]) -> None:
        self.stream = stream
        self.name = name
        self._age = age
        self.reused = reused
        self.connection = h11.Connection(h11.CLIENT)

    async def send(self, *events: Any) -> None:
        """Sends parts of the request. Broken when the member has closed."""
        data = b"".join(self.connection.send(event) or b"" for event in events)
        try:
            if data:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Broken(str(error)) from error

    async def next(self) -> Any:
        """The next part of the answer. Broken when there is none."""
        try:
            while (event := self.connection.next_event()) is h11.NEED_DATA:
                self.connection.receive_data(bytes(await self.stream.receive_some(WINDOW)))
        except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Broken(str(error)) from error
        if isinstance(event, h11.ConnectionClosed):
            raise Broken("closed")
        return event

    async def wait_away(self) -> None:
        """Returns once the member has not been heard for AWAY seconds: it is stopped, or its network is, and TCP does
        not know."""
        while True:
            await trio.sleep(max(AWAY - self._age(), _LOOK_AGAIN))
            if self._age() > AWAY:
                return

    @property
    def is_done(self) -> bool:
        """Whether both sides said all, so that the connection can serve another request."""
        return self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE


class Links:
    """The connections of this member to others."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._closed = False
        self._kept: dict[_Key, list[tuple[float, trio.abc.Stream]]] = {}

    @asynccontextmanager
    async def open(self, number: int, fresh: bool = False) -> AsyncIterator[Link]:
        """A connection to a member for one exchange, kept afterwards if that ended cleanly. Unavailable when the
        member cannot be reached or is none."""
        found = find_member(self._node.store.view(), number)
        if found is None or found.phase == "removed":
            raise Unavailable(f"member {number} is not in the cluster")
        key = (number, found.address, found.fingerprint, self._node.own.fingerprint)
        kept = None if fresh else self._take(key)
        stream = kept or await self._node.peers.connect(number)
        link = Link(stream, found.name, kept is not None, lambda: self._age(number))
        try:
            yield link
        finally:
            if link.is_done and not self._closed:
                self._keep(key, link.stream)
            else:
                await trio.aclose_forcefully(link.stream)

    def _age(self, number: int) -> float:
        return self._node.log.liveness().get(number, math.inf)

    def close(self) -> None:
        """Closes what is kept; nothing is kept any more."""
        self._closed = True
        for key in list(self._kept):
            self._forget(key)

    def _take(self, key: _Key) -> trio.abc.Stream | None:
        """The connection that was used last, if the member has not closed it since."""
        kept = self._kept.get(key, [])
        while kept:
            since, stream = kept.pop()
            if trio.current_time() - since < _KEPT_FOR and not _has_ended(stream):
                return stream
            _socket(stream).close()
        return None

    def _keep(self, key: _Key, stream: trio.abc.Stream) -> None:
        # A member that moved or has another key is not the one that its old connections lead to.
        for other in [other for other in self._kept if other[0] == key[0] and other != key]:
            self._forget(other)
        kept = self._kept.setdefault(key, [])
        kept.append((trio.current_time(), stream))
        if len(kept) > _KEPT:
            _socket(kept.pop(0)[1]).close()

    def _forget(self, key: _Key) -> None:
        for _since, stream in self._kept.pop(key):
            _socket(stream).close()


def _socket(stream: Any) -> trio.socket.SocketType:
    """The socket at the bottom of a stream."""
    while not hasattr(stream, "socket"):
        stream = stream.transport_stream
    found: trio.socket.SocketType = stream.socket
    return found


def _has_ended(stream: trio.abc.Stream) -> bool:
    """Whether the other side closed a connection that rests: nothing else would be readable on it."""
    try:
        with socket.socket(fileno=os.dup(_socket(stream).fileno())) as copy:
            return len(copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)) >= 0
    except BlockingIOError:
        return False
    except OSError:
        return True
