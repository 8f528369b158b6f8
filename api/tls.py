"""TLS for servers, as LXD wants it: every client certificate gets through, and is judged later by its fingerprint.

Owns the context and a trio stream over pyOpenSSL with memory BIOs (the standard `ssl` refuses self-signed client
certificates during the handshake); refuses to decide who is trusted."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import cast

import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL

from lxdnode.node.keypair import KeyPair

RAFT = b"lxd-node-raft/1"
HTTP = b"http/1.1"
_CIPHERS = (
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
_READ = 256 * 2**10
_RECORD = 16 * 2**10
Step = Callable[[Callable[[], None]], Awaitable[None]]


def make_context(pair: KeyPair, authority: str | None = None) -> SSL.Context:
    """The context of servers that show `pair`: TLS 1.2 or later, a client certificate asked for but not required.

    `authority` (PEM) is the CA of PKI mode, which clients are told so that they choose a certificate of it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # A resumed session would carry a client's certificate past a change of the trust store's server key.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(x509.load_pem_x509_certificate(pair.certificate.encode()))
    context.use_privatekey(cast(EllipticCurvePrivateKey, load_pem_private_key(pair.key.encode(), None)))
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_alpn_select_callback(_choose)
    if authority is not None:
        context.add_client_ca(x509.load_pem_x509_certificate(authority.encode()))
    return context


def _choose(_connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """The first protocol that we speak; a client that offers only others goes on without ALPN, as HTTP/1.1."""
    for protocol in (RAFT, HTTP):
        if protocol in offered:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS  # type: ignore[return-value]


def is_signed(certificate: bytes, authority: str) -> bool:
    """Whether a certificate (DER) was issued by the CA (PEM)."""
    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.encode())
        )
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


class TLSStream(trio.abc.HalfCloseableStream):
    """The server's side of a TLS connection over a socket. Every failure of TLS is trio.BrokenResourceError."""

    def __init__(self, transport: trio.SocketStream, context: SSL.Context) -> None:
        self.transport_stream = transport
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._flushing = trio.Lock()
        self._rest = b""

    async def do_handshake(self, step: Step) -> None:
        """Shakes hands; `step` runs a function in a thread: signing and checking hold the loop for milliseconds."""
        while True:
            try:
                await step(self._tls.do_handshake)
            except SSL.WantReadError:
                await self._flush()
                await self._fill()
            except SSL.Error as error:
                await self._flush()
                raise trio.BrokenResourceError(f"TLS handshake failed: {error}") from error
            else:
                await self._flush()
                return

    @property
    def protocol(self) -> bytes:
        """The protocol that ALPN chose, b"" without one."""
        return self._tls.get_alpn_proto_negotiated()

    @property
    def certificate(self) -> bytes:
        """The client's certificate as DER; b"" when it presented none."""
        shown = self._tls.get_peer_certificate(as_cryptography=True)
        return b"" if shown is None else shown.public_bytes(Encoding.DER)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived: all records of one read of the socket, so that an upload costs one wake per 256 KiB and
        not one per record of 16. b"" at the end, with or without TLS's goodbye: HTTP knows its own lengths."""
        while not (data := self._rest or self._decrypt()):
            if data is None:
                return b""
            if not await self._fill():
                return b""
        limit = max_bytes or len(data)
        self._rest = data[limit:]
        return data[:limit] if len(data) > limit else data

    def _decrypt(self) -> bytes | None:
        """All that can be decrypted now; None after the other side's goodbye."""
        records: list[bytes] = []
        try:
            while True:
                records.append(self._tls.recv(_RECORD))
        except SSL.WantReadError:
            return b"".join(records)
        except SSL.ZeroReturnError:
            return b"".join(records) or None
        except SSL.Error as error:
            if records:
                return b"".join(records)
            raise trio.BrokenResourceError(f"TLS failed: {error}") from error

    async def _fill(self) -> bool:
        """Reads from the socket; whether there was anything."""
        data = await self.transport_stream.receive_some(_READ)
        if data:
            self._tls.bio_write(data)
        else:
            self._tls.bio_shutdown()
        return bool(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts and sends, 256 KiB at a time."""
        view = memoryview(data)
        for start in range(0, len(view), _READ):
            try:
                self._tls.sendall(bytes(view[start : start + _READ]))
            except SSL.Error as error:
                raise trio.BrokenResourceError(f"TLS failed: {error}") from error
            await self._flush()

    async def _flush(self) -> None:
        """Sends what TLS has produced. One at a time: the parts must stay in order."""
        async with self._flushing:
            while True:
                try:
                    data = self._tls.bio_read(_READ + _READ // 16)
                except SSL.WantReadError:
                    return
                await self.transport_stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport_stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Says goodbye, and closes the sending side of the socket."""
        with suppress(SSL.Error):
            self._tls.shutdown()
        await self._flush()
        await self.transport_stream.send_eof()

    async def aclose(self) -> None:
        await self.transport_stream.aclose()
