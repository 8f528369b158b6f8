"""The end and the start of a host: how its containers stop, in which order and for how long, and how they come back."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.daemons import Daemon, within

pytestmark = pytest.mark.slow

_KEYS = {"priority": "autostart.priority", "delay": "autostart.delay", "stop_priority": "stop.priority"}


@pytest.fixture
def containers(server: Daemon, image: bytes) -> Iterator[Any]:
    """Makes containers of the busybox image that run; they are gone afterwards, and so is the image."""
    fingerprint = server.ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    made: list[str] = []

    def make(name: str, **boot: str) -> None:
        source = {"type": "image", "fingerprint": fingerprint}
        config = {f"boot.{_KEYS.get(key, key)}": value for key, value in boot.items()}
        server.post("/1.0/containers", {"name": name, "source": source, "config": config})
        server.put(f"/1.0/containers/{name}/state", {"action": "start"})
        made.append(name)

    yield make
    if server.process is None or server.process.poll() is not None:
        server.start().wait_ready()
    for name in made:
        server.lxc("delete", "--force", name, check=False)
    server.delete(f"/1.0/images/{fingerprint}")


def hang(server: Daemon, name: str) -> None:
    """Lets the container's init ignore that it should end."""
    os.kill(server.get(f"/1.0/containers/{name}/state")["pid"], signal.SIGSTOP)


def stopped_at(server: Daemon, name: str) -> float:
    """When a container had stopped, by what its stop hook wrote."""
    return (server.directory / "devices" / name / "stopped").stat().st_mtime


def end(server: Daemon, how: str) -> float:
    """Ends the daemon in a way that stops containers first; how long it took."""
    began = time.monotonic()
    if how == "PWR":
        server.signal(signal.SIGPWR)
    else:
        server.command("shutdown")
    assert server.process is not None
    server.process.wait(20)
    return time.monotonic() - began


@pytest.mark.extension("container_host_shutdown_timeout")
@pytest.mark.parametrize(("how", "patience"), [("PWR", 1), ("command", 0)])
def test_a_container_that_hangs_is_killed_when_its_time_is_over(
    server: Daemon, containers: Any, how: str, patience: int
) -> None:
    containers("hangs", host_shutdown_timeout=str(patience))
    hang(server, "hangs")
    assert patience <= end(server, how) < patience + 7
    server.start().wait_ready()
    within(10, "started again", lambda: server.get("/1.0/containers/hangs/state")["status"] == "Running")


@pytest.mark.extension("container_stop_priority")
def test_a_higher_priority_stops_before_a_lower_one_and_equals_stop_together(server: Daemon, containers: Any) -> None:
    containers("first-a", stop_priority="5", host_shutdown_timeout="1")
    containers("first-b", stop_priority="5", host_shutdown_timeout="1")
    containers("last")
    for name in ("first-a", "first-b"):
        hang(server, name)
    assert end(server, "PWR") < 2 + 8
    times = {name: stopped_at(server, name) for name in ("first-a", "first-b", "last")}
    assert abs(times["first-a"] - times["first-b"]) < 0.9  # Together, not one after the other.
    assert max(times["first-a"], times["first-b"]) <= times["last"]


def test_containers_come_back_in_order_with_their_delays(server: Daemon, containers: Any) -> None:
    containers("b-late", autostart="true")
    containers("a-late", autostart="true")
    containers("early", autostart="true", priority="10", delay="1")
    containers("never", autostart="false")
    containers("as-before", delay="-1")
    containers("stopped")
    containers("frozen")
    server.put("/1.0/containers/stopped/state", {"action": "stop", "force": True})
    server.put("/1.0/containers/frozen/state", {"action": "freeze"})
    end(server, "PWR")
    assert server.process is not None
    server.start().wait_ready()
    names = ("early", "a-late", "as-before", "b-late")
    within(15, "all started", lambda: all(status(server, name) == "Running" for name in names))
    used = [server.get(f"/1.0/containers/{name}")["last_used_at"] for name in names]
    assert used == sorted(used)
    assert seconds(used[1]) - seconds(used[0]) >= 1
    assert status(server, "never") == status(server, "stopped") == status(server, "frozen") == "Stopped"


def test_a_container_that_cannot_start_holds_nothing_up(server: Daemon, containers: Any) -> None:
    containers("broken", autostart="true", priority="1")
    containers("whole", autostart="true")
    end(server, "PWR")
    rootfs = server.directory / "containers" / "broken" / "rootfs"
    rootfs.rename(rootfs.with_name("away"))
    server.start().wait_ready()
    within(10, "the other one started", lambda: status(server, "whole") == "Running")
    assert status(server, "broken") == "Stopped"


def status(server: Daemon, name: str) -> str:
    """How a container is."""
    found: str = server.get(f"/1.0/containers/{name}")["status"]
    return found


def seconds(text: str) -> float:
    """Seconds of the day of a time such as 2026-01-02T03:04:05.678Z."""
    hours, minutes, rest = text.rstrip("Z").partition("T")[2].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)
