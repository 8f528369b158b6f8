"""The state of containers' processes, kept and brought back by CRIU, on a kernel that can (scripts/lab)."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lxdnode.drivers.runtime import checkpoint
from tests.harness.daemons import ApiError, Daemon, within


def can_checkpoint() -> bool:
    """Whether CRIU is there and finds all that it needs."""
    try:
        return subprocess.run(["criu", "check"], capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.slow
CAN = can_checkpoint()
can = pytest.mark.skipif(not CAN, reason="`criu check` finds no CRIU that works here")
cannot = pytest.mark.skipif(CAN or not checkpoint.is_installed(), reason="CRIU is missing, or works")


_INIT = b"""#!/bin/sh
n=0
while :; do n=$((n+1)); echo $n > /root/new; mv /root/new /root/count; sleep 0.2; done
"""


class Counter:
    """A container whose init counts in its memory, and writes each number into /root/count.

    No command began it: the session of such a process is outside, and CRIU takes no process out of its session."""

    def __init__(self, api: Daemon, name: str) -> None:
        self.api = api
        self.url = f"/1.0/containers/{name}"
        self.state = api.directory / "containers" / name / "state"

    def change(self, action: str, **fields: Any) -> None:
        self.api.ask("PUT", f"{self.url}/state", {"action": action} | fields, timeout=300)

    def run(self, line: str) -> int:
        """The exit status of a shell line inside."""
        done = self.api.post(f"{self.url}/exec", {"command": ["sh", "-c", line]})
        status: int = done["metadata"]["return"]
        return status

    def count(self) -> int:
        """How far it has come."""
        status, _headers, body = self.api.request("GET", f"{self.url}/files?path=/root/count")
        return int(body) if status == 200 else 0

    def goes_on_from(self, number: int) -> None:
        """It counts on from a number, and has not begun again."""
        within(30, f"it counts on from {number}", lambda: number < self.count())

    def shown(self) -> tuple[str, bool]:
        found = self.api.get(self.url)
        return found["status"], found["stateful"]


@pytest.fixture(params=["unprivileged", "privileged"])
def counter(server: Daemon, fingerprint: str, request: pytest.FixtureRequest) -> Iterator[Counter]:
    """A container that counts."""
    name = request.node.name.removeprefix("test_").translate(str.maketrans("_[", "--", "]"))[:60].rstrip("-")
    config = {"security.privileged": "true"} if request.param == "privileged" else {}
    source = {"type": "image", "fingerprint": fingerprint}
    server.post("/1.0/containers", {"name": name, "source": source, "config": config})
    made = Counter(server, name)
    server.ask("POST", f"{made.url}/files?path=/sbin/init", _INIT, {"X-LXD-mode": "0755"})
    made.change("start")
    within(60, "it counts", lambda: made.count() > 3)
    yield made
    if made.shown()[0] != "Stopped":
        made.change("stop", force=True)
    server.delete(made.url)


@can
@pytest.mark.lab
def test_processes_go_on_where_a_stop_has_stored_them(counter: Counter) -> None:
    counter.change("stop", stateful=True)
    assert counter.shown() == ("Stopped", True)
    reached = counter.count()
    assert (counter.state / "inventory.img").exists()
    counter.change("start", stateful=True)
    assert counter.shown() == ("Running", False)
    counter.goes_on_from(reached)
    assert not counter.state.exists()
    assert counter.run("ip link show eth0") == 0
    counter.change("stop", force=True)
    with pytest.raises(ApiError, match="Container has no existing state to restore."):
        counter.change("start", stateful=True)


@can
@pytest.mark.lab
def test_processes_go_on_where_a_snapshot_was_made(counter: Counter) -> None:
    counter.api.ask("POST", f"{counter.url}/snapshots", {"name": "s", "stateful": True}, timeout=300)
    assert counter.api.get(f"{counter.url}/snapshots/s")["stateful"] is True
    assert not counter.state.exists()
    counter.goes_on_from(counter.count() + 20)
    later = counter.count()
    counter.api.ask("PUT", counter.url, {"restore": "s", "stateful": True}, timeout=300)
    back = counter.count()
    assert 3 < back < later
    assert counter.shown() == ("Running", False)
    counter.goes_on_from(back)
    counter.change("stop", force=True)
    counter.api.put(counter.url, {"restore": "s"})
    assert counter.shown() == ("Stopped", False)
    assert not counter.state.exists()


@can
@pytest.mark.lab
@pytest.mark.parametrize("counter", ["unprivileged"], indirect=True)
def test_a_start_without_the_state_forgets_it(counter: Counter) -> None:
    counter.goes_on_from(20)
    counter.change("stop", stateful=True)
    reached = counter.count()
    counter.change("start")
    assert counter.shown() == ("Running", False)
    assert not counter.state.exists()
    within(30, "it counts from the beginning", lambda: 0 < counter.count() < reached)


@cannot
def test_what_cannot_be_stored_goes_on(counter: Counter) -> None:
    asked = [
        lambda: counter.change("stop", stateful=True),
        lambda: counter.api.post(f"{counter.url}/snapshots", {"name": "s", "stateful": True}),
    ]
    for ask in asked:
        with pytest.raises(ApiError, match="snapshot dump failed\n"):
            ask()
        assert counter.shown() == ("Running", False)
        assert not counter.state.exists()
        counter.goes_on_from(counter.count())
    assert counter.api.get(f"{counter.url}/snapshots") == []
