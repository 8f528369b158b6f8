"""Connections to the other members: as a client a member shows its own key, and takes only who proves to be a member.

Owns dialling and the pins; refuses to decide who is a member (the documents do)."""

import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import trio
from OpenSSL import SSL

from lxdnode.node.cluster.rules import member as find_member
from lxdnode.node.errors import Unavailable
from lxdnode.node.fingerprint import fingerprint_of, fingerprint_of_pem
from lxdnode.node.http import Answer, Exchange, request
from lxdnode.node.store import Store
from lxdnode.node.tls import TLSStream

RAFT_PROTOCOL = "lxd-node-raft/1"
HTTP_PROTOCOL = "http/1.1"
OWN_NAME = "member.lxd-node"
"""The server's name (SNI) with which a member asks another one to show its own key instead of the cluster's."""
_DIAL_LIMIT = 4.0


class Peers:
    """Dials members by number. `directory` holds server.crt and server.key, and cluster.crt once clustered."""

    def __init__(self, directory: Path, store: Store) -> None:
        self._directory = directory
        self._store = store

    async def connect(self, number: int, protocol: str = HTTP_PROTOCOL) -> trio.abc.Stream:
        """A TLS stream to a member. Unavailable with LXD's words, and what to do, when it cannot be reached."""
        found = find_member(self._store.view(), number)
        if found is None:
            raise Unavailable(f"member {number} is not in the cluster")
        keys = {found.fingerprint, found.next_fingerprint}
        try:
            cluster = (self._directory / "cluster.crt").read_text()
            return await dial_member(self._directory, found.address, cluster, keys, protocol)
        except (Unavailable, OSError) as error:
            raise Unavailable(f"{error}. Start lxd-node on member {found.name}, or mend its network") from error

    @asynccontextmanager
    async def exchange(
        self, number: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[Exchange]:
        """A request to a member, whose answer is read in chunks inside the block."""
        stream = await self.connect(number)
        try:
            exchange = Exchange(stream)
            await exchange.send(method, path, headers or {}, body)
            yield exchange
        finally:
            await trio.aclose_forcefully(stream)

    async def request(
        self, number: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A request to a member with a JSON body, and its whole answer."""
        stream = await self.connect(number)
        try:
            return await request(stream, method, path, body, headers)
        finally:
            await trio.aclose_forcefully(stream)


class WrongCertificate(Unavailable):
    """Who answers shows another certificate than the one that is known here."""


async def dial_member(
    directory: Path, address: str, certificate: str, keys: Collection[str], protocol: str = HTTP_PROTOCOL
) -> trio.abc.Stream:
    """A TLS stream to the member at `address`: to whoever shows the cluster's `certificate` (PEM), or else the member's
    own key, one of the fingerprints `keys`. The second is for when one of the two was away, or a moment behind, while
    the cluster's certificate was replaced."""
    try:
        return await dial(directory, address, {fingerprint_of_pem(certificate)}, protocol)
    except WrongCertificate:
        return await dial(directory, address, keys, protocol, name=OWN_NAME)


async def dial(
    directory: Path, address: str, pins: Collection[str], protocol: str = HTTP_PROTOCOL, name: str = ""
) -> trio.abc.Stream:
    """A TLS stream to `address` (host:port) whose server shows a certificate with one of the fingerprints `pins`.
    `name` is the server's name that is asked for, "" for none.

    The pin is the whole check: chains, names and validity are not looked at, since an expired certificate must not
    stop a cluster. Unavailable with LXD's words when nobody answers, or somebody else."""
    host, _colon, port = address.rpartition(":")
    if not port.isdecimal():
        raise Unavailable(
            f"Unable to connect to: '{address}' is not host:port: "
            "set the member's core.https_address or cluster.https_address"
        )
    try:
        with trio.fail_after(_DIAL_LIMIT):
            raw = await trio.open_tcp_stream(host.strip("[]"), int(port))
            notice_death(raw.socket)
            try:
                return await _pinned(raw, _own_context(directory, protocol), pins, name)
            except BaseException:
                await trio.aclose_forcefully(raw)
                raise
    except (OSError, UnicodeError, SSL.Error, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise Unavailable(f"Unable to connect to: {address}: {str(error) or 'no answer in time'}") from error
    except _Unpinned as error:
        raise WrongCertificate(f"Unable to connect to: {address}: {error}") from error


def notice_death(connected: trio.socket.SocketType) -> None:
    """Has the kernel end a connection whose other side says nothing any more, as one that lost its power: it is asked
    after 15 s of silence, and given up after a minute."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)


class _Unpinned(Exception):
    """A handshake with somebody else."""


async def _pinned(raw: trio.SocketStream, context: SSL.Context, pins: Collection[str], name: str) -> trio.abc.Stream:
    """TLS over a connection, to the holder of one of some certificates only. _Unpinned when it shows another."""
    stream = TLSStream(raw, context, dialled=True, name=name)
    await stream.do_handshake(_at_once)
    shown = fingerprint_of(stream.certificate)
    if shown not in pins:
        raise _Unpinned(f"it shows the certificate {shown}, expected {' or '.join(sorted(filter(None, pins)))}")
    return stream


async def _at_once(step: Callable[[], None]) -> None:
    step()


def _own_context(directory: Path, protocol: str) -> SSL.Context:
    """What a dialling member shows and asks for."""
    return _context(directory, protocol, (directory / "server.crt").stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _context(directory: Path, protocol: str, _written: int) -> SSL.Context:
    """Kept as long as the key is the same: reading it took 0.75 ms."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(str(directory / "server.crt"))
    context.use_privatekey_file(str(directory / "server.key"))
    context.set_alpn_protos([protocol.encode()])
    return context
