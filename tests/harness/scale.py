"""How a simulated cluster does as it grows: what its leader sends and gets, how long an election and a commit take."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

import msgspec

from lxdnode.raft.core import Message
from lxdnode.raft.driver import Limits
from tests.harness.changes import raise_counter
from tests.harness.simulation import World

DELAY = (0.0002, 0.0008)  # one way, in seconds: a switched network, with the time that a loop takes
SYNC = (0.0004, 0.002)
MOST_VOTERS = 7
COMMITS = 50


@dataclass(frozen=True)
class Scale:
    """Figures of one size. Traffic is the leader's, idle, per second; times are in milliseconds of simulated time."""

    members: int
    voters: int
    sent: float
    received: float
    kilobytes: float
    election: float
    commit: float
    worst_commit: float

    def __str__(self) -> str:
        return (
            f"| {self.members} | {self.voters} | {self.sent:.0f} | {self.received:.0f} | {self.kilobytes:.1f} "
            f"| {self.election:.0f} | {self.commit:.1f} | {self.worst_commit:.1f} |"
        )


def measure(members: int) -> Scale:
    """A quiet cluster, then writes one after the other through random members, then five leaders killed."""
    voters = min(members - 1 + members % 2, MOST_VOTERS)
    world = World(seed=members, limits=Limits())
    world.delay = DELAY
    world.disk_delay = lambda: world.chance.uniform(*SYNC)  # type: ignore[method-assign]
    world.found(members, voters)
    assert world.run(10, lambda: world.leader() is not None), "no leader"
    world.run(2)
    sent, received, size = _idle(world, 10)
    commits = sorted(_commit(world) for _ in range(COMMITS))
    elections = [_election(world) for _ in range(5)]
    return Scale(members, voters, sent, received, size, median(elections), median(commits), commits[-1])


def _idle(world: World, seconds: float) -> tuple[float, float, float]:
    leader = world.leader()
    assert leader is not None
    counts: Counter[str] = Counter()
    transmit = world.transmit

    def counted(sender: int, to: int, message: Message) -> None:
        if leader.number in (sender, to):
            counts["sent" if sender == leader.number else "received"] += 1
            counts["bytes"] += len(msgspec.msgpack.encode(message)) + 4
        transmit(sender, to, message)

    world.transmit = counted  # type: ignore[method-assign]
    world.run(seconds)
    world.transmit = transmit  # type: ignore[method-assign]
    return counts["sent"] / seconds, counts["received"] / seconds, counts["bytes"] / seconds / 1000


def _commit(world: World) -> float:
    number = world.chance.choice(list(world.members))
    change = raise_counter(world.members[number].running.state, number, "scale")
    began = world.now
    call = world.propose(number, change)
    assert world.run(5, lambda: bool(call.results)), "no outcome"
    return (world.now - began) * 1000


def _election(world: World) -> float:
    """From the death of the leader to the first commit of the next one."""
    leader = world.leader()
    assert leader is not None
    world.kill(leader.number)
    began = world.now
    next_one = lambda: (found := world.leader()) is not None and found.running.core.established  # noqa: E731
    assert world.run(20, next_one), "no leader"
    took = (world.now - began) * 1000
    world.start(leader.number)
    world.run(3)
    return took
