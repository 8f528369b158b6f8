"""Joins that go wrong, and many at once: afterwards all lists agree, and the same command succeeds (DESIGN.md 3.4)."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import POOL, host_of
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow
ROOT = {"root": {"type": "disk", "path": "/", "pool": "default"}}


def founded(directory: Path, count: int) -> Iterator[Cluster]:
    """Servers, the first of which is a cluster with a pool."""
    made = Cluster(directory, count, f"lxdj{os.getpid() % 1000}", "10.100.0")
    try:
        made.start()
        first = made[1]
        wanted = {
            "config": {"core.https_address": first.address, "core.trust_password": PASSWORD},
            "cluster": {"enabled": True, "server_name": first.name},
            "storage_pools": [POOL],
        }
        first.command("init", "--preseed", stdin=json.dumps(wanted).encode())
        yield made
    finally:
        made.stop()


@pytest.fixture
def two(directory: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of one, and a server that will join it."""
    yield from founded(directory / tmp_path.name[-8:], 2)


@pytest.fixture
def eleven(directory: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of one, and ten servers that will join it."""
    yield from founded(directory / tmp_path.name[-8:], 11)


def join_at_once(cluster: Cluster, joiners: list[Daemon]) -> None:
    """Lets servers join at the same moment; none may fail."""
    failures: list[str] = []

    def join(joiner: Daemon) -> None:
        try:
            joiner.put("/1.0/cluster", cluster.join_request(joiner))
        except (ApiError, OSError) as error:
            failures.append(f"{joiner.name}: {error}")

    threads = [threading.Thread(target=join, args=(joiner,)) for joiner in joiners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def names(member: Daemon) -> set[str]:
    return {one["server_name"] for one in member.get("/1.0/cluster/members?recursion=1")}


def test_ten_servers_join_at_once(eleven: Cluster) -> None:
    join_at_once(eleven, eleven.members[1:])
    everybody = {member.name for member in eleven.members}
    for member in eleven.members:
        within(10, "everybody is seen", lambda member=member: names(member) == everybody)
        assert set(member.get("/1.0/storage-pools/default")["locations"]) == everybody
    within(15, "three vote", lambda: sum(votes(eleven[1])) == 3)


def votes(member: Daemon) -> list[bool]:
    return [one["database"] for one in member.get("/1.0/cluster/members?recursion=1")]


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2, 0.3, 0.45])
def test_a_joiner_that_dies_half_way_is_clean_or_a_member_and_can_join(two: Cluster, delay: float) -> None:
    joiner = two[2]
    wanted = two.join_request(joiner)
    thread = threading.Thread(target=lambda: attempt(joiner, wanted))
    thread.start()
    time.sleep(delay)
    joiner.kill()
    thread.join()
    joiner.start().wait_ready()
    if not joiner.get("/1.0/cluster")["enabled"]:
        assert joiner.get("/1.0/storage-pools") == []
        joiner.put("/1.0/cluster", wanted)
    for member in (two[1], joiner):
        within(10, "both see both", lambda member=member: names(member) == {"m1", "m2"})
    joiner.post("/1.0/profiles", {"name": "through-the-joiner"})
    assert "/1.0/profiles/through-the-joiner" in two[1].get("/1.0/profiles")


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3])
def test_the_leader_dies_during_a_join(two: Cluster, delay: float) -> None:
    leader, joiner = two[1], two[2]
    wanted = two.join_request(joiner)
    thread = threading.Thread(target=lambda: attempt(joiner, wanted))
    thread.start()
    time.sleep(delay)
    leader.kill()
    time.sleep(0.5)
    leader.start().wait_ready(30)
    thread.join()
    if not joiner.get("/1.0/cluster")["enabled"]:
        joiner.put("/1.0/cluster", wanted)
    for member in (leader, joiner):
        within(15, "both see both", lambda member=member: names(member) == {"m1", "m2"})


def attempt(joiner: Daemon, wanted: dict[str, object]) -> None:
    """A join that may well fail."""
    try:
        joiner.put("/1.0/cluster", wanted)
    except (ApiError, OSError, ValueError):
        return


def test_a_member_moves_to_another_port_while_it_runs(two: Cluster) -> None:
    joiner = two[2]
    joiner.put("/1.0/cluster", two.join_request(joiner))
    moved = joiner.address.replace(":8443", ":9443")
    joiner.patch("/1.0", {"config": {"core.https_address": moved}})
    shown = two[1].get("/1.0/cluster/members/m2")
    assert shown["url"] == f"https://{moved}"
    two[1].kill()
    two[1].start().wait_ready(30)
    within(10, "they are linked", lambda: not joiner.get("/internal/cluster/status")["missing"])
    joiner.post("/1.0/profiles", {"name": "moved"})
    assert "/1.0/profiles/moved" in two[1].get("/1.0/profiles")


def test_who_listens_while_a_server_joins_hears_the_cluster_afterwards(two: Cluster) -> None:
    """A client that waits for the end of an operation of another member would else wait for ever."""
    first, joiner = two.members
    heard = joiner.directory.with_name("heard")
    with open(heard, "wb") as output:
        listener = subprocess.Popen(
            [*host_of(joiner).enter, "lxc", "monitor", "--type", "operation"], env=joiner.environment, stdout=output
        )
    try:
        within(10, "it listens", lambda: _websockets(joiner))
        two.join(joiner)
        within(10, "operations of the other member are heard", lambda: _operation(first) in heard.read_text())
    finally:
        listener.kill()
        listener.wait(10)


def _websockets(server: Daemon) -> list[str]:
    """The open connections to a server's socket but our own, which end with each request."""
    shown = subprocess.run([*host_of(server).enter, "ss", "-xH"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if str(server.socket) in line and "ESTAB" in line]


def _operation(member: Daemon) -> str:
    """The id of an operation that a member has ended."""
    container = {"name": "heard", "source": {"type": "none"}, "devices": ROOT}
    id: str = member.post("/1.0/containers", container)["id"]
    member.delete("/1.0/containers/heard")
    return id
