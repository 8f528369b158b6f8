"""Request bodies: pulled from the connection as they are consumed, and decoded as JSON or as form values.

Owns the limits on bodies and the meaning of `null` (Go's zero value, spec/rest.md 1.1); refuses to buffer a stream."""

import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import trio

from lxdnode.node.errors import Invalid, NodeError, TooLarge

JSON_LIMIT = 4 * 2**20
"""Bytes of a JSON body. The store takes transactions of 512 KiB, so that more can mean nothing."""
THREAD_FROM = 256 * 2**10
"""A JSON body from this size on is decoded in a thread, so that the loop is not held (DESIGN.md 5)."""
CHUNK_TIMEOUT = 30
"""Seconds in which the next chunk of a buffered body must come."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
T = TypeVar("T")


class ClientGone(NodeError):
    """The client closed the connection before its body was complete."""


class Body:
    """The body of one request: either streamed once, or read whole and kept (a request may be dispatched twice)."""

    def __init__(self, receive: Receive, length: int | None) -> None:
        """`length` is None when it is not known beforehand (chunked)."""
        self._receive = receive
        self._length = length
        self._kept: bytes | None = None
        self._ended = False
        self.started = False
        """Whether bytes were handed out as a stream: such a request cannot be repeated elsewhere."""

    @property
    def is_empty(self) -> bool:
        """Whether the head says that there is no body."""
        return self._length == 0

    @property
    def kept(self) -> bytes | None:
        """The whole body, when it was read already."""
        return self._kept

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk as it arrives, at most 256 KiB. ClientGone when the body ends early.

        Not a generator: one that is left in the middle would have to be closed by each who does."""
        if self._kept is not None and not self.started:
            self.started = True
            return self._kept
        self.started = True
        while not self._ended:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone("the connection was closed before the body was complete")
            self._ended = not message["more_body"]
            if message["body"]:
                data: bytes = message["body"]
                return data
        raise StopAsyncIteration

    def keep(self, data: bytes) -> None:
        """Puts back a body that was read to its end as a stream: it can be read once more, and sent elsewhere."""
        self._kept, self.started = data, False

    async def read(self, limit: int) -> bytes:
        """The whole body. TooLarge when it has more than `limit` bytes, before they are read where it can be."""
        if self._kept is not None:
            return self._kept
        if self._length is not None and self._length > limit:
            raise TooLarge(f"The body has {self._length} bytes, at most {limit} are taken")
        data = bytearray()
        with trio.move_on_after(CHUNK_TIMEOUT) as scope:
            async for chunk in self:
                scope.deadline = trio.current_time() + CHUNK_TIMEOUT
                data += chunk
                if len(data) > limit:
                    raise TooLarge(f"The body has more than {limit} bytes")
        if scope.cancelled_caught:
            raise Invalid(f"The body was not complete: nothing came for {CHUNK_TIMEOUT} s")
        self.keep(bytes(data))
        return bytes(data)


async def decode(body: bytes, kind: type[T]) -> T:
    """The body as `kind`; unknown fields are ignored, null is the same as absent. Invalid with the parser's words."""
    if len(body) < THREAD_FROM:
        return _decode(body, kind)
    return await trio.to_thread.run_sync(_decode, body, kind)


def form(body: bytes) -> dict[str, str] | None:
    """The first value of each field of a form, or None for a body that is JSON: `curl -d` calls all bodies forms."""
    if body.lstrip()[:1] in (b"{", b"["):
        return None
    fields = urllib.parse.parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as first:
        if b"null" not in body:
            raise Invalid(_words(first)) from None
    except (msgspec.DecodeError, RecursionError) as fault:
        raise Invalid(_words(fault)) from None
    try:
        return msgspec.convert(_zeroed(msgspec.json.decode(body), kind), kind)
    except (msgspec.ValidationError, RecursionError) as fault:
        raise Invalid(_words(fault)) from None


def _words(fault: Exception) -> str:
    """The parser's words, said to be about the body: `json: Expected `str`, got `int` - at `$.name``."""
    return f"json: {fault}"


def _zeroed(value: Any, kind: Any) -> Any:
    """`value` without the fields of structs that are null, and with "" for null texts in maps: Go writes null for
    every map and list that was never set, and the `lxc` client sends them."""
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        return {
            name: _zeroed(item, types.get(name))
            for name, item in value.items()
            if item is not None or name not in types
        }
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, dict) and origin is dict:
        return {name: _zeroed(item, arguments[1]) for name, item in value.items()}
    if isinstance(value, list) and origin is list:
        return [_zeroed(item, arguments[0]) for item in value]
    for option in arguments:
        if isinstance(value, dict | list) and option is not type(None):
            return _zeroed(value, option)
    return "" if value is None and kind is str else value
