"""The application: every route on one Quart app, and what happens to each request before and after its handler.

Owns dispatch, CORS, the slots for requests in work, and JSON errors on every path (spec/rest.md 1.1); refuses to know
connections (`api/protocol.py`)."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar, cast

import trio
from quart import request, websocket
from quart.wrappers import Response
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioResponse
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from lxdnode.api import responses, routes
from lxdnode.api.access import admit, identify
from lxdnode.api.bodies import Body, form
from lxdnode.api.forward import Forward, relay
from lxdnode.api.links import Links
from lxdnode.api.route import Call, Headers, Route, declared
from lxdnode.api.waiting import unless
from lxdnode.api.websockets import Socket, WebsocketConnection
from lxdnode.node.callers import Caller
from lxdnode.node.errors import NodeError
from lxdnode.node.node import Node

T = TypeVar("T")
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH")
ANY = "ANY"
_FORM = "application/x-www-form-urlencoded"
_FORM_SIZES = range(1, 64 * 2**10)
"""Larger ones are files: curl calls every body a form."""
_ORDINARY, _MEMBERS, _GUESTS = 32, 64, 8
_CORS = (
    ("Access-Control-Allow-Origin", "core.https_allowed_origin"),
    ("Access-Control-Allow-Methods", "core.https_allowed_methods"),
    ("Access-Control-Allow-Headers", "core.https_allowed_headers"),
)


class HTTPConnection(TrioASGIHTTPConnection):
    """One request, run in the task of its connection: its body is pulled by the handler, so there is no task that
    feeds Quart's, and a client that sends faster than the handler reads is held back by TCP."""

    async def __call__(self, receive: Any, send: Any) -> None:
        app = cast(App, self.app)
        scope = cast(dict[str, Any], self.scope)
        headers = scope["lxdnode.headers"]
        scope["lxdnode.body"] = Body(receive, _length(headers))
        scope["lxdnode.receive"] = receive
        if scope["method"] == "OPTIONS":
            response: Any = TrioResponse(b"", 200)
            del response.headers["Content-Type"]
        else:
            response = await self._dispatch(app, scope, receive, send)
        if response is not None:
            app.allow_origin(scope["path"], headers, response)
            await self._send_response(send, response)

    async def _dispatch(self, app: "App", scope: dict[str, Any], receive: Any, send: Any) -> Any:
        """The response, or None when a member has answered the client through the tunnel. A member that is not the
        owner refuses; after a barrier the handler looks once more (DESIGN.md 4)."""
        response = await app.handle_request(self._create_request_from_scope(send))
        for last in (False, True):
            if not isinstance(response, Forward):
                return response
            relaying = partial(relay, app.links, response, scope, send, last)
            try:
                # A client that only looks may go; what changes something is carried on without it.
                looking = scope["method"] == "GET"
                if await (app.while_connected(relaying, receive) if looking else relaying()) is not False:
                    return None
            except NodeError as error:
                return responses.failure(error, response.call.request)
            await app.node.store.barrier()
            response = await app.handle_request(self._create_request_from_scope(send))
        return response


class App(QuartTrio):
    """The API of one node. `hot` has the routes that the connection may answer without a task."""

    asgi_http_class = HTTPConnection
    asgi_websocket_class = WebsocketConnection

    def __init__(self, node: Node, declarations: list[Route]) -> None:
        super().__init__("lxdnode.api", static_folder=None)
        self.node = node
        self.links = Links(node)
        self.ending = trio.Event()
        """Set when the daemon ends: who waits for something is sent home."""
        self.declarations = declarations
        self.hot = {one.path.encode(): one for one in declarations if one.hot}
        self._ordinary = trio.CapacityLimiter(_ORDINARY)
        self._members = trio.CapacityLimiter(_MEMBERS)
        self._guests = trio.CapacityLimiter(_GUESTS)
        self.url_map.merge_slashes = False
        self.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
        for one in declarations:
            self._register(one)
        self.register_error_handler(HTTPException, self._refuse)

    def _register(self, route: Route) -> None:
        methods = [*METHODS, "HEAD"] if route.method == ANY else [route.method]
        view: Any = partial(self._socket if route.websocket else self._answer, route)
        self.add_url_rule(
            route.path,
            f"{route.method} {route.path}",
            view,
            methods=None if route.websocket else methods,
            websocket=route.websocket,
            provide_automatic_options=False,
        )

    def call(self, scope: Mapping[str, Any], arguments: Mapping[str, str]) -> Call:
        """The request of an ASGI scope as handlers see it, with its caller judged."""
        headers: Headers = scope["lxdnode.headers"]
        caller = identify(self.node.trust, scope["state"]["peer"], headers)
        return Call(
            self.node,
            caller,
            scope.get("method", "GET"),
            scope["path"],
            scope["query_string"],
            headers,
            scope["lxdnode.body"],
            arguments,
        )

    def answer_hot(self, route: Route, scope: dict[str, Any]) -> Response:
        """The answer of a hot route, at once."""
        call = self.call(scope, {})
        try:
            admit(call.caller, call.headers, route.guest)
            response = cast(Response, route.handler(call))
        except Exception as error:
            response = responses.failure(error, call.request)
        self.allow_origin(call.path, call.headers, response)
        return response

    async def _answer(self, route: Route, **arguments: str) -> Response:
        """Runs a handler: trust first, then the method, then a slot, then the handler (spec/rest.md 1.1)."""
        call = self.call(cast(dict[str, Any], request.scope), arguments)
        try:
            if route.method != ANY:
                admit(call.caller, call.headers, route.guest)
                if call.method == "HEAD":
                    return _unknown_method("HEAD")
            if call.headers.get("Content-Type", "").startswith(_FORM) and _length(call.headers) in _FORM_SIZES:
                call.form = form(await call.body()) or {}
            response = await self._run(route, call)
        except Exception as error:
            response = responses.failure(error, call.request)
        if call.stale is None or (route.method != "GET" and response.status_code < 400):
            return response  # what was read, or: the log has checked what the change was based on
        return responses.mark_stale(response, call.stale)

    async def _run(self, route: Route, call: Call) -> Response:
        if route.hot:
            return cast(Response, route.handler(call))
        if route.long:
            receive = request.scope["lxdnode.receive"]  # type: ignore[typeddict-item]
            response = await self.while_connected(partial(route.handler, call), receive)
            return response or responses.error(503, "the daemon is shutting down")
        async with self._slots(call.caller):
            return cast(Response, await route.handler(call))

    async def while_connected(self, function: Callable[[], Awaitable[T]], receive: Any) -> T | None:
        """What `function` returns; None when its client has gone, or the daemon ends, before that."""

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        return await unless(function, gone, self.ending.wait)

    def _slots(self, caller: Caller) -> trio.CapacityLimiter:
        """Requests of members have slots of their own, so that two members cannot wait for each other; guests too,
        so that strangers cannot hold those of the others."""
        if caller.member is not None:
            return self._members
        return self._ordinary if caller.trusted else self._guests

    async def _socket(self, route: Route, **arguments: str) -> Response | None:
        """Runs the handler of a websocket route; until it has accepted the socket it may still answer with an error."""
        call = self.call(cast(dict[str, Any], websocket.scope), arguments)
        try:
            admit(call.caller, call.headers, route.guest)
            call.socket = Socket(websocket._get_current_object())  # type: ignore[attr-defined]
            return cast(Response | None, await route.handler(call))
        except Exception as error:
            response = responses.failure(error, call.request)
            if call.socket is not None and call.socket.accepted:
                await call.socket.close(1011)
                return None
            return response

    async def _refuse(self, error: HTTPException) -> Response:
        """The answer where no handler was found: 404 on unknown paths, 501 for a method that a known path lacks."""
        scope = cast(dict[str, Any], (request or websocket).scope)
        method = scope.get("method", "GET")
        if not isinstance(error, MethodNotAllowed):
            if error.code == 404:
                return responses.error(404, "not found")
            return responses.error(error.code or 500, error.description or error.name)
        call = self.call(scope, {})
        if not call.caller.trusted:
            return responses.error(403, "not authorized")
        return responses.error(501, "not implemented") if method in METHODS else _unknown_method(method)

    async def handle_exception(self, error: Exception) -> Response:
        """A fault outside of any handler."""
        return responses.failure(error, "request")

    def allow_origin(self, path: str, headers: Headers, response: Any) -> None:
        """Adds the CORS headers that the settings ask for, on every path but the members' own (spec/security.md 7)."""
        if path.startswith("/internal"):
            return
        settings = self.node.settings
        if "origin" in headers and settings.get("core.https_allowed_origin"):
            for name, key in _CORS:
                if value := settings.get(key):
                    response.headers[name] = value
        if settings.flag("core.https_allowed_credentials"):
            response.headers["Access-Control-Allow-Credentials"] = "true"


def create_app(node: Node) -> App:
    """The app with all routes of `api/routes`. `node` is what `node/daemon.py` builds."""
    return App(node, [one for module in routes.MODULES for one in declared(module)])


def _unknown_method(method: str) -> Response:
    return responses.error(404, f"Method '{method}' not found")


def _length(headers: Headers) -> int | None:
    """The length of the body; 0 when there is none, None when it comes in chunks. h11 has checked the numbers."""
    return None if "transfer-encoding" in headers else int(headers.get("content-length", 0))
