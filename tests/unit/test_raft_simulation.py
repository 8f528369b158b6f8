"""Random faults on a simulated cluster: every seed keeps every invariant, and comes to rest by itself."""

from collections import Counter
from typing import Any

import pytest

from lxdnode.raft.core import HEARTBEAT
from lxdnode.raft.journal import Diverged
from tests.harness.changes import raise_counter
from tests.harness.simulation import Broken, World
from tests.harness.weather import weather

QUICK, ALL = 6, 60
NEEDED = ("matching_entries_stay", "reads_are_confirmed", "acks_are_durable", "failed_syncs_end")


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.slow] * (n >= QUICK)) for n in range(ALL)])
def test_nothing_acknowledged_is_lost(seed: int) -> None:
    world = weather(seed)
    assert len(world.acknowledged) > 20


@pytest.mark.parametrize("rule", [*NEEDED[:2], *(pytest.param(rule, marks=pytest.mark.slow) for rule in NEEDED[2:])])
def test_some_seed_finds_a_rule_that_is_off(rule: str) -> None:
    with pytest.raises((Broken, Diverged)):
        for seed in range(20):
            weather(seed, off=(rule,))


@pytest.mark.slow
def test_twenty_members_keep_what_they_acknowledge() -> None:
    world = weather(3, members=20)
    assert len(world.members) == 20


def test_a_seed_repeats_exactly() -> None:
    one, other = weather(11), weather(11)
    assert one.describe() == other.describe()
    assert one.acknowledged == other.acknowledged


def _quiet() -> tuple[World, Counter[str]]:
    world = World(seed=1)
    world.slow_disk = 0.0
    world.found(3)
    world.run(2.0)
    sent: Counter[str] = Counter()
    transmit = world.transmit

    def counted(sender: int, to: int, message: dict[str, Any]) -> None:
        sent[message["type"]] += 1
        transmit(sender, to, message)

    world.transmit = counted  # type: ignore[method-assign]
    return world, sent


def test_a_commit_costs_an_append_and_an_answer_a_follower_while_another_follows() -> None:
    world, sent = _quiet()
    leader = world.leader()
    assert leader is not None
    started = world.now
    for _ in range(50):
        world.commit(leader.number, raise_counter(leader.running.state, leader.number, "c"))
    beats = 2 * (world.now - started) / HEARTBEAT + 2
    assert sent["append_entries"] <= (50 + 1) * 2 + beats  # the last one's commit index goes by itself
    assert sent["next_node_idx"] <= 50 * 2 + beats


def test_an_idle_cluster_sends_heartbeats_and_nothing_else() -> None:
    world, sent = _quiet()
    world.run(10.0)
    beats = 2 * 10 / HEARTBEAT
    assert sent["append_entries"] == pytest.approx(beats, rel=0.05)
    assert sent["next_node_idx"] == pytest.approx(beats, rel=0.05)
    assert set(sent) == {"append_entries", "next_node_idx", "ping"}
