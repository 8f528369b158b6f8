"""More members than a test of every day can afford: twenty on one machine; and what an idle leader of four receives."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import POOL, host_of
from tests.cluster.test_joins import join_at_once, names, votes
from tests.harness.daemons import PASSWORD, Cluster, Daemon, within

pytestmark = pytest.mark.chaos

IDLE = 10.0


def founded(directory: Path, count: int) -> Iterator[Cluster]:
    """A cluster whose members started a few at a time, and joined ten at once."""
    made = Cluster(directory, count, f"lxdm{os.getpid() % 1000}", "10.102.0")
    try:
        made.switch.down()
        made.switch.up(count)
        for start in range(0, count, 4):
            some = made.members[start : start + 4]
            for member in some:
                member.start()
            for member in some:
                member.wait_ready(60)
        first = made[1]
        wanted = {
            "config": {"core.https_address": first.address, "core.trust_password": PASSWORD},
            "cluster": {"enabled": True, "server_name": first.name},
            "storage_pools": [POOL],
        }
        first.command("init", "--preseed", stdin=json.dumps(wanted).encode())
        for start in range(1, count, 10):
            join_at_once(made, made.members[start : start + 10])
        within(60, "three vote", lambda: sum(votes(first)) == 3)
        yield made
    finally:
        made.stop()


@pytest.fixture
def twenty(directory: Path) -> Iterator[Cluster]:
    yield from founded(directory / "t", 20)


@pytest.fixture
def four(directory: Path) -> Iterator[Cluster]:
    yield from founded(directory / "f", 4)


def received(member: Daemon) -> int:
    """Packets that have come to a member's interface."""
    shown = subprocess.run([*host_of(member).enter, "cat", "/proc/net/dev"], capture_output=True, check=True).stdout
    line = next(line for line in shown.decode().splitlines() if "eth0:" in line)
    return int(line.split(":")[1].split()[1])


def idle_rate(member: Daemon) -> float:
    """Packets a second that come to a member of which nobody wants anything."""
    before = received(member)
    time.sleep(IDLE)
    return (received(member) - before) / IDLE


def test_an_idle_leader_of_four_receives_few_packets(four: Cluster) -> None:
    leader = four.leader()
    within(30, "it is quiet", lambda: idle_rate(leader) <= 40)


def test_twenty_members_serve_and_survive_their_leader(twenty: Cluster) -> None:
    everybody = {member.name for member in twenty.members}
    for member in twenty.members:
        within(30, "everybody is seen", lambda member=member: names(member) == everybody)
    leader = twenty.leader()
    within(60, "it is quiet", lambda: idle_rate(leader) <= 11 * 19)
    leader.kill()
    last = next(member for member in reversed(twenty.members) if member is not leader)
    within(15, "writes go on", lambda: last.post("/1.0/profiles", {"name": "after"}) is None)
    for member in twenty.members:
        if member is not leader:
            within(10, "everybody has it", lambda member=member: "/1.0/profiles/after" in member.get("/1.0/profiles"))
    leader.start().wait_ready(60)
    assert "/1.0/profiles/after" in leader.get("/1.0/profiles")
