"""Random schedules for the simulated cluster: clients that write, repeat and read, and faults of every kind."""

from dataclasses import dataclass, field

from lxdnode.raft import membership
from lxdnode.raft.transaction import Transaction
from tests.harness.changes import raise_counter
from tests.harness.healing import flip, lose
from tests.harness.inhabitants import Call, Member
from tests.harness.simulation import QUIET, Noise, World
from tests.harness.turnover import Turnover


@dataclass
class Storm:
    """`rage` lets a simulated while pass; everything it does comes from the world's seed."""

    world: World
    damage: bool = False  # stores are lost
    failing: bool = False  # syncs fail
    turnover: Turnover | None = None  # members come and go
    retried: list[Transaction] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    over: bool = False

    def rage(self, seconds: float, *, faults: bool = True) -> None:
        for client in range(4):
            self._client(client)
        if faults:
            self._fault()
        self.world.run(seconds)
        self.over = True

    def _client(self, client: int) -> None:
        world = self.world
        if self.over:
            return
        world.after(world.chance.expovariate(1 / 0.02), lambda: self._client(client))
        alive = [number for number, member in world.members.items() if member.alive and not member.running.removed]
        if not alive:
            return
        number = world.chance.choice(alive)
        if world.chance.random() < 0.2:
            world.read(number)
        elif self.retried and world.chance.random() < 0.3:
            self.calls.append(world.propose(number, self.retried.pop()))
        else:
            counter = f"c{world.chance.randint(0, 20)}"
            change = raise_counter(world.members[number].running.state, number, counter)
            self.calls.append(world.propose(number, change))
            if world.chance.random() < 0.3:
                self.retried.append(change)

    def _fault(self) -> None:
        world = self.world
        if self.over:
            return
        world.after(world.chance.expovariate(1 / 0.8), self._fault)
        faults = (
            self._kill,
            self._kill,
            self._kill_all,
            self._break,
            self._break,
            self._partition,
            self._pause,
            self._disturb,
            self._fill,
        )
        more = (self._fail_syncs,) if self.failing else ()
        more += (self._damage,) if self.damage else ()
        more += (self._turn_over,) if self.turnover else ()
        world.chance.choice((*faults, *more))()

    def _number(self) -> int:
        leader = self.world.leader()
        if leader is not None and self.world.chance.random() < 0.4:
            return leader.number
        return self.world.chance.choice(list(self.world.members))

    def _kill(self) -> None:
        number = self._number()
        self.world.kill(number)
        self.world.after(self.world.chance.uniform(0.05, 2.5), lambda: self.world.start(number))

    def _kill_all(self) -> None:
        for number in list(self.world.members):
            self.world.kill(number)
            self.world.after(self.world.chance.uniform(0.05, 1.0), lambda number=number: self.world.start(number))

    def _break(self) -> None:
        others = list(self.world.members)
        a, b = self.world.chance.sample(others, 2) if len(others) > 1 else (others[0], others[0])
        self.world.break_link(a, b, self.world.chance.uniform(0.01, 1.0))

    def _partition(self) -> None:
        self.world.partition([self._number()])
        self.world.after(self.world.chance.uniform(0.2, 3.0), self.world.heal)

    def _fill(self) -> None:
        """No room on a disk, for a while."""
        disk = self.world.members[self._number()].disk
        disk.full = True
        self.world.after(self.world.chance.uniform(0.2, 3.0), lambda: setattr(disk, "full", False))

    def _fail_syncs(self) -> None:
        """Of some, for a while; then their power is cut, so that what was not synced is gone."""
        world = self.world
        for number in world.chance.sample(list(world.members), world.chance.randint(1, len(world.members))):
            if world.members[number].alive and world.members[number].healing is None:
                world.members[number].disk.failing = True
                world.after(world.chance.uniform(0.2, 2.0), lambda number=number: self._mend_syncs(number))

    def _mend_syncs(self, number: int) -> None:
        self.world.members[number].disk.failing = False
        self.world.kill(number)
        self.world.start(number)

    def _damage(self) -> None:
        """Of one member at a time: what a majority has lost, nobody can bring back."""
        world = self.world
        number = self._number()
        if not world.members[number].on or not all(self._is_whole(member) for member in world.members.values()):
            return
        world.kill(number)
        world.members[number].flipped = True
        (flip if world.chance.random() < 0.8 else lose)(world, number)
        world.after(world.chance.uniform(0.05, 1.5), lambda: world.start(number))

    def _is_whole(self, member: Member) -> bool:
        """Whether neither this member nor, as far as it knows, another is on its way back."""
        if member.flipped or member.healing:
            return False
        if not member.alive or member.running.removed:
            return True
        documents = membership.members_in(member.running.state).values()
        returning = any(document.phase == "learner" for document in documents)
        return not returning and len(member.running.journal.members.voters) >= 3

    def _turn_over(self) -> None:
        assert self.turnover is not None
        if self.turnover.wanted:
            return
        if len(self.world.members) < 9 and self.world.chance.random() < 0.6:
            self.turnover.join()
        else:
            self.turnover.leave(self._number())

    def _disturb(self) -> None:
        """Links lose, double and reorder for a while."""
        chance = self.world.chance
        noise = Noise(chance.uniform(0, 0.2), chance.uniform(0, 0.2), chance.uniform(0, 0.2))
        self.world.noise = noise

        def calm() -> None:
            if self.world.noise is noise:
                self.world.noise = QUIET

        self.world.after(chance.uniform(0.3, 3.0), calm)

    def _pause(self) -> None:
        member = self.world.members[self._number()]
        if member.alive:
            member.pause(self.world.chance.uniform(0.1, 3.0))
