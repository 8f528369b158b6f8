"""What other servers may do to those who ask them: lead astray, send too much, or nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from lxdnode.node import web
from lxdnode.node.errors import NodeError


@asynccontextmanager
async def answering(answer: str) -> AsyncIterator[str]:
    """The URL of a server that sends one text to everybody; `{url}` in it is its own."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

        async def serve(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(answer.replace("{url}", url).encode())
            if not answer:
                await trio.sleep_forever()
            await stream.aclose()

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield url
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("HTTP/1.1 302 Found\r\nLocation: {url}/on\r\n\r\n", "/path redirects more than 10 times"),
        ("HTTP/1.1 302 Found\r\nLocation: http://[x\r\n\r\n", r"redirects to 'http://\[x': "),
        ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n12345678901", "answers with more than 10 bytes"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123", "the connection to the server broke"),
        ("SSH-2.0\r\n\r\n", "the connection to the server broke"),
        ("", "nothing came for 0.2 s"),
    ],
)
async def test_an_answer_that_is_none_fails(answer: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_SILENCE", 0.2)
    async with answering(answer) as url:
        with pytest.raises(NodeError, match=words):
            await web.get(f"{url}/path", limit=10)


async def test_a_redirect_is_followed_and_paths_are_quoted() -> None:
    async with (
        answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as there,
        answering(f"HTTP/1.1 302 Found\r\nLocation: {there}/with space/ä?q=ö\r\n\r\n") as url,
    ):
        assert (await web.get(url, limit=10)).body == b"ok"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x/", 'unsupported protocol scheme "ftp"'),
        ("x", 'unsupported protocol scheme ""'),
        ("https://", "names no server"),
        ("https://bäd/", "names no server"),
        ("https://[::1", "Invalid IPv6 URL"),
        ("http://127.0.0.1:99999/", "Unable to connect to: 127.0.0.1:99999: Port out of range"),
        ("http://127.0.0.1:1/", "Unable to connect to: 127.0.0.1:1: "),
    ],
)
async def test_what_is_no_server_is_named(url: str, words: str) -> None:
    with pytest.raises(NodeError, match=words):
        await web.get(url, limit=10)
