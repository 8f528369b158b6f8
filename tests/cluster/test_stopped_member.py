"""A member that is stopped in the middle (SIGSTOP): its connections stay open and say nothing, the others answer."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.daemons import ApiError, Cluster, within

pytestmark = pytest.mark.slow

STATE = "/1.0/containers/held/state"


@pytest.fixture(scope="module")
def container(cluster: Cluster, image: bytes) -> Iterator[str]:
    """A running container on the third member."""
    cluster[1].post("/1.0/images", image)
    fingerprint = cluster[1].get("/1.0/images")[0].rsplit("/", 1)[1]
    body = {"name": "held", "source": {"type": "image", "fingerprint": fingerprint}}
    cluster[1].post("/1.0/containers?target=m3", body)
    cluster[1].put(STATE, {"action": "start"})
    yield "held"
    cluster[1].put(STATE, {"action": "stop", "force": True})
    cluster[1].delete("/1.0/containers/held")


@pytest.fixture
def stopped(cluster: Cluster, container: str) -> Iterator[float]:
    """When the third member was stopped, after the first had used a connection to it."""
    cluster[1].get(STATE)
    cluster[3].signal(signal.SIGSTOP)
    yield time.monotonic()
    cluster[3].signal(signal.SIGCONT)
    within(10, "it is back", lambda: cluster[1].get("/1.0/containers?recursion=2")[0]["status"] == "Running")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    answer = function()
    return time.monotonic() - began, answer


def test_a_request_to_it_fails_soon_and_says_what_to_do(cluster: Cluster, stopped: float) -> None:
    began = time.monotonic()
    with pytest.raises(ApiError, match="m3.*start it, or mend its network"):
        cluster[1].get(STATE)
    assert time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(ApiError, match=r"^Unable to connect to: .*Start lxd-node on member m3"):
        cluster[2].get(STATE)
    assert time.monotonic() - began < 5


@pytest.mark.extension("container_full")
def test_lists_answer_soon_and_show_its_containers_as_error(cluster: Cluster, stopped: float) -> None:
    for depth in (1, 2, 2, 1):
        seconds, found = timed(lambda depth=depth: cluster[1].get(f"/1.0/containers?recursion={depth}"))
        assert seconds < 2.5
        assert [(one["name"], one["location"]) for one in found] == [("held", "m3")]
    assert time.monotonic() - stopped > 2
    assert (found[0]["status"], found[0]["status_code"]) == ("Error", 112)
    full = cluster[1].get("/1.0/containers?recursion=2")[0]
    assert (full["state"], full["snapshots"], full["backups"]) == (None, [], [])
    assert b"ERROR" in cluster[1].lxc("list", "--format", "csv", timeout=5).stdout
