"""A member that lost the majority: it shows what it knows, runs its containers, changes nothing, and tells later."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture
def lonely(cluster: Cluster, image: bytes) -> Iterator[Daemon]:
    """The first of three members, with a stopped container `alone`; the others are killed, and come back afterwards."""
    first, *others = cluster.members
    shown = lambda: first.get("/1.0/cluster/members?recursion=1")  # noqa: E731
    within(10, "all three vote", lambda: all(one["database"] for one in shown()))
    first.ask("POST", "/1.0/images", image)
    fingerprint = first.get("/1.0/images")[0].rsplit("/", 1)[1]
    source = {"type": "image", "fingerprint": fingerprint}
    first.post("/1.0/containers?target=m1", {"name": "alone", "source": source})
    change(first, "start")
    change(first, "stop")
    for member in others:
        member.kill()
    try:
        within(10, "the member knows that it is alone", lambda: first.get("/internal/cluster/status")["missing"])
        yield first
    finally:
        bring_back(others)


def bring_back(members: list[Daemon]) -> None:
    for member in members:
        if member.process is None or member.process.poll() is not None:
            member.start()
    for member in members:
        member.wait_ready(30)


def change(member: Daemon, action: str) -> None:
    member.put("/1.0/containers/alone/state", {"action": action, "timeout": 20, "force": True})


def refused(member: Daemon, method: str, path: str, body: object) -> str:
    """The words of a 503 that came within a second."""
    started = time.monotonic()
    with pytest.raises(ApiError) as error:
        member.ask(method, path, body)
    assert time.monotonic() - started < 1
    assert error.value.code == 503, str(error.value)
    return str(error.value)


def test_without_a_quorum_containers_run_and_are_reported_later(cluster: Cluster, lonely: Daemon) -> None:
    started = time.monotonic()
    _, headers, body = lonely.request("GET", "/1.0/containers")
    assert time.monotonic() - started < 1
    assert "/1.0/containers/alone" in json.loads(body)["metadata"] and "x-lxd-node-stale" in headers

    change(lonely, "start")
    command = {"command": ["true"], "environment": {}, "wait-for-websocket": False, "interactive": False}
    assert lonely.post("/1.0/containers/alone/exec", command)["metadata"]["return"] == 0

    assert "m2" in (words := refused(lonely, "POST", "/1.0/profiles", {"name": "lost"})) and "m3" in words
    refused(lonely, "POST", "/1.0/profiles", {"name": "default"})  # whether it exists is not known either
    with pytest.raises(ApiError, match="m2"):
        lonely.patch("/1.0/containers/alone", {"config": {"user.x": "1"}})
    change(lonely, "stop")
    with pytest.raises(ApiError, match="m2"):
        lonely.delete("/1.0/containers/alone")
    change(lonely, "start")

    bring_back(cluster.members[1:])
    shown = lambda: cluster[2].get("/1.0/containers/alone")["status"]  # noqa: E731
    within(15, "the start is reported", lambda: shown() == "Running")
    change(lonely, "stop")
    within(5, "the stop is reported", lambda: shown() == "Stopped")
    assert not list((lonely.directory / "notes" / "unreported").iterdir())
