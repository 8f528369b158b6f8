"""The histogram of late steps, on a real log whose loop is held."""

import time
from pathlib import Path

import trio

from lxdnode.raft.lateness import BOUNDS, Lateness
from lxdnode.raft.log import Log
from lxdnode.raft.state import State
from tests.harness.changes import member_put, transaction


def counted(lateness: Lateness, least: float) -> int:
    """How many steps were later than about `least` seconds."""
    return sum(count for count, bound in zip(lateness.counts, [*BOUNDS, float("inf")], strict=True) if bound > least)


async def test_a_loop_that_is_held_is_seen_as_late(tmp_path: Path, nursery: trio.Nursery) -> None:
    initial = transaction(State(), 1, writes=(member_put(1, voter=True),))
    log = Log.create(tmp_path / "raft", cluster="test", initial=initial)
    await nursery.start(log.run)
    before = counted(log.lateness, 0.1)
    time.sleep(0.35)  # noqa: ASYNC251 - a leader steps every 100 ms, and is held on purpose
    await log.barrier(5)
    assert counted(log.lateness, 0.1) > before


def test_every_lateness_has_a_bucket() -> None:
    lateness = Lateness()
    for seconds in (-1.0, 0.0, 0.05, 1.0, 1e9):
        lateness.record(seconds)
    assert sum(lateness.counts) == 5
    assert lateness.counts[0] == 2
    assert lateness.counts[-1] == 1
