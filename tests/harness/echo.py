"""Servers that answer what they are told, and clients, as processes in the namespaces of hosts and containers.

Owns their sockets; refuses to know what stands between them."""

import array
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def serve(enter: Sequence[str], address: str, user: int | None = None, directory: str = "/") -> Iterator[None]:
    """A server at `tcp:ADDRESS:PORT`, `udp:ADDRESS:PORT` or `unix:PATH`, in the namespaces that `enter` enters, as the
    host's `user`, with a relative path in `directory`. It answers its address, `<uid of the client>` if that came by a
    unix socket, and what it was told."""
    with subprocess.Popen(
        [*enter, sys.executable, __file__, "serve", address],
        stdout=subprocess.PIPE,
        user=user,
        group=user,
        cwd=directory,
    ) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.kill()


def talk(enter: Sequence[str], address: str, words: str) -> str:
    """The answer to some words; AssertionError when nobody answers. `FD` passes a descriptor of /etc/hostname along."""
    command = [*enter, sys.executable, __file__, "talk", address, words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _split(address: str) -> tuple[str, int, object]:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return kind, socket.AF_UNIX, "\0" + rest[1:] if rest.startswith("@") else rest
    host, _, port = rest.rpartition(":")
    return kind, socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port))


def _serve(address: str) -> None:
    kind, family, target = _split(address)
    own = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    if kind != "unix":
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    own.bind(target)
    if kind == "udp":
        print("ready", flush=True)
        while True:
            data, client = own.recvfrom(65536)
            own.sendto(address.encode() + b" " + data, client)
    own.listen()
    if kind == "unix" and isinstance(target, str) and not target.startswith("\0"):
        os.chmod(target, 0o777)  # noqa: PTH101
    print("ready", flush=True)
    while True:
        client, _ = own.accept()
        with client:
            _answer(client, address)


def _answer(client: socket.socket, address: str) -> None:
    data, passed, _, _ = socket.recv_fds(client, 65536, 4)
    who = ""
    if client.family == socket.AF_UNIX:
        who = f"<{struct.unpack('3i', client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]}>"
    for descriptor in passed:
        data += b" " + os.read(descriptor, 1000)
        os.close(descriptor)
    client.sendall(f"{address}{who} ".encode() + data)


def _talk(address: str, words: str) -> None:
    kind, family, target = _split(address)
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as own:
        own.settimeout(10)
        own.connect(target)
        if words == "FD":
            descriptor = os.open("/etc/hostname", os.O_RDONLY)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            own.sendmsg([words.encode()], [rights])
        else:
            own.sendall(words.encode())
        answer = own.recv(65536)
        assert answer, "closed without an answer"
        print(answer.decode(), end="")


if __name__ == "__main__":
    {"serve": _serve, "talk": _talk}[sys.argv[1]](*sys.argv[2:])
