"""The process of one proxy device: what comes in on one side of a container's border goes out on the other.

Owns the sockets on both sides; refuses to know devices (`proxy.py` does). Run as a module with a `Forward` as JSON and
a container's init as arguments; it answers with one JSON line, and lives on until the container or the device goes."""

import ctypes
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio

from lxdnode.drivers.runtime.process import start_time

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_CHUNK, _BACKLOG, _DATAGRAM = 65536, 128, 65535
_UDP_IDLE = 30 * 60.0
"""Seconds after which a client of udp is forgotten."""
_MOST_DESCRIPTORS = 32
_libc = ctypes.CDLL(None, use_errno=True)


class Address(msgspec.Struct, frozen=True):
    """One end: `host` is an address, or a path, or `@NAME` of an abstract socket."""

    protocol: Literal["tcp", "udp", "unix"]
    host: str
    port: int

    @property
    def family(self) -> int:
        """The address family."""
        if self.protocol == "unix":
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def kind(self) -> int:
        """Stream or datagram."""
        return socket.SOCK_DGRAM if self.protocol == "udp" else socket.SOCK_STREAM

    @property
    def target(self) -> Any:
        """What `bind` and `connect` take."""
        if self.protocol == "unix":
            return "\0" + self.host[1:] if self.host.startswith("@") else self.host
        return self.host, self.port


class Forward(msgspec.Struct, frozen=True, tag_field="part"):
    """A proxy: `listen` by position to `connect`. `is_inside`: the container listens, and the host is connected to.

    `root`: the host's ids of root on the listening side; `owner`, `mode`: of the socket file. `drop`: the ids (of the
    host) that the process takes on once it listens. `says_who`: each connection begins with a line of the PROXY
    protocol. `file`: the note of the process."""

    listen: list[Address]
    connect: list[Address]
    is_inside: bool
    root: tuple[int, int]
    owner: tuple[int, int] | None
    mode: int | None
    drop: tuple[int, int] | None
    says_who: bool
    file: Path


def main() -> None:
    """Starts the process, and tells what went wrong. Its note is written here, so that it has one also when the daemon
    dies meanwhile."""
    forward = msgspec.json.decode(sys.argv[1], type=Forward, dec_hook=lambda kind, value: kind(value))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        forward.file.write_text(f"{pid} {start_time(pid)}")
        words = os.read(reading, 4096).decode()
        if words != "ready":
            forward.file.unlink(missing_ok=True)
        print(msgspec.json.encode({} if words == "ready" else {"error": words or "it died"}).decode())
        return
    os.close(reading)
    os.setsid()
    try:
        _serve(forward, int(sys.argv[2]), lambda: _detach(writing))
    except Exception as error:
        with suppress(OSError):
            os.write(writing, str(error).encode()[:4096])
        raise


def _detach(writing: int) -> None:
    """All is set up: nothing of the daemon's is held any more."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.write(writing, b"ready")
    os.close(writing)


def _serve(forward: Forward, init: int, ready: Callable[[], None]) -> None:
    pidfd = os.pidfd_open(init)
    sides = [_namespaces(os.getpid()), _namespaces(init)]
    if forward.is_inside:
        sides.reverse()
    _enter(sides[0])
    listening = [_listen(address, forward) for address in forward.listen]
    files = _folders(forward)
    _enter(sides[1])
    if forward.drop is not None:
        os.setgroups([])
        os.setgid(forward.drop[1])
        os.setuid(forward.drop[0])
    ready()
    trio.run(_run, forward, listening, pidfd)
    for folder, name in files:
        with suppress(OSError):  # Who dropped the right to do it leaves the file: the next process removes it.
            os.unlink(name, dir_fd=folder)


def _namespaces(pid: int) -> list[tuple[int, int]]:
    return [
        (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind)
        for name, kind in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS))
    ]


def _enter(namespaces: list[tuple[int, int]]) -> None:
    for descriptor, kind in namespaces:
        if _libc.setns(descriptor, kind):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _listen(address: Address, forward: Forward) -> socket.socket:
    own = socket.socket(address.family, address.kind)
    if address.protocol == "unix" and not address.host.startswith("@"):
        _bind_file(own, address.host, forward)
    else:
        if address.protocol != "unix":
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(address.target)
    if address.protocol != "udp":
        own.listen(_BACKLOG)
    own.setblocking(False)
    return own


def _bind_file(own: socket.socket, path: str, forward: Forward) -> None:
    """A socket of a former process is in the way, and goes; anything else stays. The file is made by the side's own
    root: the host's has no id in a container's file systems."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(Path(path).lstat().st_mode):
            Path(path).unlink()
    _libc.setfsgid(forward.root[1])
    _libc.setfsuid(forward.root[0])
    try:
        own.bind(path)
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)
    if forward.owner is not None:
        os.chown(path, *forward.owner, follow_symlinks=False)
    if forward.mode is not None:
        Path(path).chmod(forward.mode)


def _folders(forward: Forward) -> list[tuple[int, str]]:
    """Directory and name of each socket file, as they must be removed from another mount namespace."""
    paths = [Path(one.host) for one in forward.listen if one.protocol == "unix" and not one.host.startswith("@")]
    return [(os.open(path.parent, os.O_PATH | os.O_CLOEXEC), path.name) for path in paths]


async def _run(forward: Forward, listening: list[socket.socket], pidfd: int) -> None:
    async with trio.open_nursery() as nursery:
        for own, source, target in zip(listening, forward.listen, forward.connect, strict=True):
            serve = _relay_datagrams if source.protocol == "udp" else _accept
            nursery.start_soon(serve, trio.socket.from_stdlib_socket(own), source, target, forward)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            nursery.start_soon(_cancel_after, signals.__anext__, nursery.cancel_scope)
            await trio.lowlevel.wait_readable(pidfd)
            nursery.cancel_scope.cancel()


async def _cancel_after(wait: Callable[[], Any], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


async def _accept(own: Any, source: Address, target: Address, forward: Forward) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            try:
                client, _ = await own.accept()
            except OSError:  # Out of descriptors, or a client that has gone already.
                await trio.sleep(0.1)
                continue
            nursery.start_soon(_join, client, source, target, forward)


async def _join(client: Any, source: Address, target: Address, forward: Forward) -> None:
    """Both directions of one connection; a half that ends is ended on the other side."""
    with client, trio.socket.socket(target.family, target.kind) as server, suppress(OSError):
        await server.connect(target.target)
        if forward.says_who:
            await _send(server, _introduction(client, source))
        copy = _copy_with_descriptors if source.protocol == target.protocol == "unix" else _copy
        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy, client, server)
            await copy(server, client)
            if target.protocol == "udp":
                nursery.cancel_scope.cancel()


def _introduction(client: Any, source: Address) -> bytes:
    if source.protocol != "tcp":
        return b"PROXY UNKNOWN\r\n"
    version = "TCP6" if source.family == socket.AF_INET6 else "TCP4"
    theirs, ours = client.getpeername(), client.getsockname()
    return f"PROXY {version} {theirs[0]} {ours[0]} {theirs[1]} {ours[1]}\r\n".encode()


async def _copy(source: Any, target: Any) -> None:
    with suppress(OSError):
        while data := await source.recv(_CHUNK):
            await _send(target, data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


async def _send(target: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await target.send(view) :]


async def _copy_with_descriptors(source: Any, target: Any) -> None:
    """Between two unix sockets: descriptors that are passed along arrive as well."""
    space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
    with suppress(OSError):
        while True:
            data, ancillary, _, _ = await source.recvmsg(_CHUNK, space, socket.MSG_CMSG_CLOEXEC)
            if not data:
                break
            passed = [(level, kind, rights) for level, kind, rights in ancillary if kind == socket.SCM_RIGHTS]
            try:
                sent = await target.sendmsg([data], passed)
            finally:
                for _, _, rights in passed:
                    for start in range(0, len(rights) - 3, 4):
                        os.close(int.from_bytes(rights[start : start + 4], sys.byteorder))
            await _send(target, data[sent:])
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


async def _relay_datagrams(own: Any, source: Address, target: Address, forward: Forward) -> None:
    """Each client has a socket of its own on the other side, so that answers find back."""
    clients: dict[Any, Any] = {}
    async with trio.open_nursery() as nursery:
        while True:
            data, client = await own.recvfrom(_DATAGRAM)
            if client not in clients:
                server = trio.socket.socket(target.family, target.kind)
                await server.connect(target.target)
                clients[client] = server
                nursery.start_soon(_answer_datagrams, own, client, server, clients)
            with suppress(OSError):
                await clients[client].send(data)


async def _answer_datagrams(own: Any, client: Any, server: Any, clients: dict[Any, Any]) -> None:
    with server:
        while True:
            with trio.move_on_after(_UDP_IDLE) as idle:
                try:
                    await own.sendto(await server.recv(_DATAGRAM), client)
                except ConnectionRefusedError:
                    continue  # Nobody listens there now; the next datagram may find somebody.
            if idle.cancelled_caught:
                del clients[client]
                return


if __name__ == "__main__":
    main()
