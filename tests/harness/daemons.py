"""lxd-node daemons as processes: started, asked, killed and stopped, alone or as a cluster in network namespaces.

Owns the processes and what they leave on the host; refuses to know what a test is about."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.harness.namespaces import Host, Switch, run

PASSWORD = "lxd-node demo"
LXD_NODE = Path(sys.executable).with_name("lxd-node")
PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))
"""Times as long as elsewhere may everything take: an emulated processor is slow (scripts/lab)."""


class ApiError(Exception):
    """The daemon refused; `code` is the HTTP status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("lxd-node", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def within(seconds: float, what: str, condition: Callable[[], Any]) -> Any:
    """Waits until `condition` gives something true, and returns it; fails after `seconds` (times PATIENCE), saying what
    was awaited.

    An exception counts as "not yet": members that are away refuse connections."""
    deadline = time.monotonic() + seconds * PATIENCE
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except (OSError, ApiError, AssertionError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}; last: {last!r}")


def unhurried(seconds: float) -> float:
    """A limit for what takes so long on an idle machine: longer by as many times as tasks want each processor."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Daemon:
    """One daemon with its state in `directory`, in the namespace of `host` or (None) in that of the tests."""

    def __init__(self, directory: Path, host: Host | None = None, name: str = "m1") -> None:
        self.directory = directory
        self.host = host
        self.name = name
        self.extra: dict[str, str] = {}
        self.program = [str(LXD_NODE)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "unix.socket"

    @property
    def address(self) -> str:
        """host:port of its API over TLS."""
        return f"{self.host.address if self.host else '127.0.0.1'}:8443"

    @property
    def environment(self) -> dict[str, str]:
        conf = self.directory.with_name(self.directory.name + ".conf")
        return {**os.environ, **self.extra, "LXD_DIR": str(self.directory), "LXD_CONF": str(conf), "HOME": str(conf)}

    def start(self, *options: str) -> "Daemon":
        """Starts the process; `wait_ready` waits for it. Its output goes to DIRECTORY.log."""
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        enter = self.host.inhabit if self.host else []
        with open(f"{self.directory}.log", "ab") as log:
            self.process = subprocess.Popen(
                [*enter, *self.program, "daemon", "--verbose", *options],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def wait_ready(self, seconds: float = 15) -> "Daemon":
        """Waits until it answers as to a trusted client, `unhurried`; says why when it ended instead."""

        def ready() -> bool:
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log()[-3000:]}")
            self.get("/internal/ready")
            return True

        within(unhurried(seconds), f"{self.name} is ready", ready)
        return self

    def wait_ready_without_quorum(self, seconds: float = 15) -> "Daemon":
        """Waits until it answers at all: without a quorum it does not get further."""
        within(seconds, f"{self.name} answers", lambda: self.request("GET", "/1.0")[0] == 200)
        return self

    def log(self) -> str:
        """What it has written so far."""
        path = Path(f"{self.directory}.log")
        return path.read_text(errors="replace") if path.exists() else ""

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, timeout: float = 30
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in lower case, body) of one request over the unix socket; bytes are sent as they are."""
        connection = UnixConnection(str(self.socket), timeout * PATIENCE)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body)
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, timeout: float = 60
    ) -> Any:
        """The metadata of the answer; an operation is waited for. ApiError with the daemon's words when it fails."""
        status, _headers, data = self.request(method, path, body, headers, timeout)
        envelope = json.loads(data)
        if status >= 400:
            raise ApiError(envelope["error"], status)
        if envelope["type"] != "async":
            return envelope["metadata"]
        done = self.ask("GET", f"{envelope['operation']}/wait", timeout=timeout)
        if done["status_code"] != 200:
            raise ApiError(done["err"], done["status_code"])
        return done

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def put(self, path: str, body: object) -> Any:
        return self.ask("PUT", path, body)

    def post(self, path: str, body: object) -> Any:
        return self.ask("POST", path, body)

    def patch(self, path: str, body: object) -> Any:
        return self.ask("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self.ask("DELETE", path)

    def lxc(
        self, *argv: str, stdin: bytes = b"", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs Debian's `lxc` client against this daemon."""
        done = subprocess.run(
            [*(self.host.enter if self.host else []), "lxc", *argv],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(
                f"lxc {' '.join(argv)}: {done.returncode} {done.stderr.decode()} {done.stdout.decode()}"
            )
        return done

    def command(self, *argv: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Runs the `lxd-node` command on this state directory."""
        enter = self.host.enter if self.host else []
        done = subprocess.run(
            [*enter, str(LXD_NODE), *argv], env=self.environment, input=stdin, capture_output=True, timeout=90
        )
        if check and done.returncode:
            raise AssertionError(f"lxd-node {' '.join(argv)}: {done.stderr.decode()} {done.stdout.decode()}")
        return done

    def kill(self) -> None:
        """kill -9, as a power cut of the process."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)

    def end(self) -> None:
        """Ends it as an upgrade does: its containers run on."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        self.process.wait(unhurried(20))

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Ends the daemon and its containers, and what it left on the host."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGPWR)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.sweep()

    def sweep(self) -> None:
        """Ends containers and helpers that belong to this state directory and outlived its daemon, then unmounts."""
        for pid in processes_of(self.directory):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.directory}/")), reverse=True):
            run("umount", "-l", mount, check=False)


def processes_of(directory: Path) -> list[int]:
    """Monitors, inits and helpers whose command line or environment names the state directory."""
    mark = str(directory).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"LXD_DIR=" + mark + b"\0" in words + b"\0" or mark + b"/" in words.split(b"\0")[0]:
            found.append(int(entry.name))
    return found


class Cluster:
    """Members 1 to N in namespaces of one switch, with their state in `directory`/mI."""

    def __init__(self, directory: Path, members: int, prefix: str, network: str = "10.94.0") -> None:
        self.switch = Switch(prefix, network)
        self.members = [
            Daemon(directory / f"m{number}", self.switch.host(number), f"m{number}") for number in range(1, members + 1)
        ]

    def __getitem__(self, number: int) -> Daemon:
        """The member with a number, from 1 on."""
        return self.members[number - 1]

    def start(self) -> "Cluster":
        """Starts every daemon and waits until each answers. Namespaces that a killed run has left go first."""
        self.switch.down()
        self.switch.up(len(self.members))
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_ready()
        return self

    def form(self, **preseed: Any) -> "Cluster":
        """Makes the first member the cluster, and lets the others join it one after the other."""
        first = self.members[0]
        wanted = {
            "config": {"core.https_address": first.address, "core.trust_password": PASSWORD},
            "cluster": {"enabled": True, "server_name": first.name},
            **preseed,
        }
        first.command("init", "--preseed", stdin=json.dumps(wanted).encode())
        for member in self.members[1:]:
            self.join(member)
        return self

    def join(self, member: Daemon, through: Daemon | None = None) -> None:
        """Lets a fresh member join, through the first if no other is named."""
        wanted = {"cluster": self.join_request(member, through)}
        member.command("init", "--preseed", stdin=json.dumps(wanted).encode())

    def join_request(self, member: Daemon, through: Daemon | None = None) -> dict[str, Any]:
        """The body of PUT /1.0/cluster with which a member joins, through the first if no other is named."""
        through = through or self.members[0]
        return {
            "enabled": True,
            "server_name": member.name,
            "server_address": member.address,
            "cluster_address": through.address,
            "cluster_certificate": (through.directory / "cluster.crt").read_text(),
            "cluster_password": PASSWORD,
            "member_config": [{"entity": "storage-pool", "name": "default", "key": "source", "value": ""}],
        }

    def leader(self) -> Daemon:
        """The member that leads, as the members that answer see it; one that has left the cluster leads nobody here."""

        def ask() -> Daemon | None:
            for member in self.members:
                if member.process is not None and member.process.poll() is None:
                    name = member.get("/internal/cluster/status")["leader"]
                    if found := [one for one in self.members if one.name == name]:
                        return found[0]
            return None

        found: Daemon = within(10, "the cluster has a leader", ask)
        return found

    def stop(self) -> None:
        """Ends all members and removes their namespaces."""
        for member in self.members:
            member.stop()
        self.switch.down()
