"""One connection: HTTP/1.1 in the connection's own task, without a task, a channel or a timer per request.

Owns reading, sending, deadlines and the hot path (measured in api/DESIGN.md); refuses to know routes and trust.
hypercorn's TCPServer and HTTPStream are left out: the idle timer task, the feeding task and three sends a request
were two thirds of the cost of a GET. Its H11Protocol stays, and its websockets."""

import http.client
import math
from collections.abc import Mapping
from time import time
from typing import Any, cast
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

import h11
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, H11SendableEvent
from quart.wrappers import Response
from quart.wrappers.response import DataBody

from lxdnode.api import responses
from lxdnode.api.app import App
from lxdnode.api.bodies import Body
from lxdnode.api.forward import tunnel, websocket_owner
from lxdnode.api.route import Headers
from lxdnode.node.callers import Caller, Peer
from lxdnode.node.errors import Invalid, cause

log = structlog.get_logger(__name__)

READ_SIZE = 256 * 2**10
HEAD_LIMIT = 64 * 2**10
KEEP_ALIVE = 120.0
"""Seconds that a connection may stay without a request, and in which the head of one must be complete."""
DRAIN_BYTES, DRAIN_SECONDS = 256 * 2**10, 2.0
"""What is read of a body that the handler did not want, before the connection is given up."""


def configure() -> Config:
    """hypercorn's settings for all connections."""
    config = Config()
    config.include_server_header = False
    config.h11_max_incomplete_size = HEAD_LIMIT
    config.keep_alive_max_requests = 2**62
    config.max_app_queue_size = 4
    config.errorlog = None
    return config


class Connection:
    """Serves one accepted stream until either side ends it."""

    def __init__(self, app: App, config: Config, context: WorkerContext, stream: trio.abc.Stream, peer: Peer) -> None:
        self.app = app
        self.stream = stream
        self.peer = peer
        self.idle = True
        self.closing = False
        self._config = config
        self._context = context
        self._deadline = trio.current_time() + KEEP_ALIVE
        self._protocol: Protocol | None = None
        self._reading = trio.CancelScope()
        self._sending = trio.Lock()

    @property
    def is_websocket(self) -> bool:
        """Whether it has become one, and has no end of its own."""
        return self._protocol is not None and isinstance(self._protocol.connection, H11WSConnection)

    async def run(self) -> None:
        """Reads and answers until the end; never raises but Cancelled."""
        try:
            async with TaskGroup() as group:
                protocol = self._protocol = Protocol(self, self._config, self._context, group)
                while not self.closing:
                    data = await self.read()
                    await protocol.handle(RawData(data))
                    if not data:
                        break
                await protocol.handle(Closed())
        except Exception as error:
            if not isinstance(cause(error), trio.BrokenResourceError | trio.ClosedResourceError):
                log.exception("connection failed", address=self.peer.address)
        finally:
            await self._close()
            self._protocol = None  # each knows the other: what has ended is freed at once, not by the next search

    async def read(self) -> bytes:
        """What the client sent next; b"" at its end, at the idle deadline, and when the connection is being closed."""
        if self.closing:
            return b""
        with trio.CancelScope(deadline=self._deadline) as self._reading:
            try:
                return bytes(await self.stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return b""
        return b""

    async def send(self, event: Event) -> None:
        """What hypercorn's protocol wants of the connection."""
        if isinstance(event, RawData):
            await self.write(event.data)
        elif isinstance(event, Closed):
            self.end()

    def work(self) -> None:
        """A request has begun: reads wait for as long as it takes."""
        self.idle = False
        self._deadline = math.inf

    def rest(self) -> None:
        """A request has ended: the next must come within the keep-alive time, or none when the listener closes."""
        self.idle = True
        self._deadline = trio.current_time() + KEEP_ALIVE
        if self._context.terminated.is_set():
            self.end()

    async def write(self, data: bytes) -> None:
        """Sends bytes, one sender at a time: a websocket's pongs come from another task than its messages."""
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            await self.stream.send_all(data)
        finally:
            self._sending.release()

    def end(self) -> None:
        """Ends the connection once what is being written is written."""
        self.closing = True
        self._reading.cancel()

    async def _close(self) -> None:
        """Says goodbye, then reads for a moment what the client still sends: closing at once would reset the
        connection, and the client would lose the answer that says why."""
        with trio.move_on_after(DRAIN_SECONDS) as scope:
            scope.shield = True
            try:
                if isinstance(self.stream, trio.abc.HalfCloseableStream):
                    await self.stream.send_eof()
                    if self._protocol is not None and self._protocol.cut_short:
                        while await self.stream.receive_some(READ_SIZE):
                            pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                pass
        await trio.aclose_forcefully(self.stream)


class Protocol(H11Protocol):
    """HTTP/1.1 of one connection. Requests run inside `handle`; websockets in a task of their own, as in hypercorn."""

    connection: Any  # h11.Connection, and H11WSConnection once it is a websocket

    def __init__(self, connection: Connection, config: Config, context: WorkerContext, group: TaskGroup) -> None:
        self._server = connection
        self._app = connection.app
        self._held = b""
        self._ahead: Any = None  # what follows the part of the body that was handed out last
        self._bodiless = False
        self.cut_short = False
        """Whether the connection ended before the client's request did."""
        super().__init__(
            ASGIWrapper(connection.app),
            config,
            context,
            group,
            ConnectionState(cast(Any, {"peer": connection.peer})),
            connection.peer.kind == "tls",
            (connection.peer.address, 0),
            None,
            connection.send,
        )

    async def _handle_events(self) -> None:
        while not isinstance(self.connection, H11WSConnection) and not self._server.closing:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._send_error_response(error.error_status_hint)
                self._server.end()
                return
            if not isinstance(event, h11.Request):
                return
            self._server.work()
            await self._create_stream(event)
        if not self._server.closing:
            await super()._handle_events()

    async def _create_stream(self, request: h11.Request) -> None:
        """Runs one request to its end."""
        scope = self._scope(request)
        headers: Headers = scope["lxdnode.headers"]
        if headers.get("upgrade", "").lower() == "websocket" and scope["method"] == "GET":
            if found := websocket_owner(self._app.node, scope):
                await self._tunnel(*found, scope)
            else:
                await super()._create_stream(request)
            return
        # With a target another member may have to answer, which takes a tunnel.
        looks_here = scope["method"] == "GET" and b"target=" not in scope["query_string"]
        route = self._app.hot.get(scope["raw_path"]) if looks_here else None
        if route is not None and "content-length" not in headers and "transfer-encoding" not in headers:
            await self._send_whole(self._app.answer_hot(route, scope))
        else:
            self._bodiless = scope["method"] == "HEAD"
            await self._app(cast(Any, scope), cast(Any, self._receive), cast(Any, self._respond))
        await self._recycle()

    async def stream_send(self, event: StreamEvent) -> None:
        """A websocket says here that it ended in order, and not that its connection broke: hypercorn calls both
        abnormal when the client was first."""
        if isinstance(event, StreamClosed) and isinstance(self.stream, WSStream):
            self.stream.state = ASGIWebsocketState.CLOSED
        await super().stream_send(event)

    async def _tunnel(self, member: int, caller: Caller, scope: dict[str, Any]) -> None:
        try:
            await tunnel(self._app.links, member, caller, scope, self._server, self.connection)
        except Exception as error:
            log.info("websocket to another member ended", member=member, error=str(cause(error)))
            if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send_whole(responses.failure(error, f"GET {scope['path']}"))
            self._server.end()

    def _scope(self, request: h11.Request) -> dict[str, Any]:
        path, _, query = bytes(request.target).partition(b"?")
        raw = list(request.headers)
        state = self.connection_state
        return {
            "type": "http",
            "http_version": request.http_version.decode(),
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": request.method.decode("ascii"),
            "scheme": "https" if self.ssl else "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": raw,
            "client": self.client,
            "server": None,
            "state": state,
            "extensions": {},
            "lxdnode.headers": Headers(raw),
            "lxdnode.body": NO_BODY,
        }

    async def _receive(self) -> dict[str, Any]:
        """The next part of the body, read from the connection now: nothing is buffered ahead of the handler. After
        its end it waits until the client goes, as ASGI wants it."""
        while True:
            event, self._ahead = self._ahead or self._next_event(), None
            if event is h11.NEED_DATA:
                if self.connection.they_are_waiting_for_100_continue:
                    await self._server.write(
                        self.connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                    )
                data = await self._server.read()
                if not data:
                    return {"type": "http.disconnect"}
                self.connection.receive_data(data)
            elif isinstance(event, h11.Data):
                return {"type": "http.request", "body": self._with_more(event), "more_body": True}
            elif isinstance(event, h11.EndOfMessage):
                return {"type": "http.request", "body": b"", "more_body": False}
            elif event is h11.PAUSED:
                # The next request has come already: its client is there, and reading on would only fill memory.
                await trio.sleep_forever()
            else:
                return {"type": "http.disconnect"}

    def _with_more(self, first: h11.Data) -> bytes:
        """All of the body that was read: who sends it in many small chunks has them handled, and passed on, as one."""
        parts = [first.data]
        while isinstance(event := self._next_event(), h11.Data):
            parts.append(event.data)
        self._ahead = event
        return b"".join(parts)

    def _next_event(self) -> Any:
        try:
            return self.connection.next_event()
        except h11.RemoteProtocolError as error:
            raise Invalid(f"malformed body: {error}") from error

    async def _respond(self, message: Mapping[str, Any]) -> None:
        """Sends what the app answers: the head together with the first part of the body."""
        if message["type"] == "http.response.start":
            headers = [*message["headers"], date()]
            code = message["status"]
            self._held = self._encode(h11.Response(status_code=code, reason=reason(code), headers=headers))
            return
        data, self._held = self._held, b""
        if message.get("body") and not self._bodiless:
            data += self._encode(h11.Data(data=message["body"]))
        if not message.get("more_body", False):
            data += self._encode(h11.EndOfMessage())
        if data:
            await self._server.write(data)

    async def _send_whole(self, response: Response) -> None:
        """Sends a response whose body is in memory, at once."""
        headers = [(name.encode(), value.encode("latin1")) for name, value in response.headers]
        code = response.status_code
        head = self._encode(h11.Response(status_code=code, reason=reason(code), headers=[*headers, date()]))
        body = self._encode(h11.Data(data=cast(DataBody, response.response).data))
        await self._server.write(head + body + self._encode(h11.EndOfMessage()))

    async def _send_error_response(self, status_code: int) -> None:
        """The answer to what is no HTTP, in JSON like every other."""
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.cut_short = True
            await self._send_whole(responses.error(status_code, "malformed HTTP request"))

    async def _recycle(self) -> None:
        """Makes the connection ready for the next request, or ends it."""
        try:
            if await self._drain():
                self.connection.start_next_cycle()
                self._ahead = None
                self._server.rest()
                return
        except (h11.ProtocolError, Invalid):
            pass
        self.cut_short = self.connection.their_state is h11.SEND_BODY
        self._server.end()

    async def _drain(self) -> bool:
        """Reads what the handler left of a small body; whether both sides are done."""
        if self.connection.our_state is not h11.DONE or self.connection.they_are_waiting_for_100_continue:
            return False
        left = DRAIN_BYTES
        with trio.move_on_after(DRAIN_SECONDS):
            while self.connection.their_state is h11.SEND_BODY and left > 0:
                message = await self._receive()
                if message["type"] != "http.request":
                    return False
                left -= len(message["body"])
        return self.connection.their_state is h11.DONE

    def _encode(self, event: H11SendableEvent) -> bytes:
        return self.connection.send(event) or b""


def reason(code: int) -> bytes:
    """The words beside a status code."""
    return http.client.responses.get(code, "").encode()


def date() -> tuple[bytes, bytes]:
    """The Date header of an answer."""
    return (b"date", format_date_time(time()).encode("ascii"))


NO_BODY = Body(cast(Any, None), 0)
