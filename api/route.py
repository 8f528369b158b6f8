"""Routes, declared once, and the request as their handlers see it.

Owns what a route says of itself (path, method, who may call it) and `Call`; refuses to dispatch (`api/app.py` does)."""

import urllib.parse
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, TypedDict, TypeVar, Unpack

from quart.wrappers import Response

from lxdnode.api.bodies import JSON_LIMIT, Body, decode
from lxdnode.node.callers import Caller
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid, PreconditionFailed
from lxdnode.node.node import Node

Handler = Callable[["Call"], Awaitable[Response] | Awaitable[None] | Response]
"""Most are asynchronous and answer; those of websockets may end without, hot ones are plain functions."""
H = TypeVar("H", bound=Handler)
T = TypeVar("T")


class Headers(dict[str, str]):
    """The headers of a request, whose names have no case; of a repeated one the last counts."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__((name.decode("latin1").lower(), value.decode("latin1")) for name, value in raw)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass(frozen=True)
class Route:
    """One method of one path. `path` has its variable parts as `<name>`, or `<path:name>` where slashes belong to it.

    guest: untrusted clients may call it, and `call.caller.trusted` tells. hot: the handler is a plain function over the
    snapshot, answered without a task and without Quart; the path has no variable parts then. websocket: the handler
    gets `call.socket`. long: it may wait for as long as the client likes (it takes no slot, and ends when the client
    goes). target: `?target=MEMBER` says where it is done. extension: what brings it. `body` and `answer` are the types
    of the JSON body and of `metadata`, for the generated reference."""

    method: str
    path: str
    handler: Callable[["Call"], Any]
    guest: bool = False
    hot: bool = False
    websocket: bool = False
    long: bool = False
    target: bool = False
    extension: str | None = None
    body: type | None = None
    answer: Any = None

    def __post_init__(self) -> None:
        if self.hot and ("<" in self.path or self.method != "GET"):
            raise ValueError(f"{self.method} {self.path}: only GET of a path without variable parts can be hot")


class Options(TypedDict, total=False):
    """What a declaration may say beyond method and path (see `Route`)."""

    guest: bool
    hot: bool
    websocket: bool
    long: bool
    target: bool
    extension: str
    body: type
    answer: Any


def route(method: str, path: str, **options: Unpack[Options]) -> Callable[[H], H]:
    """Declares the decorated function as the handler of a method of a path."""

    def declare(handler: H) -> H:
        vars(handler).setdefault("routes", []).append(Route(method, path, handler, **options))
        return handler

    return declare


def declared(module: ModuleType) -> list[Route]:
    """The routes that the functions of a module declare, in the order of the file."""
    own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
    return [one for value in own for one in getattr(value, "routes", [])]


class Call:
    """One request, as a handler sees it."""

    def __init__(
        self,
        node: Node,
        caller: Caller,
        method: str,
        path: str,
        query_string: bytes,
        headers: Headers,
        body: Body,
        arguments: Mapping[str, str],
    ) -> None:
        self.node = node
        self.caller = caller
        self.method = method
        self.path = path
        self.headers = headers
        self.arguments = arguments
        self.query_string = query_string
        self.socket: Any = None
        """The websocket (`api/websockets.py`) of a websocket route."""
        self.form: Mapping[str, str] = {}
        self.stale: int | None = None
        """The index that a read was answered from, when the cluster could not confirm it in time."""
        self._body = body

    @cached_property
    def query(self) -> dict[str, str]:
        """The first value of each query parameter, or form value of that name (spec/rest.md 1.1)."""
        text = self.query_string.decode("latin1")
        pairs = urllib.parse.parse_qs(text, keep_blank_values=True) if text else {}
        return {**self.form, **{name: values[0] for name, values in pairs.items()}}

    @property
    def recursion(self) -> bool:
        """Whether a list shows objects instead of URLs: any number but 0 (spec/rest.md 1.7)."""
        text = self.query.get("recursion", "")
        return text.lstrip("+-").isdecimal() and int(text) != 0

    @property
    def request(self) -> str:
        """Method and path, as histories and logs name the request."""
        return f"{self.method} {self.path}"

    @property
    def transaction(self) -> str | None:
        """The id under which a client repeats a write whose outcome it does not know (DESIGN.md 3.6). Invalid when it
        is no uuid."""
        id = self.headers.get("X-LXD-Node-Transaction")
        if not id:
            return None
        try:
            return str(uuid.UUID(id))
        except ValueError:
            raise Invalid(f"X-LXD-Node-Transaction: '{id}' is no uuid") from None

    async def json(self, kind: type[T]) -> T:
        """The JSON body as `kind` (a msgspec Struct, as a rule). Invalid with the parser's words; TooLarge."""
        return await decode(await self._body.read(JSON_LIMIT), kind)

    async def body(self, limit: int = JSON_LIMIT) -> bytes:
        """The whole body, of at most `limit` bytes. TooLarge above it."""
        return await self._body.read(limit)

    def stream(self) -> AsyncIterator[bytes]:
        """The body in chunks of at most 256 KiB, read from the connection as they are consumed. ClientGone when the
        client goes before its end."""
        return self._body

    def keep(self, data: bytes) -> None:
        """Puts back a body that was read to its end by `stream`, for a request that another member must answer."""
        self._body.keep(data)

    def match(self, etag: str) -> None:
        """PreconditionFailed when the client changed what it read under another ETag (spec/rest.md 1.9)."""
        given = self.headers.get("If-Match", "")
        if given and given != etag:
            raise PreconditionFailed(f"ETag doesn't match: {etag} vs {given}")

    async def transact(self, rule: Callable[[Draft], T]) -> T:
        """Commits what `rule` writes on behalf of the caller (see `Store.transact`)."""
        return await self.node.store.transact(
            rule, author=self.caller.author, request=self.request, transaction=self.transaction
        )

    async def view(self) -> View:
        """A linearizable snapshot. When the cluster cannot confirm one in time, the local one: the answer says so with
        header and field `stale` (DESIGN.md 3.6)."""
        self.stale = await self.node.store.barrier()
        return self.node.store.view()
