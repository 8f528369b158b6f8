"""Servers that are no members, as a client sees them: dialled, known by a pinned certificate or by whom the system
trusts, and asked over HTTP.

Owns the dialling, the pin, proxies and redirects; refuses to know what is asked (one request on a stream is
`node/http.py`)."""

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import trio

from lxdnode.node.errors import NodeError
from lxdnode.node.fingerprint import fingerprint_of, fingerprint_of_pem
from lxdnode.node.http import Answer, Exchange
from lxdnode.node.peers import notice_death
from lxdnode.node.proxies import Proxies

S = TypeVar("S", bound=trio.abc.Stream)
_DIAL_LIMIT = 10.0
_SILENCE = 60.0
"""Seconds for which a server may say nothing while it is to answer: no download waits for ever."""
_REDIRECTS = 10
_PLAIN = "%/:?#[]@!$&'()*+,;=~"
"""What may stand in a path or query as it is."""
_MOVED = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Way:
    """How a server is reached. `certificate`: PEM that it must show, "" for whom the system trusts."""

    certificate: str = ""
    proxies: Proxies = field(default_factory=Proxies)


_STRAIGHT = Way()


def pin(certificate: str) -> str:
    """The fingerprint of a certificate (PEM) that a server is to show; "" for none. NodeError for what is none."""
    if not certificate:
        return ""
    try:
        return fingerprint_of_pem(certificate)
    except ValueError:
        raise NodeError("Invalid certificate") from None


async def connect_tls(host: str, port: int, pin: str) -> trio.SSLStream[trio.SocketStream]:
    """A TLS stream to the holder of the certificate with the fingerprint `pin`, or ("") to whom the system trusts.
    OSError or trio.BrokenResourceError when nobody answers, or somebody else."""
    return await _secure(await _connect_tcp(host, port), host, pin)


async def _connect_tcp(host: str, port: int) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(host, port)
    notice_death(stream.socket)
    return stream


async def _secure(raw: S, host: str, pin: str) -> trio.SSLStream[S]:
    """TLS over a connection, which is closed when that fails."""
    try:
        stream = trio.SSLStream(raw, await _context(pin), server_hostname=host, https_compatible=True)
        await stream.do_handshake()
        shown = fingerprint_of(stream.getpeercert(binary_form=True) or b"")
        if pin and shown != pin:
            raise trio.BrokenResourceError(f"it shows the certificate {shown}, expected {pin}")
    except BaseException:
        await trio.aclose_forcefully(raw)
        raise
    return stream


def reason(error: Exception) -> str:
    """Why a server could not be reached, in words; of a broken handshake its cause says it."""
    return str(error) or str(error.__cause__ or "") or "no answer in time"


async def _context(pin: str) -> ssl.SSLContext:
    """With a pin the certificate is the whole check, as between members. Whom the system trusts is read by a thread: it
    is a file of hundreds of certificates."""
    if not pin:
        return await trio.to_thread.run_sync(ssl.create_default_context)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def exchange(
    url: str, way: Way = _STRAIGHT, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Exchange]:
    """A request to an http or https server, redirects followed, whose answer is read in chunks inside the block.

    NodeError when the server cannot be reached, is another one, says nothing for a minute, or leads from https to
    http."""
    asked = url
    for _ in range(_REDIRECTS):
        async with _exchange(url, way, method, headers or {}) as made:
            if made.status not in _MOVED or "location" not in made.headers:
                yield made
                return
            moved = _moved(url, made.headers["location"])
        if url.startswith("https:") and not moved.startswith("https:"):
            raise NodeError(f"{url} redirects to {moved}, which is not encrypted")
        url = moved
    raise NodeError(f"{asked} redirects more than {_REDIRECTS} times")


async def get(url: str, way: Way = _STRAIGHT, *, limit: int) -> Answer:
    """A whole answer of at most `limit` bytes. NodeError as of `exchange`, and for one that is larger."""
    async with exchange(url, way) as made:
        body = bytearray()
        async for chunk in made.chunks():
            body += chunk
            if len(body) > limit:
                raise NodeError(f"{url} answers with more than {limit} bytes")
        return Answer(made.status, made.headers, bytes(body))


@asynccontextmanager
async def _exchange(url: str, way: Way, method: str, headers: Mapping[str, str]) -> AsyncIterator[Exchange]:
    parts = _split(url)
    proxy = way.proxies.find(parts)
    stream = await _connect(url, parts, proxy, pin(way.certificate))
    try:
        made = Exchange(_Impatient(stream))
        path = quote(parts.path or "/", safe=_PLAIN) + (f"?{quote(parts.query, safe=_PLAIN)}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        more = {}
        if proxy and parts.scheme == "http":
            path, more = f"http://{host}{path}", _credentials(proxy)
        await made.send(method, path, {"host": host, **headers, **more}, b"")
        yield made
    except trio.BrokenResourceError as error:
        raise NodeError(f"{url}: {error}") from error
    finally:
        await trio.aclose_forcefully(stream)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise NodeError(f'Get "{url}": {error}') from None
    if parts.scheme not in ("http", "https"):
        raise NodeError(f'Get "{url}": unsupported protocol scheme "{parts.scheme}": give a URL with https or http')
    if not parts.hostname or not parts.netloc.isascii():
        raise NodeError(f'Get "{url}": the URL names no server')
    return parts


def _moved(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise NodeError(f"{url} redirects to '{location}': {error}") from None


async def _connect(url: str, parts: SplitResult, proxy: str, pin: str) -> trio.abc.Stream:
    """A stream to a server; to a proxy that passes plain requests on, or through one that is a tunnel."""
    assert parts.hostname is not None, url
    called = urlsplit(proxy).netloc.rpartition("@")[2] if proxy else parts.netloc
    try:
        with trio.fail_after(_DIAL_LIMIT):
            if proxy and parts.scheme == "http":
                return await _connect_proxy(proxy)
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
            if proxy:
                return await _secure(await _tunnel(proxy, parts.hostname, port), parts.hostname, pin)
            if parts.scheme == "https":
                return await connect_tls(parts.hostname, port, pin)
            return await _connect_tcp(parts.hostname, port)
    except (OSError, ValueError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise NodeError(f'Get "{url}": Unable to connect to: {called}: {reason(error)}') from error


async def _connect_proxy(proxy: str) -> trio.abc.Stream:
    parts = _split(proxy)
    assert parts.hostname is not None, proxy
    if parts.scheme == "https":
        return await connect_tls(parts.hostname, parts.port or 443, "")
    return await _connect_tcp(parts.hostname, parts.port or 80)


async def _tunnel(proxy: str, host: str, port: int) -> trio.abc.Stream:
    """A connection to a server through a proxy. NodeError when that refuses."""
    stream = await _connect_proxy(proxy)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        made = Exchange(stream)
        await made.send("CONNECT", target, {"host": target, **_credentials(proxy)}, b"")
        if made.status != 200:
            raise NodeError(f"The proxy {urlsplit(proxy).hostname} refuses to connect to {target}: {made.status}")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _credentials(proxy: str) -> dict[str, str]:
    """What a proxy is told of who asks: the user in its URL."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(user.encode()).decode()}"}


class _Impatient(trio.abc.Stream):
    """A stream that breaks when nothing comes for too long."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            with trio.fail_after(_SILENCE):
                return await self._stream.receive_some(max_bytes)
        except trio.TooSlowError:
            raise trio.BrokenResourceError(f"nothing came for {_SILENCE:g} s") from None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
