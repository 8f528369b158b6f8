"""What a container can ask about itself: HTTP on /dev/lxd/sock (spec/containers.md 13).

Owns that protocol and who may ask: the container is known by its own socket, its root by the kernel's word on the
caller. Refuses Quart and the main API's connections: nothing that a container sends reaches their code."""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import h11
import msgspec
import structlog
import trio
import wsproto
from quart.wrappers import Response
from wsproto.events import AcceptConnection, CloseConnection, Ping, TextMessage

from lxdnode.api import downloads
from lxdnode.api.listener import accept, unix_peer
from lxdnode.drivers.config.kinds import is_false, is_true
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import of_process, to_host
from lxdnode.node.containers.expansion import Config, expand
from lxdnode.node.containers.guest import TYPES
from lxdnode.node.containers.live import Live
from lxdnode.node.errors import NodeError
from lxdnode.node.images.records import IMAGES
from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
MOST_CONNECTIONS = 32
"""Of the root of one container at a time; further ones wait. Of all others together, who get nothing but a refusal:
further ones are closed."""
_CHUNK = 65536
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError, wsproto.utilities.ProtocolError)
_JSON, _RAW, _TEXT = "application/json", "application/octet-stream", "text/plain; charset=utf-8"


class _Refused(Exception):
    """An answer other than 200: its status, and its words as text."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


async def serve(node: Node, id: str, live: Live) -> None:
    """Answers what the container `id` asks, until cancelled."""
    listening = trio.socket.from_stdlib_socket(live.listening)
    for_root, for_others = trio.CapacityLimiter(MOST_CONNECTIONS), trio.CapacityLimiter(MOST_CONNECTIONS)
    async with trio.open_nursery() as nursery:
        while True:
            accepted = await accept(listening)
            try:
                is_root = unix_peer(accepted).uid == to_host(of_process(live.running.init.pid), 0, 0)[0]
            except (OSError, DriverError):
                is_root = False  # Its init has just ended.
            slots = for_root if is_root else for_others
            if not is_root and slots.available_tokens == 0:
                accepted.close()
                continue
            async with slots:
                connection = _Connection(node, id, live, trio.SocketStream(accepted), is_root)
            nursery.start_soon(connection.run, slots)


class _Connection:
    """One connection from inside a container."""

    def __init__(self, node: Node, id: str, live: Live, stream: trio.SocketStream, is_root: bool) -> None:
        self._node = node
        self._id = id
        self._live = live
        self._stream = stream
        self._is_root = is_root
        self._http = h11.Connection(h11.SERVER)

    async def run(self, slots: trio.CapacityLimiter) -> None:
        """Answers requests until the caller is done; what goes wrong is no affair of the daemon's."""
        async with slots, self._stream:
            try:
                while await self._answer():
                    self._http.start_next_cycle()
            except _GONE:
                return
            except Exception as error:
                log.error("request of a container failed", container=self._live.running.name, exc_info=error)

    async def _answer(self) -> bool:
        """Answers one request; whether another one may follow."""
        request = await self._next()
        if not isinstance(request, h11.Request):
            return False
        while not isinstance(await self._next(), h11.EndOfMessage):
            continue
        target = urlsplit(request.target.decode("latin1"))
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in request.headers}
        try:
            self._check()
            if target.path == "/1.0/events":
                await self._tell_events(request, headers, target.query)
                return False
            response = await self._find(unquote(target.path))
        except _Refused as refused:
            response = Response(f"{refused}\n".encode(), refused.status, content_type=_TEXT)
        await self._send(response)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def _check(self) -> None:
        if not self._is_root:
            raise _Refused(401, "Access denied for non-root user")
        if is_false(self._config().get("security.devlxd")):
            raise _Refused(403, "not authorized")

    def _config(self) -> Config:
        try:
            return expand(self._node.store.view(), self._id).config
        except NodeError:
            raise _Refused(404, "not found") from None

    async def _find(self, path: str) -> Response:
        """The answer to a path; every method is a look."""
        config, name = self._config(), self._live.running.name
        if path == "/":
            return _json(["/1.0"])
        if path == "/1.0":
            return _json({"api_version": "1.0"})
        if path == "/1.0/config":
            return _json([f"/1.0/config/{key}" for key in sorted(config) if key.startswith("user.")])
        if path.startswith("/1.0/config/"):
            return Response(_value(config, path.removeprefix("/1.0/config/")).encode(), 200, content_type=_RAW)
        if path == "/1.0/meta-data":
            own = config.get("user.meta-data", "")
            text = f"#cloud-config\ninstance-id: {name}\nlocal-hostname: {name}\n{own}"
            return Response(text.encode(), 200, content_type=_RAW)
        if path.startswith("/1.0/images/") and path.endswith("/export"):
            return await self._export(config, path.removeprefix("/1.0/images/").removesuffix("/export"))
        raise _Refused(404, "not found")

    async def _export(self, config: Mapping[str, str], fingerprint: str) -> Response:
        """An image that is public or cached, by its whole fingerprint."""
        if not is_true(config.get("security.devlxd.images")):
            raise _Refused(403, "not authorized")
        image = self._node.store.view().get(IMAGES, fingerprint)
        if image is None or image.phase != "created" or not (image.public or image.cached):
            raise _Refused(404, "not found")
        try:
            return await downloads.send(fingerprint, await self._node.images.require(fingerprint), "")
        except NodeError as error:
            raise _Refused(500, str(error)) from None

    async def _send(self, response: Response) -> None:
        headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
        head = h11.Response(status_code=response.status_code, headers=headers)
        await self._stream.send_all(self._http.send(head) or b"")
        async with cast(Any, response.response) as body:
            async for chunk in body:
                await self._stream.send_all(self._http.send(h11.Data(data=chunk)) or b"")
        await self._stream.send_all(self._http.send(h11.EndOfMessage()) or b"")

    async def _tell_events(self, request: h11.Request, headers: Mapping[str, str], query: str) -> None:
        """Changes of `user.*` keys and of devices, until the caller goes or the container ends."""
        if headers.get("upgrade", "").lower() != "websocket":
            raise _Refused(400, "events need a websocket")
        asked = parse_qs(query).get("type", [",".join(TYPES)])[0]
        socket = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        socket.initiate_upgrade_connection(request.headers.raw_items(), request.target)
        with self._live.guest.listen(frozenset(asked.split(","))) as events:
            await self._stream.send_all(socket.send(AcceptConnection()))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_until_closed, socket, nursery.cancel_scope)
                async for event in events:
                    text = msgspec.json.encode(event).decode()
                    await self._stream.send_all(socket.send(TextMessage(text)))
                await self._stream.send_all(socket.send(CloseConnection(1008, "too slow")))
                nursery.cancel_scope.cancel()

    async def _read_until_closed(self, socket: wsproto.WSConnection, scope: trio.CancelScope) -> None:
        data = self._http.trailing_data[0]
        while True:
            socket.receive_data(data)
            for event in socket.events():
                if isinstance(event, Ping):
                    await self._stream.send_all(socket.send(event.response()))
                elif isinstance(event, CloseConnection):
                    await self._stream.send_all(socket.send(event.response()))
                    scope.cancel()
            data = await self._stream.receive_some(_CHUNK)
            if not data:
                scope.cancel()
                return

    async def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(bytes(await self._stream.receive_some(_CHUNK)))
        return event


def _value(config: Mapping[str, str], key: str) -> str:
    if not key.startswith("user."):
        raise _Refused(403, "not authorized")
    if key not in config:
        raise _Refused(404, "not found")
    return config[key]


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), 200, content_type=_JSON)
