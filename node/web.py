"""Servers that are no members, as a client sees them: dialled, known by a pinned certificate or by whom the system
trusts, and asked over HTTP.

Owns the dialling, the pin and redirects; refuses to know what is asked (`node/http.py` is one request on a stream)."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import trio

from lxdnode.node.errors import NodeError
from lxdnode.node.fingerprint import fingerprint_of, fingerprint_of_pem
from lxdnode.node.http import Answer, Exchange
from lxdnode.node.peers import notice_death

_DIAL_LIMIT = 10.0
_SILENCE = 60.0
"""Seconds for which a server may say nothing while it is to answer: no download waits for ever."""
_REDIRECTS = 10
_PLAIN = "%/:?#[]@!$&'()*+,;=~"
"""What may stand in a path or query as it is."""
_MOVED = (301, 302, 303, 307, 308)


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
    raw = await trio.open_tcp_stream(host, port)
    try:
        notice_death(raw.socket)
        stream = trio.SSLStream(raw, _context(pin), server_hostname=host, https_compatible=True)
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


def _context(pin: str) -> ssl.SSLContext:
    """With a pin the certificate is the whole check, as between members."""
    context = ssl.create_default_context()
    if pin:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def exchange(
    url: str, *, method: str = "GET", certificate: str = "", headers: Mapping[str, str] | None = None
) -> AsyncIterator[Exchange]:
    """A request to an http or https server, redirects followed, whose answer is read in chunks inside the block.

    `certificate`: PEM that the server must show, "" for whom the system trusts. NodeError when it cannot be reached,
    is another one, says nothing for a minute, or leads from https to http."""
    asked = url
    for _ in range(_REDIRECTS):
        async with _exchange(url, method, pin(certificate), headers or {}) as made:
            if made.status not in _MOVED or "location" not in made.headers:
                yield made
                return
            moved = _moved(url, made.headers["location"])
        if url.startswith("https:") and not moved.startswith("https:"):
            raise NodeError(f"{url} redirects to {moved}, which is not encrypted")
        url = moved
    raise NodeError(f"{asked} redirects more than {_REDIRECTS} times")


async def get(url: str, *, limit: int, certificate: str = "") -> Answer:
    """A whole answer of at most `limit` bytes. NodeError as of `exchange`, and for one that is larger."""
    async with exchange(url, certificate=certificate) as made:
        body = bytearray()
        async for chunk in made.chunks():
            body += chunk
            if len(body) > limit:
                raise NodeError(f"{url} answers with more than {limit} bytes")
        return Answer(made.status, made.headers, bytes(body))


@asynccontextmanager
async def _exchange(url: str, method: str, pin: str, headers: Mapping[str, str]) -> AsyncIterator[Exchange]:
    parts = _split(url)
    stream = await _connect(url, parts, pin)
    try:
        made = Exchange(_Impatient(stream))
        path = quote(parts.path or "/", safe=_PLAIN) + (f"?{quote(parts.query, safe=_PLAIN)}" if parts.query else "")
        await made.send(method, path, {"host": parts.netloc.rpartition("@")[2], **headers}, b"")
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


async def _connect(url: str, parts: SplitResult, pin: str) -> trio.abc.Stream:
    assert parts.hostname is not None, url
    try:
        with trio.fail_after(_DIAL_LIMIT):
            if parts.scheme == "https":
                return await connect_tls(parts.hostname, parts.port or 443, pin)
            stream = await trio.open_tcp_stream(parts.hostname, parts.port or 80)
            notice_death(stream.socket)
            return stream
    except (OSError, ValueError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise NodeError(f'Get "{url}": Unable to connect to: {parts.netloc}: {reason(error)}') from error


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
