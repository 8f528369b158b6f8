"""A client of the daemon on this host, over its unix socket.

Owns requests, operations that are waited for, and their failures as ApiError; refuses TLS, which `lxc` does."""

import http.client
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

DEFAULT_DIRECTORY = "/var/lib/lxd-node"


class ApiError(Exception):
    """The daemon refused or failed; the text is its own words. `code` is the HTTP status, 0 when nobody answered."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("lxd-node", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def state_directory(given: str | None = None) -> Path:
    """The state directory: the one given, else $LXD_DIR, else /var/lib/lxd-node."""
    return Path(given or os.environ.get("LXD_DIR") or DEFAULT_DIRECTORY)


class Client:
    """Asks the daemon whose state is in `directory`."""

    def __init__(self, directory: Path, timeout: float | None = None) -> None:
        self.socket = directory / "unix.socket"
        self._timeout = timeout

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The `metadata` of the answer. An operation is waited for, and its `metadata` returned. `bytes` are sent as
        they are, anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        status, answer = self._exchange(method, path, data)
        try:
            envelope = json.loads(answer or b"{}")
        except json.JSONDecodeError as error:
            raise ApiError(f"{method} {path}: the answer is no JSON: {error}") from error
        if status >= 400:
            raise ApiError(str(envelope.get("error", f"answer {status}")), status)
        if envelope.get("type") == "async":
            return self._wait(envelope["operation"])
        return envelope.get("metadata")

    def fetch(self, path: str) -> bytes:
        """The body of a GET that answers a file."""
        status, answer = self._exchange("GET", path, None)
        if status >= 400:
            raise ApiError(str(json.loads(answer).get("error", f"answer {status}")), status)
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = _UnixConnection(self.socket, self._timeout)
        kind = "application/json" if body is None or body[:1] in (b"{", b"[") else "application/octet-stream"
        try:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{self.socket}: {error}. Is the daemon running? (lxd-node daemon)") from error
        finally:
            connection.close()

    def exists(self, path: str) -> bool:
        """Whether a GET of the path finds something."""
        try:
            self.ask("GET", path)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def wait_ready(self, timeout: float | None) -> None:
        """Returns once the daemon answers as trusted and containers may start. ApiError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self.ask("GET", "/internal/ready")
                return
            except ApiError as error:
                if deadline is not None and time.monotonic() >= deadline:
                    raise ApiError(f"the daemon is not ready after {timeout:g} s: {error}", error.code) from error
            # There is no event to wait for: the socket itself does not exist before the daemon made it.
            time.sleep(0.05)

    def _wait(self, operation: str) -> Any:
        done = self.ask("GET", f"{operation}/wait")
        if done["status_code"] >= 400:
            raise ApiError(done["err"] or done["status"], 500)
        return done["metadata"]
