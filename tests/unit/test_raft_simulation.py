"""Random faults on a simulated cluster: every seed keeps every invariant, and comes to rest by itself."""

import pytest

from lxdnode.raft.journal import Diverged
from tests.harness.simulation import Broken, World
from tests.harness.storm import Storm

SEEDS = 60


def _weather(seed: int, off: tuple[str, ...] = ()) -> World:
    world = World(seed, off=off)
    world.found(world.chance.choice([3, 3, 3, 5]))
    Storm(world).rage(9)
    world.settle()
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_acknowledged_is_lost(seed: int) -> None:
    world = _weather(seed)
    assert len(world.acknowledged) > 20


@pytest.mark.parametrize("rule", ["acks_are_durable", "matching_entries_stay"])
def test_some_seed_finds_a_rule_that_is_off(rule: str) -> None:
    with pytest.raises((Broken, Diverged)):
        for seed in range(20):
            _weather(seed, off=(rule,))


def test_a_seed_repeats_exactly() -> None:
    one, other = _weather(11), _weather(11)
    assert one.describe() == other.describe()
    assert one.acknowledged == other.acknowledged
