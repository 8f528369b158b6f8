"""Sockets that accept: the unix socket and, over TLS, the network.

Owns accepting, who is at the other end, and the end of all connections; refuses to read a byte of HTTP."""

import errno
import os
import socket
import stat
import struct
from pathlib import Path

import structlog
import trio
from hypercorn.trio.worker_context import WorkerContext

from lxdnode.api.app import App
from lxdnode.api.protocol import Connection, configure
from lxdnode.node.callers import Peer
from lxdnode.node.errors import NodeError
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

BACKLOG = 512
_CREDENTIALS = struct.Struct("3i")
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_PAUSE = 0.1
"""Seconds without accepting when the process has no descriptor left: the kernel keeps callers waiting."""


class Server:
    """Serves connections for one app, wherever they were accepted."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._config = configure()
        self._context = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._gone = trio.Event()

    @property
    def busy(self) -> int:
        """How many connections are in the middle of a request."""
        return sum(not connection.idle for connection in self._connections)

    async def serve(self, stream: trio.abc.Stream, peer: Peer) -> None:
        """Answers the requests of one connection until it ends."""
        connection = Connection(self._app, self._config, self._context, stream, peer)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._gone.set()

    async def drain(self, grace: float) -> None:
        """Lets requests in work end, at most `grace` seconds, and ends connections that rest. Nothing may be accepted
        any more; what still runs afterwards ends with its nursery."""
        await self._context.terminated.set()
        self._app.ending.set()
        for connection in list(self._connections):
            if connection.idle or connection.is_websocket:
                connection.end()
        self._gone = trio.Event()
        with trio.move_on_after(grace):
            while self._connections:
                await self._gone.wait()
        self._app.links.close()


def bind_unix(path: Path, group: int | None = None) -> socket.socket:
    """A listening unix socket, open to root and `group` (the process' own by default).

    The file of a dead daemon is removed. NodeError when a daemon answers there (spec/security.md 1)."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        if _is_alive(path):
            raise NodeError("LXD is already running")
        if "dead_sockets_are_replaced" not in Log.off:
            path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Nobody may connect between bind and chmod: the file is made without any rights.
    mask = os.umask(0o777)
    try:
        listening.bind(str(path))
    finally:
        os.umask(mask)
    os.chown(path, -1, os.getgid() if group is None else group)
    path.chmod(0o660)
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


async def serve_unix(
    server: Server, listening: socket.socket, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Accepts on the unix socket until it is cancelled."""
    own = trio.socket.from_stdlib_socket(listening)
    async with trio.open_nursery() as nursery:
        task_status.started()
        with own:
            while True:
                accepted = await accept(own)
                nursery.start_soon(server.serve, trio.SocketStream(accepted), unix_peer(accepted))


async def accept(listening: trio.socket.SocketType) -> trio.socket.SocketType:
    """The next connection; what goes wrong with a single one is no reason to stop."""
    while True:
        try:
            accepted, _address = await listening.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.warning("cannot accept connections", error=str(error))
                await trio.sleep(_PAUSE)
            elif error.errno not in (errno.ECONNABORTED, errno.EPERM, errno.EPROTO):
                raise
        else:
            return accepted


def unix_peer(accepted: trio.socket.SocketType) -> Peer:
    """The process at the other end, as the kernel saw it connect."""
    raw = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(kind="unix", address="@", uid=uid, gid=gid, pid=pid)
