"""The console of a container with the real client, through a member that does not hold the container."""

import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def container(cluster: Cluster, image: bytes) -> Iterator[str]:
    """A container that runs on the first member."""
    fingerprint = cluster[1].ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    source = {"type": "image", "fingerprint": fingerprint}
    cluster[1].post("/1.0/containers?target=m1", {"name": "c1", "source": source})
    cluster[1].put("/1.0/containers/c1/state", {"action": "start"})
    yield "c1"
    cluster[1].lxc("delete", "--force", "c1")


class Client:
    """`lxc console` on a terminal of its own."""

    def __init__(self, member: Daemon, name: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(self._ours, (33, 99))
        assert member.host is not None
        self.process = subprocess.Popen(
            [*member.host.enter, "lxc", "console", name],
            env=member.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = b""

    def read_until(self, word: bytes) -> None:
        deadline = time.monotonic() + 10
        while word not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.seen += os.read(self._ours, 4096)

    def rest(self) -> bytes:
        """All that the client, which has ended, has written."""
        return self.seen + os.read(self._ours, 65536)

    def type(self, data: bytes) -> None:
        os.write(self._ours, data)

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._ours, (rows, columns))
        self.process.send_signal(signal.SIGWINCH)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._ours)


@pytest.fixture
def attach(cluster: Cluster, container: str) -> Iterator[Callable[[], Client]]:
    """Attaches clients, which are gone afterwards."""
    made: list[Client] = []

    def make() -> Client:
        made.append(Client(cluster[2], container))
        made[-1].read_until(b"To detach from the console")
        return made[-1]

    yield make
    for client in made:
        client.close()
    within(5, "the end of all sessions", lambda: not sessions(cluster, "Running"))


def sessions(cluster: Cluster, status: str) -> list[dict[str, object]]:
    """The console sessions on the first member that are in a state."""
    operations = cluster[1].get("/1.0/operations?recursion=1").get(status.lower(), [])
    return [one for one in operations if one["description"] == "Showing console"]


def run(cluster: Cluster, container: str, script: str) -> str:
    """What a script in the container writes."""
    return cluster[3].lxc("exec", "-T", container, "--", "sh", "-c", script).stdout.decode()


@pytest.mark.extension("console")
def test_what_is_written_and_typed_at_the_console_arrives(
    cluster: Cluster, container: str, attach: Callable[[], Client]
) -> None:
    client = attach()
    within(5, "the size", lambda: run(cluster, container, "stty size </dev/console") == "33 99\n")
    run(cluster, container, "echo from inside >/dev/console")
    client.read_until(b"from inside")
    client.type(b"typed words\r")
    assert run(cluster, container, "head -n 1 </dev/console") == "typed words\n"
    client.resize(44, 111)
    within(5, "the other size", lambda: run(cluster, container, "stty size </dev/console") == "44 111\n")
    for key in (b"\x01", b"q"):  # The client's way out: control-a, q, as two keys.
        time.sleep(0.2)
        client.type(key)
    assert client.process.wait(10) == 0
    assert sessions(cluster, "Success") and not sessions(cluster, "Failure")


def test_one_client_at_a_time_and_the_next_one_when_it_died(
    cluster: Cluster, container: str, attach: Callable[[], Client]
) -> None:
    first, second = attach(), attach()
    second.read_until(b"somebody else has it open")
    first.process.kill()

    def again() -> bool:
        client = attach()
        run(cluster, container, "echo once more >/dev/console")
        client.read_until(b"once more")
        return True

    within(10, "another session", again)


@pytest.mark.extension("console")
def test_the_log_is_read_cleared_and_survives_the_stop(cluster: Cluster, container: str) -> None:
    url = f"/1.0/containers/{container}/console"
    run(cluster, container, "echo first words >/dev/console")
    within(5, "the log", lambda: b"first words" in cluster[2].lxc("console", "--show-log", container).stdout)
    cluster[2].delete(url)
    assert b"first words" not in cluster[2].request("GET", url)[2]
    flood = "i=0; while [ $i -lt 40 ]; do head -c 8000 /dev/zero | tr '\\0' x; i=$((i+1)); done"
    run(cluster, container, f"({flood}) >/dev/console")
    run(cluster, container, "echo last words >/dev/console")
    within(5, "the log", lambda: b"last words" in cluster[2].request("GET", url)[2])
    assert 64 << 10 < len(cluster[2].request("GET", url)[2]) <= 128 << 10
    cluster[2].put(f"/1.0/containers/{container}/state", {"action": "stop", "force": True})
    assert b"last words" in cluster[2].request("GET", url)[2]
    with pytest.raises(ApiError, match=r"^Container is not running$"):
        cluster[2].post(url, {})
    cluster[2].delete(url)
    assert cluster[2].request("GET", url)[2] == b""
    cluster[2].put(f"/1.0/containers/{container}/state", {"action": "start"})


def test_a_console_ends_with_its_container(cluster: Cluster, container: str, attach: Callable[[], Client]) -> None:
    client = attach()
    # The client speaks before it asks, and the operation runs before the console is open; then it has a size.
    within(5, "a session", lambda: run(cluster, container, "stty size </dev/console") == "33 99\n")
    cluster[2].put(f"/1.0/containers/{container}/state", {"action": "stop", "force": True})
    assert client.process.wait(10) == 0, client.rest()
    cluster[2].put(f"/1.0/containers/{container}/state", {"action": "start"})
    cluster[2].put(f"/1.0/containers/{container}/state", {"action": "freeze"})
    with pytest.raises(ApiError, match=r"^Container is frozen$"):
        cluster[2].post(f"/1.0/containers/{container}/console", {})
    cluster[2].put(f"/1.0/containers/{container}/state", {"action": "unfreeze"})
