"""Clients that write and read profiles through random members, and write down what they were told and when.

Owns what an answer means for the history; refuses to judge it (`linearizability.py` does)."""

import json
import random
import threading
import time
from http.client import HTTPException
from itertools import count
from typing import Any

from tests.harness.daemons import Daemon, UnixConnection
from tests.harness.linearizability import ABSENT, NEVER, Kind, Operation

PATIENCE = 8.0  # a member that is stopped answers nothing
KEYS = 8  # at a time
GENERATION = 10.0  # seconds after which other keys are used, so that no history grows without end
_RESULTS = {404: "missing", 412: "changed"}


class Unanswered(Exception):
    """It may have been done, or not."""


class Refused(Exception):
    """It was surely not done."""


class Client(threading.Thread):
    """One client; `history` is what it saw so far, `refused` counts what was surely not done, `failure` ended it."""

    def __init__(self, members: list[Daemon], number: int, seed: int) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.history: list[Operation] = []
        self.refused = 0
        self.failure: AssertionError | None = None
        self._members = members
        self._number = number
        self._chance = random.Random(f"{seed}/{number}")
        self._values = count()
        self._began = time.monotonic()
        self._connections: dict[str, UnixConnection] = {}
        self._known: dict[str, tuple[str, str]] = {}  # key -> version and ETag read last
        self._over = threading.Event()

    def end(self) -> None:
        """Stops after the operation at hand."""
        self._over.set()

    def reads(self, key: str) -> bool:
        """Reads a key now, in the caller's thread; whether the answer was one to rely on."""
        known = len(self.history)
        self._do(key, "read")
        return len(self.history) > known

    def run(self) -> None:
        try:
            self._work()
        except AssertionError as error:  # an answer that no client can understand
            self.failure = error
        finally:
            self.close()

    def close(self) -> None:
        """Ends its connections."""
        for connection in self._connections.values():
            connection.close()

    def _work(self) -> None:
        while not self._over.is_set():
            generation = int((time.monotonic() - self._began) / GENERATION)
            key = f"g{generation}-k{self._chance.randrange(KEYS)}"
            kind: Kind = self._chance.choice(["read", "read", "create", "update", "update", "delete"])
            self._do(key, "read" if kind == "update" and key not in self._known else kind)
            self._over.wait(self._chance.uniform(0, 0.05))

    def _do(self, key: str, kind: Kind) -> None:
        value = f"{self._number}.{next(self._values)}" if kind in ("create", "update") else ""
        expected, etag = self._known.pop(key) if kind == "update" else ("", "")
        member = self._chance.choice(self._members)
        invoked = time.monotonic()
        try:
            result = self._ask(member, key, kind, value, etag)
        except Refused:
            self.refused += 1
            return
        except Unanswered:
            self._connections.pop(member.name).close()
            if kind != "read":
                self.history.append(Operation(key, kind, "unknown", invoked, NEVER, value, expected))
            return
        self.history.append(Operation(key, kind, result, invoked, time.monotonic(), value, expected))

    def _ask(self, member: Daemon, key: str, kind: Kind, value: str, etag: str) -> str:
        path, body = f"/1.0/profiles/{key}", {"config": {"user.value": value}, "description": "", "devices": {}}
        if kind == "create":
            status, headers, answer = self._send(member, "POST", "/1.0/profiles", {"name": key, **body})
        elif kind == "update":
            status, headers, answer = self._send(member, "PUT", path, body, {"If-Match": etag})
        elif kind == "delete":
            status, headers, answer = self._send(member, "DELETE", path)
        else:
            return self._read(member, key, path)
        if status < 300:
            return "ok"
        if "x-lxd-node-stale" in headers:
            raise Refused
        if status == 503:
            raise Refused if "othing was changed" in answer["error"] else Unanswered
        if answer["error"] == "The profile already exists":  # LXD's 400
            return "exists"
        if status not in _RESULTS:
            raise AssertionError(f"{kind} {key} through {member.name}: {status} {answer['error']}")
        return _RESULTS[status]

    def _read(self, member: Daemon, key: str, path: str) -> str:
        status, headers, answer = self._send(member, "GET", path)
        if "x-lxd-node-stale" in headers or status == 503:
            raise Refused
        if status == 404:
            return ABSENT
        value: str = answer["metadata"]["config"]["user.value"]
        self._known[key] = (value, headers["etag"])
        return value

    def _send(
        self, member: Daemon, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        connection = self._connections.get(member.name)
        if connection is None:
            connection = UnixConnection(str(member.socket), PATIENCE)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise Refused from error
            self._connections[member.name] = connection
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers or {})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise Unanswered from error
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, json.loads(data)
