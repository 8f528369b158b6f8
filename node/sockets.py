"""The websockets of an operation: each is known by a secret, and comes when a client connects with it.

Owns secrets and the copying between a websocket and a stream of bytes; refuses to know HTTP (`api/websockets.py`)."""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import trio

from lxdnode.node.errors import NodeError

CHUNK = 64 * 2**10
"""Bytes of one binary message that is sent."""
NO_SECRET = "missing secret"
END = ""
"""The empty text message that ends a direction (spec/client.md)."""
NONSENSE = (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError)
"""What comes of reading a control message that makes no sense, which is ignored."""


class Socket(Protocol):
    """One accepted websocket. `receive` raises trio.EndOfChannel after the client's last message, `send`
    trio.BrokenResourceError when the client has gone; `is_broken` then tells whether it went without a goodbye."""

    @property
    def is_broken(self) -> bool: ...
    async def receive(self) -> str | bytes: ...
    async def send(self, message: str | bytes) -> None: ...
    async def close(self, code: int = 1000, reason: str = "") -> None: ...
    async def wait_gone(self) -> None: ...


def new_secret() -> str:
    """64 hex digits (32 random bytes), spec/security.md 10."""
    return secrets.token_hex(32)


class Sockets:
    """The sockets that an operation waits for, by name (`0`, `control`, `fs` ...)."""

    def __init__(self, names: Iterable[str]) -> None:
        self.secrets = {name: new_secret() for name in names}
        """name -> secret, as `metadata` shows them."""
        self._connected: dict[str, Socket] = {}
        self._changed = trio.Event()
        self._over = trio.Event()

    async def get(self, name: str) -> Socket:
        """The socket of that name, once a client has connected it; there is no limit on the time."""
        while name not in self._connected:
            await self._changed.wait()
        return self._connected[name]

    def find(self, name: str) -> Socket | None:
        """The socket of that name if it is connected now."""
        return self._connected.get(name)

    def check(self, secret: str) -> str:
        """The name of the socket with a secret. NodeError with LXD's words for a wrong one, which tells nothing."""
        if not secret:
            raise NodeError(NO_SECRET)
        for name, known in self.secrets.items():
            if secrets.compare_digest(known.encode(), secret.encode()):
                return name
        raise NodeError("permission denied")

    async def attach(self, secret: str, socket: Socket) -> None:
        """Hands a client's socket over, and returns when the operation needs it no more. A second one with the same
        secret takes the place of the first (spec/security.md 10)."""
        name = self.check(secret)
        self._connected[name] = socket
        self._changed.set()
        self._changed = trio.Event()
        await self._over.wait()

    def release(self) -> None:
        """Lets all sockets go: the operation has ended."""
        self._over.set()


async def receive_into(socket: Socket, write: Callable[[bytes], Awaitable[None]]) -> None:
    """Copies the client's messages to `write` (`stream.send_all`) until the client ends its direction; what `write`
    cannot take now stays with the client. Returns early when the reader behind `write` has gone."""
    try:
        while (message := await socket.receive()) != END:
            await write(message.encode() if isinstance(message, str) else message)
    except (trio.EndOfChannel, trio.BrokenResourceError):
        return


async def send_from(read: Callable[[int], Awaitable[bytes | bytearray]], socket: Socket) -> None:
    """Copies what `read` (`stream.receive_some`) gives to the client, then ends the direction. A terminal whose last
    user has gone ends with an error of its own. trio.BrokenResourceError when the client has gone."""
    while True:
        try:
            data = await read(CHUNK)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            break
        await socket.send(bytes(data))
    await socket.send(END)
