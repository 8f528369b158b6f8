"""The network listener: TLS on core.https_address and cluster.https_address, for clients, members and Raft alike.

Owns handshakes, the certificate that is shown and the addresses that are bound; all change while it runs. Refuses to
know HTTP and Raft: ALPN says which of the two gets the stream."""

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection

import structlog
import trio

from lxdnode.api.listener import BACKLOG, Server, accept
from lxdnode.api.tls import RAFT, is_signed, make_context
from lxdnode.node.callers import Peer
from lxdnode.node.errors import Invalid, NodeError
from lxdnode.node.fingerprint import fingerprint_of
from lxdnode.node.keypair import KeyPair
from lxdnode.node.peers import OWN_NAME, notice_death
from lxdnode.node.tls import TLSStream

log = structlog.get_logger(__name__)

PORT = 8443
HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a client has for its handshake."""
THREADS, WAITING = 2, 16
"""Handshakes computed at a time, and those that wait for it before accepting pauses: 64 at once had held the loop for
65 ms. A client that sends nothing waits for itself and counts as none."""
TRIES, PAUSE = 10, 0.1
"""How often a bind is tried while something is still there, and the seconds between (spec/security.md 1)."""

_OWN_NAME = OWN_NAME.encode()
OnRaft = Callable[[trio.abc.Stream, Peer], Awaitable[None]]


class Network:
    """Accepts on any number of addresses. `on_raft` gets the streams that ask for Raft."""

    def __init__(
        self, server: Server, pair: KeyPair, own: KeyPair, on_raft: OnRaft, authority: str | None = None
    ) -> None:
        """`authority` is the CA of PKI mode (PEM)."""
        self._server = server
        self._on_raft = on_raft
        self._slots = trio.Semaphore(WAITING)
        self._threads = trio.CapacityLimiter(THREADS)
        self._accepting: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._authority = authority
        self.show(pair, own)

    def show(self, pair: KeyPair, own: KeyPair) -> None:
        """Shows other certificates from the next connection on; open ones stay. `pair` is for everybody, `own` for who
        asks for the member's own key."""
        asked = make_context(own, self._authority)
        self._context = make_context(pair, self._authority)
        self._context.set_tlsext_servername_callback(
            lambda connection: connection.set_context(asked) if connection.get_servername() == _OWN_NAME else None
        )

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the connections until it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    @property
    def addresses(self) -> frozenset[str]:
        """What is listened on, as the settings have it."""
        return frozenset(self._accepting)

    async def listen(self, addresses: Collection[str]) -> None:
        """Listens on these addresses and on no other; one that stays is not interrupted. NodeError when one cannot be
        bound; those before are listened on again then."""
        before = self.addresses
        # First closed, then opened: a wildcard and an address of the same port exclude each other.
        self.close(before.difference(addresses))
        try:
            await self._open(addresses)
        except (OSError, Invalid) as error:
            self.close(self.addresses - before)
            await self._open_again(before)
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise NodeError(f"cannot listen on https socket: {reason}") from error

    def close(self, addresses: Collection[str]) -> None:
        """Stops accepting there; what is connected stays."""
        for address in addresses:
            self._accepting.pop(address).cancel()

    async def _open(self, addresses: Collection[str]) -> None:
        for address in sorted(set(addresses) - self.addresses):
            bound = await _bind_patiently(address)
            assert self._nursery is not None, "run() comes first"
            self._accepting[address] = trio.CancelScope()
            self._nursery.start_soon(self._accept, bound, self._accepting[address])

    async def _open_again(self, addresses: Collection[str]) -> None:
        """One that is gone meanwhile keeps the others from nothing."""
        for address in addresses:
            try:
                await self._open([address])
            except OSError as error:
                log.error("an address is not listened on any more", address=address, error=str(error))

    async def _accept(self, bound: socket.socket, scope: trio.CancelScope) -> None:
        assert self._nursery is not None
        with scope, trio.socket.from_stdlib_socket(bound) as listening:
            while True:
                async with self._slots:
                    accepted = await accept(listening)
                self._nursery.start_soon(self._serve, accepted)

    async def _serve(self, accepted: trio.socket.SocketType) -> None:
        """Shakes hands with one client and serves it."""
        notice_death(accepted)
        stream = TLSStream(trio.SocketStream(accepted), self._context)
        try:
            if (address := await self._shake_hands(stream, accepted)) is None:
                return
            peer = self._peer(stream.certificate, address)
            await (self._on_raft if stream.protocol == RAFT else self._server.serve)(stream, peer)
        finally:
            await trio.aclose_forcefully(stream)

    async def _shake_hands(self, stream: TLSStream, accepted: trio.socket.SocketType) -> str | None:
        """The client's address once TLS stands. What it sends instead of TLS is its own fault, and no news: None."""
        try:
            host, port = accepted.getpeername()[:2]
            with trio.fail_after(HANDSHAKE_TIMEOUT):
                await stream.do_handshake(self._compute)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError) as error:
            log.debug("no TLS connection", error=str(error))
            return None
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _compute(self, function: Callable[[], None]) -> None:
        async with self._slots:
            await trio.to_thread.run_sync(function, limiter=self._threads)

    def _peer(self, certificate: bytes, address: str) -> Peer:
        signed = self._authority is None or (bool(certificate) and is_signed(certificate, self._authority))
        fingerprint = fingerprint_of(certificate) if certificate else ""
        return Peer(kind="tls", address=address, certificate=certificate, fingerprint=fingerprint, signed=signed)


async def _bind_patiently(address: str) -> socket.socket:
    """A listening socket of an address; who was told to leave it may need a moment. OSError, or Invalid."""
    for _attempt in range(TRIES - 1):
        try:
            return bind(*parse_address(address))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            await trio.sleep(PAUSE)
    return bind(*parse_address(address))


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of `host`, `host:port`, `[v6]:port`, `:port` or a bare IPv6 address; 8443 when no port is given.

    Invalid for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or _is_v6(text):
        host, port = text, str(PORT)
    if not port.isdecimal() or int(port) > 65535:
        raise Invalid(f"Invalid address '{text}': '{port}' is no port")
    host = host.strip("[]")
    try:
        host.encode("idna")
    except UnicodeError:
        raise Invalid(f"Invalid address '{text}': '{host}' is no name of a host") from None
    return host, int(port)


def _is_v6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; without a host, or with `::`, on all addresses of both families. OSError."""
    everywhere = host in ("", "::")
    if everywhere and not socket.has_dualstack_ipv6():
        host, everywhere = "0.0.0.0", False
    family = socket.AF_INET6 if everywhere else socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if everywhere else 1)
        bound.bind((host or "::", port))
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound
