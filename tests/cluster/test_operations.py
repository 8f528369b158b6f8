"""Operations and events of three members as their clients see them, also when a member goes away in the middle."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.node.operations import parse_id
from tests.harness.daemons import Cluster, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def container(cluster: Cluster, image: bytes) -> str:
    """A running container on the third member."""
    fingerprint = cluster[3].ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    source = {"type": "image", "fingerprint": fingerprint}
    cluster[1].ask("POST", "/1.0/containers?target=m3", {"name": "worker", "source": source})
    cluster[1].put("/1.0/containers/worker/state", {"action": "start"})
    return "worker"


@pytest.fixture
def monitor(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """What `lxc monitor` on the first member writes."""
    out = tmp_path / "events"
    assert cluster[1].host is not None
    with out.open("wb") as file:
        running = subprocess.Popen(
            [*cluster[1].host.enter, "lxc", "monitor", "--format", "json"], env=cluster[1].environment, stdout=file
        )
        # Its socket is there once it hears the first event.
        within(
            10, "the monitor hears", lambda: cluster[1].get("/1.0/operations") is not None and _poke(cluster[1], out)
        )
        yield out
        running.kill()
        running.wait()


def _poke(member: Daemon, out: Path) -> bool:
    """Makes something happen; whether the monitor heard anything yet."""
    member.patch("/1.0/containers/worker", {"config": {"user.poke": str(time.monotonic())}})
    return out.stat().st_size > 0


def heard(out: Path) -> list[dict]:  # type: ignore[type-arg]
    """The events that the monitor has written whole."""
    return [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]


def begin(through: Daemon, *command: str) -> str:
    """Starts a command in the container without waiting for it; the URL of its operation."""
    body = {"command": list(command), "wait-for-websocket": False, "interactive": False, "environment": {}}
    status, headers, data = through.request("POST", "/1.0/containers/worker/exec", body)
    assert status == 202, data
    return headers["location"]


def test_an_operation_names_its_member_and_is_found_through_all(cluster: Cluster) -> None:
    url = begin(cluster[1], "sleep", "3")
    number, _incarnation = parse_id(url.rpartition("/")[2]) or (0, 0)
    assert number == 3
    for member in cluster.members:
        assert member.get(url)["description"] == "Executing command"
        assert url in member.get("/1.0/operations")["running"]
    assert cluster[2].get(f"{url}/wait")["metadata"]["return"] == 0


def test_events_of_every_member_reach_a_monitor_on_one(cluster: Cluster, monitor: Path) -> None:
    url = begin(cluster[2], "true")
    id = url.rpartition("/")[2]

    def ends() -> list[dict]:  # type: ignore[type-arg]
        return [
            event
            for event in heard(monitor)
            if event["metadata"].get("id") == id and event["metadata"]["status_code"] == 200
        ]

    within(5, "the end is heard", ends)
    cluster[2].put("/1.0/containers/worker/state", {"action": "freeze"})
    cluster[2].put("/1.0/containers/worker/state", {"action": "unfreeze"})

    def actions() -> list[str]:
        return [event["metadata"]["action"] for event in heard(monitor) if event["type"] == "lifecycle"]

    within(5, "lifecycle events are heard", lambda: "container-resumed" in actions())
    assert actions().count("container-paused") == actions().count("container-resumed") == 1


def test_operations_of_a_member_that_goes_away_fail_visibly(cluster: Cluster, monitor: Path) -> None:
    cluster[1].patch("/1.0", {"config": {"cluster.offline_threshold": "5"}})
    url = begin(cluster[2], "sleep", "100")
    id = url.rpartition("/")[2]
    within(5, "the operation is heard", lambda: any(event["metadata"].get("id") == id for event in heard(monitor)))
    cluster[3].kill()

    def failure() -> str:
        return next(
            (
                event["metadata"]["err"]
                for event in heard(monitor)
                if event["metadata"].get("id") == id and event["metadata"]["status_code"] == 400
            ),
            "",
        )

    assert within(15, "its failure is heard", failure) == "member m3 went away"
    cluster[3].start().wait_ready()
    within(10, "the new start is known", lambda: cluster[1].get(url)["status"] == "Failure")
    for member in cluster.members:
        assert member.get(f"{url}/wait")["err"] in ("member m3 went away", "the daemon was started anew")
