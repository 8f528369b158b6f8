"""The clients of `scripts/load`, a process for each kind: they ask as fast or as often as they are told, and print
what they saw as JSON.

Owns the asking; refuses to start daemons and to judge (`load.py` does). Threads and plain sockets: a client that costs
a fifth of what it measures."""

import itertools
import json
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

KEPT = 5
"""Profiles that each creator leaves alive: the oldest goes when there are more."""
LIMIT = 30.0
"""Seconds that a client waits for an answer."""


class Record:
    """What the threads of one process saw: seconds and errors by kind of request."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}
        self._errors: Counter[str] = Counter()

    def measure(self, kind: str, ask: Callable[[], Any]) -> Any:
        """Asks and keeps how long it took. None when it failed, which is kept by its words."""
        began = time.monotonic()
        try:
            answer = ask()
        except (OSError, Refused) as error:
            self._errors[f"{kind}: {type(error).__name__} {error}"[:160]] += 1
            return None
        self._seconds.setdefault(kind, []).append(time.monotonic() - began)
        return answer

    def summary(self) -> dict[str, Any]:
        return {"rows": {kind: _row(values) for kind, values in self._seconds.items()}, "errors": dict(self._errors)}


def _row(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    quantiles = {f"p{q}": 1000 * ordered[int(len(ordered) * q / 100)] for q in (50, 99)}
    return {"count": len(ordered), **quantiles, "max": 1000 * ordered[-1]}


class Refused(Exception):
    """The daemon's own words, and its status."""


class Client:
    """A kept connection to a unix socket; a new one after a failure."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The body of the answer. Refused, OSError."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            return self._exchange(f"{method} {path} HTTP/1.1\r\nHost: l\r\nContent-Length: {len(data)}\r\n\r\n", data)
        except OSError:
            self._socket = None
            raise

    def _exchange(self, head: str, data: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(LIMIT)
            self._socket.connect(self._path)
            self._file = self._socket.makefile("rb")
        self._socket.sendall(head.encode() + data)
        status, length = self._file.readline(), 0
        while line := self._file.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not status:
            raise ConnectionResetError("closed without an answer")
        answer = self._file.read(length)
        if int(status.split()[1]) >= 400:
            raise Refused(json.loads(answer)["error"])
        return answer


def create(end: float, sockets: Sequence[str], count: int) -> dict[str, Any]:
    """`count` threads that make profiles and delete their older ones; tells which must be there at the end."""
    record, alive, gone = Record(), set[str](), set[str]()

    def run(number: int) -> None:
        client, own = Client(sockets[number % len(sockets)]), deque[str]()
        for turn in itertools.count():
            if time.time() > end:
                return
            name = f"load-{number}-{turn}"
            body = {"name": name, "config": {"user.load": "x" * 50}}
            if record.measure("create", partial(client.ask, "POST", "/1.0/profiles", body)) is not None:
                own.append(name)
                alive.add(name)
            if len(own) > KEPT:
                oldest = own.popleft()
                alive.discard(oldest)
                if record.measure("delete", partial(client.ask, "DELETE", f"/1.0/profiles/{oldest}")) is not None:
                    gone.add(oldest)

    _run_all([threading.Thread(target=run, args=(number,)) for number in range(count)])
    return record.summary() | {"alive": sorted(alive), "gone": sorted(gone)}


def connect(end: float, addresses: Sequence[str], pair: str, rate: float) -> dict[str, Any]:
    """`rate` new TLS connections a second, each for one GET: at their times, whatever became of those before."""
    record, context = Record(), _context(pair)
    schedule = itertools.count()
    began = time.time()

    def once() -> None:
        host, port = random.choice(addresses).split(":")
        with socket.create_connection((host, int(port)), LIMIT) as raw, context.wrap_socket(raw) as secured:
            secured.sendall(b"GET /1.0 HTTP/1.1\r\nHost: l\r\n\r\n")
            if not secured.recv(65536).startswith(b"HTTP/1.1 200"):
                raise Refused("not 200")

    def run() -> None:
        while (due := began + next(schedule) / rate) < end:
            time.sleep(max(0.0, due - time.time()))
            record.measure("connect", once)

    _run_all([threading.Thread(target=run) for _ in range(16)])
    return record.summary()


def look(end: float, sockets: Sequence[str]) -> dict[str, Any]:
    """Full lists from one member after the other, each second."""
    record, clients = Record(), [Client(path) for path in sockets]
    for turn in itertools.count():
        if time.time() > end:
            return record.summary()
        ask = partial(clients[turn % len(clients)].ask, "GET")
        for noun in ("containers", "profiles"):
            record.measure(f"list {noun}", partial(ask, f"/1.0/{noun}?recursion=1"))
        time.sleep(1)
    raise AssertionError


def upload(address: str, pair: str, image: str) -> dict[str, Any]:
    """One image over TLS, its operation included."""
    record = Record()
    host, port = address.split(":")

    def once() -> None:
        client = HTTPSConnection(host, int(port), context=_context(pair), timeout=600)
        with Path(image).open("rb") as file:
            length = {"Content-Length": str(Path(image).stat().st_size)}
            client.request("POST", "/1.0/images", file, length)
            answer = client.getresponse()
            envelope = json.loads(answer.read())
        if answer.status >= 400:
            raise Refused(envelope["error"])
        client.request("GET", f"{envelope['operation']}/wait")
        done = json.loads(client.getresponse().read())["metadata"]
        if done["status_code"] != 200:
            raise Refused(done["err"])

    record.measure("upload", once)
    return record.summary()


def _context(pair: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(f"{pair}.crt", f"{pair}.key")
    return context


def _run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    KINDS: dict[str, Callable[..., dict[str, Any]]] = {
        "create": create,
        "connect": connect,
        "look": look,
        "upload": upload,
    }
    print(json.dumps(KINDS[sys.argv[1]](**json.loads(sys.argv[2]))))
