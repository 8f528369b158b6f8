"""The websockets of an operation on another server, dialled by us: who answers is known by its certificate alone.

Owns the dialling and the socket as `node/sockets.py` describes it; refuses to know what goes over it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError, WebSocketConnection, wrap_client_stream

from lxdnode.node import web
from lxdnode.node.errors import NodeError, alone

_DIAL_LIMIT = 10.0
"""Seconds to connect to an address (spec/migration.md 8)."""
_LARGEST = 16 << 20
"""Bytes of one message: LXD's streams have up to 4 MiB."""
_READ = 256 * 1024


class DialledSocket:
    """One websocket to another server; a `Socket` of `node/sockets.py`."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    @property
    def is_broken(self) -> bool:
        """Whether it ended without a goodbye."""
        closed = self._connection.closed
        return closed is not None and closed.code == 1006

    async def receive(self) -> str | bytes:
        """The next message. trio.EndOfChannel when the other side has gone."""
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            raise trio.EndOfChannel from None

    async def send(self, message: str | bytes) -> None:
        """Sends a message. trio.BrokenResourceError when the other side has gone."""
        try:
            await self._connection.send_message(message)
        except ConnectionClosed as error:
            raise trio.BrokenResourceError("the websocket was closed by the other server") from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye."""
        with suppress(ConnectionClosed):
            await self._connection.aclose(code, reason)

    async def wait_gone(self) -> None:
        """Never returns: who dials notices the end by what it receives."""
        await trio.sleep_forever()


class Dialled:
    """Sockets by name, as `Sockets.get` gives them."""

    def __init__(self, sockets: Mapping[str, DialledSocket]) -> None:
        self._sockets = sockets

    async def get(self, name: str) -> DialledSocket:
        """The socket of that name."""
        return self._sockets[name]


@asynccontextmanager
async def dialled(operation: str, secrets: Mapping[str, str], certificate: str) -> AsyncIterator[Dialled]:
    """The sockets of an operation while the block runs, one per secret.

    `operation`: its URL, `https://ADDRESS/1.0/operations/ID`. `certificate`: PEM of the server's, "" to trust whom the
    system trusts. NodeError when the server cannot be reached, is another one, or refuses."""
    pin = web.pin(certificate)
    try:
        with alone():
            async with trio.open_nursery() as nursery:
                connect = partial(_connect, nursery, operation, pin=pin)
                sockets = {name: DialledSocket(await connect(secret)) for name, secret in secrets.items()}
                yield Dialled(sockets)
                for socket in sockets.values():
                    with trio.move_on_after(1):
                        await socket.close()
                nursery.cancel_scope.cancel()
    # The library raises these in a task of its own, thus out of the nursery.
    except ConnectionRejected as error:
        words = (error.body or b"").decode(errors="replace")
        raise NodeError(f"{operation} refuses the websocket: {error.status_code} {words}") from error
    except HandshakeError as error:
        raise NodeError(f"{operation} offers no websocket: {error}") from error


async def _connect(nursery: trio.Nursery, operation: str, secret: str, pin: str) -> WebSocketConnection:
    url = urlsplit(operation)
    if url.scheme not in ("https", "wss") or url.hostname is None:
        raise NodeError(f"Invalid operation '{operation}': it must be https://ADDRESS/1.0/operations/ID")
    try:
        with trio.fail_after(_DIAL_LIMIT):
            stream = await web.connect_tls(url.hostname, url.port or 443, pin)
            resource = f"{url.path}/websocket?secret={secret}"
            return await wrap_client_stream(
                nursery, stream, url.netloc, resource, max_message_size=_LARGEST, receive_buffer_size=_READ
            )
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise NodeError(f"Unable to connect to: {url.netloc}: {web.reason(error)}") from error
