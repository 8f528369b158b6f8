"""Who lives in a simulated world: its members, and the clients' calls and reads.

Owns a member's life, from its disk; refuses to say what time it is or what arrives, which is the world's."""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lxdnode.raft.core import Message
from lxdnode.raft.driver import Driver
from lxdnode.raft.framing import Damaged
from lxdnode.raft.proposals import Full, Refused, Result, Unreachable
from lxdnode.raft.transaction import Outcome, Transaction
from tests.harness.disks import MemoryDisk, SimulatedWorker
from tests.harness.healing import Healing, resume

if TYPE_CHECKING:
    from tests.harness.simulation import World


@dataclass(eq=False)
class Member:
    """One member: its disk outlives its driver."""

    world: "World"
    number: int
    disk: MemoryDisk
    life: int = 0
    driver: Driver | None = None
    paused: bool = False
    applied: int = 0
    _woken_at: float = float("inf")
    _on: bool = False
    workers: list[SimulatedWorker] = field(default_factory=list)
    healing: Healing | None = None
    flipped: bool = False  # whether its store must be found damaged at the next start

    @property
    def alive(self) -> bool:
        return self.driver is not None

    @property
    def on(self) -> bool:
        """Whether its power is on: it may be without a store."""
        return self._on

    @property
    def running(self) -> Driver:
        assert self.driver is not None
        return self.driver

    def start(self) -> None:
        """Go on with what is on the disk; when that is no store to start on, fetch one from the others."""
        self.life += 1
        self._on = True
        if self.healing is None:
            try:
                self.run()
                self.world.require(not self.flipped, f"member {self.number} starts on a damaged store")
                self.connect()
                resume(self)
                return
            except (Damaged, FileNotFoundError) as error:
                self.world.require(self.flipped, f"member {self.number} does not start: {error}")
        self.flipped = False
        self.world.healed += 1
        self.healing = Healing(self)
        self.healing.begin()

    def run(self, copy_until: int = 0) -> None:
        world = self.world
        self.workers = [SimulatedWorker(world.after, world.disk_delay, self.wake) for _ in range(2)]
        deliver = self._deliver
        chance = random.Random(world.chance.random())
        self.driver = Driver(self.disk, world.now, chance, *self.workers, deliver, world.limits, world.off, copy_until)
        self.applied = self.driver.state.index
        world.watch_applies(self)
        self.wake()

    def connect(self) -> None:
        for other in self.world.members:
            self.world.link_up(self.number, other)

    def _deliver(self, to: int, message: Message) -> None:
        self.world.transmit(self.number, to, message)

    def stop(self) -> None:
        """The power fails: what was not synced is gone."""
        self.life += 1
        self._on = False
        self.driver = None
        self.paused = False
        self._woken_at = float("inf")
        for worker in self.workers:
            worker.die(self.disk, self.world.chance)
        self.disk.cut_power()

    def wake(self, at: float | None = None) -> None:
        at = self.world.now if at is None else at
        if at < self._woken_at:
            self._woken_at = at
            life = self.life
            self.world.at(at, lambda: self._step(life, at))

    def _step(self, life: int, at: float) -> None:
        if life != self.life or self.paused or self.driver is None or at != self._woken_at:
            return
        self._woken_at = float("inf")
        try:
            due = self.driver.step(self.world.now)
        except OSError as error:
            self.world.require(self.disk.failing, f"member {self.number} ends: {error}")
            self.world.kill(self.number)  # who starts it again is who mends its disk
            return
        self.world.check(self)
        if self.driver is not None:
            self.wake(due)

    def pause(self, seconds: float) -> None:
        """SIGSTOP: nothing happens here, messages pile up, disks finish."""
        self.paused = True

        def resume() -> None:
            if self.paused:
                self.paused = False
                self._woken_at = float("inf")
                self.wake()

        self.world.after(seconds, resume)


@dataclass(eq=False)
class Call:
    """A transaction that a client waits for."""

    world: "World"
    member: int
    change: Transaction
    results: list[Result] = field(default_factory=list)

    def end(self, result: Result) -> None:
        self.results.append(result)
        if self.outcome is not None:
            self.world.acknowledge(self.change, self.outcome)

    @property
    def outcome(self) -> Outcome | None:
        result = self.results[0] if self.results else None
        return None if isinstance(result, Refused | Unreachable | Full) else result


class Read:
    """A barrier: when it is over, the member must have applied all that was acknowledged before it began."""

    def __init__(self, world: "World", member: Member) -> None:
        self.done = False
        self._world = world
        self._member = member
        self._at_least = world.highest
        member.running.reads.wait(self._end)
        member.wake()

    def _end(self) -> None:
        self.done = True
        applied = self._member.running.state.index
        self._world.require(
            applied >= self._at_least, f"member {self._member.number} read {applied}, committed was {self._at_least}"
        )
