"""A trio stream over pyOpenSSL with memory BIOs: what servers and dialling members speak TLS with.

Owns encryption, and what is sent at once; refuses to choose keys, protocols or whom to trust (the context does)."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

_READ = 256 * 2**10
_RECORD = 16 * 2**10
_SEALED = _READ + _READ // 16
Step = Callable[[Callable[[], None]], Awaitable[None]]


class TLSStream(trio.abc.HalfCloseableStream):
    """One side of a TLS connection over a socket: the server's, or with `dialled` the client's. Every failure of TLS is
    trio.BrokenResourceError."""

    def __init__(
        self, transport: trio.SocketStream, context: SSL.Context, *, dialled: bool = False, name: str = ""
    ) -> None:
        """`name` is the server's name that a dialling side asks for, "" for none."""
        self.transport_stream = transport
        self._tls = SSL.Connection(context, None)
        (self._tls.set_connect_state if dialled else self._tls.set_accept_state)()
        if name:
            self._tls.set_tlsext_host_name(name.encode())
        self._flushing = trio.Lock()
        self._rest = b""
        self._unsent = b""  # ciphertext that the socket did not take at once

    async def do_handshake(self, step: Step) -> None:
        """Shakes hands; `step` runs a function, a server's in a thread: signing holds the loop for milliseconds."""
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
        """The other side's certificate as DER; b"" when it presented none. Not looked into: what OpenSSL takes others
        may refuse to read, and nobody is trusted yet."""
        shown = self._tls.get_peer_certificate()
        return b"" if shown is None else dump_certificate(FILETYPE_ASN1, shown)

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
        """Encrypts and sends, 256 KiB at a time, behind what `send_nowait` kept."""
        view = memoryview(data)
        for start in range(0, max(len(view), 1), _READ):
            try:
                self._tls.sendall(bytes(view[start : start + _READ]))
            except SSL.Error as error:
                raise trio.BrokenResourceError(f"TLS failed: {error}") from error
            await self._flush()

    def send_nowait(self, data: bytes) -> bool:
        """Encrypts a message, and sends what the socket takes at once; whether that is all. The rest is sent by the
        next `send_all`, which may be an empty one."""
        try:
            self._tls.sendall(data)
        except SSL.Error as error:
            raise trio.BrokenResourceError(f"TLS failed: {error}") from error
        if self._flushing.locked() or self._unsent:
            return False
        sealed = self._take()
        with suppress(OSError):  # full, or broken: then `send_all` meets the error
            sealed = sealed[os.write(self.transport_stream.socket.fileno(), sealed) :]
        self._unsent = sealed
        return not sealed

    async def _flush(self) -> None:
        """Sends what TLS has produced. One at a time: the parts must stay in order."""
        async with self._flushing:
            while data := self._take():
                await self.transport_stream.send_all(data)

    def _take(self) -> bytes:
        """All that TLS has produced, behind what of it was not sent before."""
        parts, self._unsent = [self._unsent], b""
        with suppress(SSL.WantReadError):
            parts.append(self._tls.bio_read(_SEALED))
            while len(parts[-1]) == _SEALED:
                parts.append(self._tls.bio_read(_SEALED))
        return b"".join(parts)

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
