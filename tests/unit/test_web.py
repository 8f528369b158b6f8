"""What other servers may do to those who ask them: lead astray, send too much, or nothing."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from lxdnode.node import web
from lxdnode.node.errors import NodeError
from lxdnode.node.keypair import make, save
from lxdnode.node.proxies import Proxies


@asynccontextmanager
async def answering(answer: str, asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """The URL of a server that sends one text to everybody; `{url}` in it is its own. `asked`: what it has read."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

        async def serve(stream: trio.SocketStream) -> None:
            request = await stream.receive_some()
            if asked is not None:
                asked.append(bytes(request))
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


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://images.example/", "http://p:1"),
        ("https://images.example/", "https://user:pw@q:2"),
        ("https://localhost/", ""),
        ("https://127.0.0.7/", ""),
        ("https://[::1]/", ""),
        ("https://inside.example:8443/", ""),
        ("https://a.inside.example/", ""),
        ("https://outside.example/", "https://user:pw@q:2"),
        ("https://b.dotted.example/", ""),
    ],
)
def test_who_is_reached_through_a_proxy(url: str, proxy: str) -> None:
    proxies = Proxies("p:1", "https://user:pw@q:2", "inside.example, .dotted.example")
    assert proxies.find(urlsplit(url)) == proxy
    assert Proxies("p:1", "q:2", "*").find(urlsplit(url)) == ""
    assert Proxies().find(urlsplit(url)) == ""


async def test_a_plain_request_goes_whole_to_the_proxy() -> None:
    asked: list[bytes] = []
    async with answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", asked) as proxy:
        through = proxy.replace("http://", "http://me:p%40ss@")
        answer = await web.get("http://images.example/a?b", web.Way(proxies=Proxies(http=through)), limit=10)
    assert answer.body == b"ok"
    assert asked[0].startswith(b"GET http://images.example/a?b HTTP/1.1\r\n")
    assert b"\r\nhost: images.example\r\n" in asked[0].lower()
    assert b"\r\nproxy-authorization: Basic bWU6cEBzcw==\r\n" in asked[0]


async def test_an_encrypted_one_goes_through_a_tunnel_to_who_has_the_pinned_certificate(tmp_path: Path) -> None:
    pair = make()
    save(tmp_path, "server", pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    asked: list[bytes] = []

    async def serve(raw: trio.SocketStream) -> None:
        """A proxy and the server behind it."""
        asked.append(bytes(await raw.receive_some()))
        await raw.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        stream = trio.SSLStream(raw, context, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):  # Who finds another certificate goes.
            asked.append(bytes(await stream.receive_some()))
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        proxies = Proxies(https=f"127.0.0.1:{listener.socket.getsockname()[1]}")
        url = "https://images.example/x"
        answer = await web.get(url, web.Way(pair.certificate, proxies), limit=10)
        with pytest.raises(NodeError, match="Unable to connect to: 127.0.0.1:.*: it shows the certificate"):
            await web.get(url, web.Way(make().certificate, proxies), limit=10)
        nursery.cancel_scope.cancel()
    assert answer.body == b"ok"
    assert asked[0].startswith(b"CONNECT images.example:443 HTTP/1.1\r\n") and asked[1].startswith(b"GET /x HTTP/1.1")


async def test_a_proxy_that_refuses_is_named() -> None:
    async with answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as proxy:
        with pytest.raises(NodeError, match="The proxy 127.0.0.1 refuses to connect to images.example:443: 403"):
            await web.get("https://images.example/", web.Way(proxies=Proxies(https=proxy)), limit=10)
