"""Websockets as handlers see them: binary and text messages with backpressure both ways.

Owns how Quart's websockets end: nothing that was sent before the end is lost. Refuses to know what the messages mean
(`node/sockets.py` copies them)."""

from typing import Any, cast

import trio
from quart_trio.asgi import TrioASGIWebsocketConnection

from lxdnode.api.bodies import Body
from lxdnode.api.route import Headers

_ABNORMAL = 1006
"""The code of a connection that broke (RFC 6455 7.4.1)."""


class WebsocketConnection(TrioASGIWebsocketConnection):
    """Quart's, but the end of the client closes the queue of messages instead of cancelling the handler: what was
    sent before the end is not lost."""

    async def __call__(self, receive: Any, send: Any) -> None:
        scope = cast(dict[str, Any], self.scope)
        scope["lxdnode.headers"] = Headers(scope["headers"])
        scope["lxdnode.body"] = Body(receive, 0)
        scope["lxdnode.gone"] = trio.Event()
        await super().__call__(receive, send)

    async def handle_messages(self, nursery: trio.Nursery, receive: Any) -> None:  # type: ignore[override]
        gone = cast(dict[str, Any], self.scope)["lxdnode.gone"]
        async with self.send_channel:
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == "websocket.receive":
                    text = message.get("text")
                    await self.send_channel.send(message["bytes"] if text is None else text)
            cast(dict[str, Any], self.scope)["lxdnode.code"] = message.get("code", _ABNORMAL)
        gone.set()
        self._closed = True


class Socket:
    """One websocket. Reading raises trio.EndOfChannel after the client's last message."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._gone: trio.Event = websocket.scope["lxdnode.gone"]
        self.accepted = False

    async def accept(self) -> None:
        """Answers 101. Before it, a handler may still answer with an error."""
        await self._websocket.accept()
        self.accepted = True

    async def receive(self) -> str | bytes:
        """The next message: text or bytes. trio.EndOfChannel when the client has closed."""
        return cast(str | bytes, await self._websocket.receive())

    async def send(self, message: str | bytes) -> None:
        """Sends a message. trio.BrokenResourceError when the client has gone."""
        if self._gone.is_set():
            raise trio.BrokenResourceError("the websocket was closed by the client")
        await self._websocket.send(message)

    @property
    def is_broken(self) -> bool:
        """Whether the connection ended without the client's goodbye: it died, or its network did."""
        return bool(self._websocket.scope.get("lxdnode.code") == _ABNORMAL)

    async def wait_gone(self) -> None:
        """Returns when the client has closed, or its connection broke."""
        await self._gone.wait()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes with a code; nothing happens when the client was first."""
        if not self._gone.is_set():
            await self._websocket.close(code, reason)
