"""One seed as a schedule for the simulated cluster: how many members, which faults, and what must hold in the end.

Owns which kinds of storm there are and the names of the rules that can be switched off; refuses to print."""

from collections.abc import Collection

from lxdnode.raft import guard
from tests.harness.simulation import World
from tests.harness.storm import Storm
from tests.harness.turnover import Turnover

MOST_VOTERS = 7
SECONDS = 9.0

_OTHERS = ("pre_vote", "aligned", "votes_are_durable", "acks_are_durable", "answer_what_was_compared")
_MORE = ("own_entries_are_durable", "reads_are_confirmed", "lost_votes_are_demoted")
_DISKS = ("failed_syncs_end", "full_disks_refuse")
RULES = (*guard.NAMES, *_OTHERS, *_MORE, *_DISKS)
"""What `off` may name."""


def weather(seed: int, members: int | None = None, off: Collection[str] = (), *, simple: bool = False) -> World:
    """Lets a storm rage, and come to rest: raises Broken, or Diverged, when something does not hold.

    A third of the seeds loses stores, a third lets members come and go as well (`simple` leaves both out); in a tenth
    syncs fail."""
    world = World(seed, off=off)
    failing = seed % 10 == 9
    count = members or world.chance.choice([3, 3, 3, 5, 7])
    voters = min(count - 1 + count % 2, MOST_VOTERS)
    world.found(count, voters)
    if simple or seed % 3 == 0:
        Storm(world, failing=failing).rage(SECONDS)
        world.settle()
    else:
        turnover = Turnover(world, voters)
        Storm(world, damage=True, failing=failing, turnover=turnover if seed % 3 == 1 and count < 10 else None).rage(
            SECONDS
        )
        world.settle(at_rest=lambda: not turnover.wanted)
    return world
