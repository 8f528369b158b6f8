"""etcd of Debian as the peer of `scripts/bench store`: three members, and clients of its JSON gateway and of gRPC.

Owns its processes and the clients; refuses to compare (`store.py` does). The clients are cheap: the gateway's is one
loop over plain sockets, and gRPC's messages are put together by hand, so no code of etcd's is needed."""

import asyncio
import json
import selectors
import socket
import subprocess
import time
from base64 import b64encode
from http.client import HTTPConnection
from pathlib import Path
from random import randbytes
from typing import Any

from tests.harness.daemons import within

KEYS = 100  # of each client, written in turn


class Etcd:
    """Three members on this machine, with TLS between them; `client_ports[i]` is where member i serves clients."""

    def __init__(self, folder: Path, peer_ports: list[int], client_ports: list[int]) -> None:
        self.client_ports = client_ports
        peers = {f"e{number}": f"https://127.0.0.1:{port}" for number, port in enumerate(peer_ports, 1)}
        cluster = ",".join(f"{name}={url}" for name, url in peers.items())
        self._processes = []
        for (name, peer), port in zip(peers.items(), client_ports, strict=True):
            serves = f"http://127.0.0.1:{port}"
            command = ["etcd", "--name", name, "--data-dir", str(folder / name), "--peer-auto-tls"]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster]
            command += ["--listen-client-urls", serves, "--advertise-client-urls", serves, "--log-level", "error"]
            with open(folder / f"{name}.log", "wb") as log:
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def leader(self) -> int:
        """The place of the leader among the members, once there is one."""

        def find() -> int | None:
            for place, port in enumerate(self.client_ports):
                shown = _ask(port, "/v3/maintenance/status")
                if shown.get("leader") == shown["header"]["member_id"]:
                    return place + 1
            return None

        found: int = within(30, "etcd has a leader", find)
        return found - 1

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def _ask(port: int, path: str) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, "{}")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


# The JSON gateway.


class _Gateway:
    """One client, with one request under way."""

    def __init__(self, port: int, number: int, size: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = [_put(number, key, size) for key in range(KEYS)]
        self._sent = 0
        self._began = 0.0
        self._data = b""

    def ask(self) -> None:
        self._began = time.perf_counter()
        self.socket.sendall(self._requests[self._sent % KEYS])
        self._sent += 1

    def receive(self) -> float | None:
        """The seconds that the request took, when its answer is complete."""
        self._data += self.socket.recv(65536)
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return None
        assert head.startswith(b"HTTP/1.1 200"), self._data
        self._data = b""
        return time.perf_counter() - self._began


def _put(client: int, key: int, size: int) -> bytes:
    pair = {"key": f"bench/{client}-{key}".encode(), "value": randbytes(size)}
    body = json.dumps({name: b64encode(value).decode() for name, value in pair.items()})
    return f"POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def measure_gateway(port: int, clients: int, seconds: float, size: int) -> list[float]:
    """The seconds that each put took, of clients that each do one after the other."""
    took: list[float] = []
    with selectors.DefaultSelector() as selector:
        for number in range(clients):
            client = _Gateway(port, number, size)
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for key, _events in selector.select(1):
                if (done := key.data.receive()) is not None:
                    took.append(done)
                    key.data.ask()
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return took


# gRPC.


def measure_grpc(port: int, clients: int, seconds: float, size: int) -> list[float]:
    """Like `measure_gateway`, by gRPC over one channel."""
    return asyncio.run(_measure_grpc(port, clients, seconds, size))


async def _measure_grpc(port: int, clients: int, seconds: float, size: int) -> list[float]:
    import grpc.aio  # not a part of the tests' environment

    took: list[float] = []
    until = time.perf_counter() + seconds
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put")

        async def write(client: int) -> None:
            number = 0
            while (began := time.perf_counter()) < until:
                key = f"bench/{client}-{number % KEYS}".encode()
                await put(_field(1, key) + _field(2, randbytes(size)))
                took.append(time.perf_counter() - began)
                number += 1

        await asyncio.gather(*(write(client) for client in range(clients)))
    return took


def _field(number: int, value: bytes) -> bytes:
    """A field of bytes, up to 16 KiB, as protobuf has it."""
    low, high = len(value) & 127, len(value) >> 7
    length = bytes([low | 128, high]) if high else bytes([low])
    return bytes([number << 3 | 2]) + length + value
