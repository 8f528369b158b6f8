"""A small HTTP/1.1 client over any trio stream: what members and the joining server ask of each other.

Owns one request on one stream, with the body as bytes or as chunks; refuses redirects, proxies and pools (websockets
and user requests between members go through the tunnel of `api/forward.py`)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import h11
import msgspec
import trio

from lxdnode.node.errors import NodeError

_READ = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """A whole answer. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def metadata(self) -> Any:
        """The `metadata` of an API answer. NodeError with the answer's own words when it is an error."""
        try:
            envelope = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            raise NodeError(f"unexpected answer {self.status}: {self.body[:200]!r}") from None
        if self.status >= 400:
            raise NodeError(str(envelope.get("error", f"answer {self.status}")))
        return envelope.get("metadata")


class Exchange:
    """One request that was sent, whose answer is read in chunks."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT)
        self.status = 0
        self.headers: dict[str, str] = {}

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Sends the request and reads the head of its answer into `status` and `headers`."""
        fields = {"host": "lxd-node", "content-length": str(len(body)), **headers}
        head = self._connection.send(h11.Request(method=method, target=path, headers=list(fields.items())))
        data = self._connection.send(h11.Data(data=body)) if body else b""
        end = self._connection.send(h11.EndOfMessage())
        try:
            await self._stream.send_all((head or b"") + (data or b"") + (end or b""))
        except trio.BrokenResourceError as error:
            raise NodeError(f"the connection to the server broke: {error}") from error
        while not isinstance(event := await self._next(), h11.Response):
            pass
        self.status = event.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}

    def chunks(self) -> AsyncIterator[bytes]:
        """The body of the answer as it comes. NodeError when the connection breaks before its end."""
        return _Chunks(self._next)

    async def _next(self) -> Any:
        while True:
            try:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    self._connection.receive_data(bytes(await self._stream.receive_some(_READ)))
                    continue
            except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
                raise NodeError(f"the connection to the server broke: {error}") from error
            if isinstance(event, h11.ConnectionClosed):
                raise NodeError("the server closed the connection before its answer was complete")
            return event


class _Chunks(AsyncIterator[bytes]):
    """Not a generator: one that is left in the middle would have to be closed by each who does."""

    def __init__(self, next_event: Callable[[], Awaitable[Any]]) -> None:
        self._next_event = next_event

    async def __anext__(self) -> bytes:
        while not isinstance(event := await self._next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                return bytes(event.data)
        raise StopAsyncIteration


async def request(
    stream: trio.abc.Stream, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Sends one request with a JSON body (None: without) and reads the whole answer."""
    exchange = Exchange(stream)
    data = b"" if body is None else msgspec.json.encode(body)
    await exchange.send(method, path, {"content-type": "application/json", **(headers or {})}, data)
    return Answer(exchange.status, exchange.headers, b"".join([chunk async for chunk in exchange.chunks()]))
