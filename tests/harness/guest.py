"""Asks a container's /dev/lxd/sock as a process inside would: through its own mounts and with the ids of its users.

Owns the processes that do so (the busybox image has no client for unix sockets); refuses to know what is asked."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import wsproto
from wsproto.events import AcceptConnection, Request, TextMessage


class _Sock(HTTPConnection):
    def connect(self) -> None:
        self.sock = _connect()


def _connect(patience: int = 10) -> socket.socket:
    """BlockingIOError when nobody takes the connection within `patience` seconds."""
    own = socket.socket(socket.AF_UNIX)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", patience, 0))
    own.connect(f"/proc/self/fd/{sys.argv[3]}/sock")  # The container's /dev/lxd, opened beforehand.
    own.settimeout(10)
    return own


def ask(pid: int, path: str, uid: int) -> tuple[int, bytes]:
    """Status and body of what a process with the host's id `uid`, in the container of init `pid`, reads at a path."""
    with _child(pid, uid, "ask", path) as child:
        output, errors = child.communicate(timeout=20)
    assert child.returncode == 0, errors.decode()
    status, _, body = output.partition(b"\n")
    return int(status), body


@contextmanager
def listen(pid: int, uid: int, query: str = "") -> Iterator[Iterator[dict[str, Any]]]:
    """The events that a process in the container gets; it listens when the block begins."""
    with _child(pid, uid, "listen", f"/1.0/events{query}") as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"listening\n"
            yield (json.loads(line) for line in child.stdout)
        finally:
            child.kill()


@contextmanager
def hold(pid: int, uid: int, count: int) -> Iterator[None]:
    """As many connections that ask nothing, as long as the block runs; fewer when no more are taken."""
    with _child(pid, uid, "hold", str(count)) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"holding\n"
            yield
        finally:
            child.kill()


def _child(pid: int, uid: int, what: str, path: str) -> subprocess.Popen[bytes]:
    """Permissions are those of `uid`; the tree is reached through the container's root."""
    folder = os.open(f"/proc/{pid}/root/dev/lxd", os.O_PATH | os.O_DIRECTORY)
    try:
        return subprocess.Popen(
            [sys.executable, __file__, what, path, str(folder)],
            pass_fds=(folder,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
        )
    finally:
        os.close(folder)


def _ask(path: str) -> None:
    connection = _Sock("lxd", timeout=10)
    connection.request("GET", path)
    answer: HTTPResponse = connection.getresponse()
    sys.stdout.buffer.write(f"{answer.status}\n".encode() + answer.read())


def _listen(path: str) -> None:
    own, client = _connect(), wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    own.settimeout(None)
    own.sendall(client.send(Request(host="lxd", target=path)))
    while data := own.recv(65536):
        client.receive_data(data)
        for event in client.events():
            if isinstance(event, AcceptConnection):
                print("listening", flush=True)
            elif isinstance(event, TextMessage):
                print(event.data, flush=True)


def _hold(count: str) -> None:
    held = []
    with suppress(BlockingIOError):
        for _ in range(int(count)):
            held.append(_connect(patience=1))
    print("holding", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"ask": _ask, "listen": _listen, "hold": _hold}[sys.argv[1]](sys.argv[2])
