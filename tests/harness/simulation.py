"""A cluster of raft drivers in one process: virtual clock, network and disks, all chances from one seed.

Owns the world (time, delays, cuts, power) and the invariants of Raft and of the store, checked at every step; refuses
to decide which faults come: that is the schedule's (`storm`, or a hand-made test)."""

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec

from lxdnode.raft import archive, membership
from lxdnode.raft import driver as drivers
from lxdnode.raft.archive import BEGINNING
from lxdnode.raft.core import Core, Message
from lxdnode.raft.driver import Limits
from lxdnode.raft.entry import Members
from lxdnode.raft.journal import Identity
from lxdnode.raft.snapshot import SnapshotHead
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Committed, Outcome, Transaction, encode
from lxdnode.raft.transport import PING
from tests.harness.changes import member_put, raise_counter, seed_ids, transaction
from tests.harness.disks import MemoryDisk
from tests.harness.inhabitants import Call, Member, Read

CLUSTER = "simulated"
SMALL = Limits(
    snapshot_entries=60,
    snapshot_bytes=1 << 20,
    trail_entries=15,
    trail_bytes=1 << 18,
    segment_bytes=8192,
    history_segment_bytes=16384,
)


@dataclass(frozen=True)
class Noise:
    """What a link does to messages, as chances: lost, delivered twice, overtaken by later ones."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


QUIET = Noise()


class Broken(AssertionError):
    """An invariant of Raft or of the store does not hold. The message names seed, time and members."""


class World:
    """Time, links and members. `off` switches rules of the guard and of durability off, to show that they bite."""

    def __init__(self, seed: int, limits: Limits = SMALL, off: Collection[str] = ()) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        seed_ids(seed)
        self.limits = limits
        self.off = off
        self.now = 1000.0
        self.members: dict[int, Member] = {}
        self.links: dict[tuple[int, int], int] = {}  # (lower, higher) -> generation of the link
        self.blocked: set[tuple[int, int]] = set()
        self.delay = (0.0005, 0.004)
        self.slow_disk = 0.02
        self.noise = QUIET
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._generations = itertools.count(1)
        self._busy_until: dict[tuple[int, int], float] = {}
        # What must hold.
        self.committed: dict[int, bytes] = {}
        self.leaders: dict[int, int] = {}
        self.acknowledged: dict[str, Outcome] = {}
        self.marked: set[str] = set()  # transactions that leave their id in table `done`
        self.highest = 1
        self.snapshots = self.healed = 0
        self.installed: dict[int, set[int]] = defaultdict(set)  # the indexes of snapshots that a member took
        self.cluster = CLUSTER

    # Time.

    def at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), event))

    def after(self, delay: float, event: Callable[[], None]) -> None:
        self.at(self.now + delay, event)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; with `until`, only up to when that holds, and tell whether it did."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            if until is not None and until():
                return True
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = max(self.now, end)
        return until is not None and until()

    def disk_delay(self) -> float:
        slow = self.chance.random() < self.slow_disk
        return self.chance.uniform(0.05, 0.6) if slow else self.chance.uniform(0.0002, 0.003)

    # Members and links.

    def found(self, count: int, voters: int | None = None) -> None:
        """A cluster of `count` members that all begin with the same configuration and member documents."""
        numbers = range(1, count + 1)
        voting = numbers if voters is None else range(1, voters + 1)
        members = Members(tuple(voting), tuple(number for number in numbers if number not in voting))
        documents = tuple(member_put(number, voter=number in voting) for number in numbers)
        initial = encode(transaction(State(), 0, writes=documents))
        for number in numbers:
            self.add(number, members, initial)

    def add(self, number: int, members: Members, initial: bytes | None = None) -> Member:
        disk = MemoryDisk(self.chance)
        identity = Identity(CLUSTER, 1, number)
        drivers.create(disk, identity, members, initial)
        member = self.members[number] = Member(self, number, disk)
        member.start()
        return member

    def _pair(self, a: int, b: int) -> tuple[int, int]:
        return (min(a, b), max(a, b))

    def link_up(self, a: int, b: int) -> None:
        pair = self._pair(a, b)
        up = pair not in self.links and pair not in self.blocked and a != b
        if up and self.members[a].alive and self.members[b].alive:
            self.links[pair] = next(self._generations)
            self._ping(pair, self.links[pair])
            for one, other in (pair, pair[::-1]):
                self.members[one].running.link(other, up=True)
                self.members[one].wake()

    def _ping(self, pair: tuple[int, int], generation: int) -> None:
        """What the transport does on links that carry nothing else."""
        if self.links.get(pair) == generation:
            self.transmit(*pair, {"type": "ping"})
            self.transmit(*pair[::-1], {"type": "ping"})
            self.after(PING, lambda: self._ping(pair, generation))

    def break_link(self, a: int, b: int, mend_after: float | None = 0.2) -> None:
        """What is under way is lost; the link comes back after a while (None: by `heal`)."""
        pair = self._pair(a, b)
        if self.links.pop(pair, None) is not None:
            for one, other in (pair, pair[::-1]):
                if self.members[one].alive:
                    self.members[one].running.link(other, up=False)
                    self.members[one].wake()
        if mend_after is not None:
            self.after(mend_after, lambda: self.link_up(a, b))

    def partition(self, side: Collection[int]) -> None:
        for a in side:
            for b in self.members.keys() - set(side):
                self.blocked.add(self._pair(a, b))
                self.break_link(a, b, None)

    def heal(self) -> None:
        self.blocked.clear()
        for a, b in itertools.combinations(self.members, 2):
            self.link_up(a, b)

    def kill(self, number: int) -> None:
        if self.members[number].on:
            for other in self.members:
                self.break_link(number, other, None)
            self.members[number].stop()

    def start(self, number: int) -> None:
        """A daemon whose disk fails does not get far: who mends the disk starts it."""
        if not self.members[number].on and not self.members[number].disk.failing:
            self.members[number].start()

    def transmit(self, sender: int, to: int, message: Message) -> None:
        """FIFO on a link, after a random delay, but for what its noise does; a message does not outlive its link."""
        generation = self.links.get(self._pair(sender, to))
        data = msgspec.msgpack.encode(message)
        for arrival in self._arrivals(sender, to):
            self.at(arrival, lambda: self._arrive(sender, to, generation, data))

    def _arrivals(self, sender: int, to: int) -> list[float]:
        """When a message comes: once, not at all, or twice."""
        noise, chance = self.noise, self.chance
        arrival = max(self.now + chance.uniform(*self.delay), self._busy_until.get((sender, to), 0.0))
        if noise is QUIET:
            self._busy_until[sender, to] = arrival
            return [arrival]
        if chance.random() < noise.loss:
            return []
        if chance.random() < noise.reorder:  # it does not hold up those behind it
            return [arrival + 20 * chance.uniform(*self.delay)]
        self._busy_until[sender, to] = arrival
        again = chance.random() < noise.duplicate
        return [arrival, arrival + 5 * chance.uniform(*self.delay)] if again else [arrival]

    def _arrive(self, sender: int, to: int, generation: int | None, data: bytes) -> None:
        receiver = self.members[to]
        if generation is not None and self.links.get(self._pair(sender, to)) == generation and receiver.alive:
            receiver.running.inbox.append((sender, msgspec.msgpack.decode(data)))
            receiver.wake()

    # Clients.

    def leader(self) -> Member | None:
        """The member that leads the highest term among those that run."""
        leading = [member for member in self.members.values() if member.alive and member.running.core.is_leader]
        return max(leading, key=lambda member: member.running.core.term, default=None)

    def propose(self, number: int, change: Transaction, patience: float = 5.0) -> Call:
        """A client of one member; it gives up after `patience`."""
        call = Call(self, number, change)
        driver = self.members[number].running
        waiter = driver.proposals.wait(change, encode(change), call.end)
        self.members[number].wake()
        self.after(patience, lambda: driver.proposals.give_up(waiter, call.end) if not call.results else None)
        return call

    def commit(self, number: int, change: Transaction, seconds: float = 20.0) -> Outcome:
        """Propose and wait, again and again until there is an outcome."""
        end = self.now + seconds
        while self.now < end:
            call = self.propose(number, change, 1.0)
            if self.run(1.0, lambda call=call: bool(call.outcome)):  # type: ignore[misc]
                assert call.outcome is not None
                return call.outcome
        raise Broken(f"seed {self.seed}: no outcome within {seconds} s: {self.describe()}")

    def acknowledge(self, change: Transaction, outcome: Outcome) -> None:
        known = self.acknowledged.setdefault(change.id, outcome)
        self.require(known == outcome, f"{change.id} was answered {known}, then {outcome}")
        if any((write.table, write.name) == ("done", change.id) for write in change.writes):
            self.marked.add(change.id)
        if isinstance(outcome, Committed):
            self.highest = max(self.highest, outcome.index)

    def read(self, number: int) -> Read:
        return Read(self, self.members[number])

    # Invariants.

    def require(self, holds: bool, message: str) -> None:
        if not holds:
            raise Broken(f"seed {self.seed} at {self.now - 1000:.3f} s: {message}\n{self.describe()}")

    def describe(self) -> str:
        lines = []
        for member in self.members.values():
            if member.alive:
                core, journal = member.running.core, member.running.journal
                role = "leader" if core.is_leader else f"follows {core.leader}"
                where = f"applied {core.applied} commit {core.commit} last {journal.last} durable {journal.durable}"
                lines.append(
                    f"  {member.number}: term {core.term} {role} {where} base {journal.base} {journal.members}"
                )
            else:
                lines.append(f"  {member.number}: off")
        return "\n".join(lines)

    def watch_applies(self, member: Member) -> None:
        """State machine safety: whatever is applied at an index is the same everywhere and for ever."""
        driver = member.running
        apply = driver.core._apply_entry

        def checked(index: int, command: bytes) -> bool:
            self.require(index == member.applied + 1, f"member {member.number} applies {index} after {member.applied}")
            known = self.committed.setdefault(index, command)
            self.require(known == command, f"member {member.number} applies another entry at {index}")
            member.applied = index
            return bool(apply(index, command))

        install = driver.core.install

        def installed(index: int) -> None:
            self.require(index >= member.applied, f"member {member.number} goes back to {index}")
            self.snapshots += 1
            self.installed[member.number].add(index)
            member.applied = index
            install(index)

        receive = driver.receiver._install

        def received(sender: int, head: SnapshotHead, state: State) -> None:
            self.installed[member.number].add(head.index)  # a start goes on from it, also when the log was ahead of it
            receive(sender, head, state)

        driver.receiver._install = received
        driver.core._apply_entry = checked
        driver.core.install = installed

    def check(self, member: Member) -> None:
        """After each step: one leader a term, and a leader has every committed entry."""
        core: Core = member.running.core
        if not core.is_leader or self.leaders.get(core.term) == member.number:
            return
        self.require(core.term not in self.leaders, f"two leaders in term {core.term}")
        self.leaders[core.term] = member.number
        journal = member.running.journal
        for index, command in self.committed.items():
            if index > journal.base:
                held = journal.entries(index, index)
                complete = bool(held) and held[0][0] == command
                self.require(complete, f"leader {member.number} of term {core.term} lacks committed entry {index}")

    def check_logs(self) -> None:
        """Log matching: logs with the same term at an index are the same up to there."""
        journals = [member.running.journal for member in self.members.values() if member.alive]
        for one, other in itertools.combinations(journals, 2):
            start, end = max(one.base, other.base) + 1, min(one.last, other.last)
            pairs = list(zip(one.entries(start, end), other.entries(start, end), strict=True))
            agreed = False
            for ours, theirs in reversed(pairs):
                agreed = agreed or ours[2] == theirs[2]
                self.require(not agreed or ours == theirs, f"logs with the same term differ at {ours[1]}")

    def settle(self, seconds: float = 30.0, at_rest: Callable[[], bool] = lambda: True) -> None:
        """All faults end; within `seconds` everybody must be at the same state, with all that was acknowledged.

        `at_rest`: whether all who wanted to come or go have done so."""
        self.slow_disk, self.noise = 0.0, QUIET
        for member in self.members.values():
            member.disk.full = member.disk.failing = False
        for number in self.members:
            self.start(number)
        self.heal()
        healed = self.run(
            seconds, lambda: all(m.alive and not m.healing for m in self.members.values() if self._stays(m))
        )
        self.require(healed, "a member does not get its state from the others")
        self.require(self.run(seconds, at_rest), "a member that comes or goes does not get there")
        self.run(2.0)  # who was removed meanwhile is told
        numbers = [n for n, member in self.members.items() if self._stays(member) and not member.running.removed]
        last = raise_counter(self.members[numbers[0]].running.state, 1, "settled")
        outcome = self.commit(numbers[0], last, seconds)
        self.require(isinstance(outcome, Committed), f"the last commit ended as {outcome}")
        drivers_ = [self.members[number].running for number in numbers]
        together = self.run(seconds, lambda: len({driver.state.index for driver in drivers_}) == 1)
        self.require(together, "members do not come to the same index")
        self.require(len({driver.state.digest() for driver in drivers_}) == 1, "members differ in their state")
        state = drivers_[0].state
        for identity, outcome in self.acknowledged.items():
            if isinstance(outcome, Committed) and identity in self.marked:
                known = state.get("done", "", identity)
                self.require(known is not None, f"acknowledged transaction {identity} ({outcome}) is lost")
        self._check_counters(state)
        self.check_logs()
        for driver in drivers_:
            self._check_history(self.members[driver.identity.member])

    def _check_history(self, member: Member) -> None:
        """What a member's history tells was committed so, and only what an installed snapshot skipped is missing, or
        what was given up: at its beginning when the disk was full, anywhere when a sync failed and power then."""
        known, at = BEGINNING, f"the history of member {member.number}"
        for chunk in (chunk for chunks in archive.forwards(member.disk, 0) for chunk in chunks):
            given_up = (known == BEGINNING and member.disk.was_full) or member.disk.was_failing
            whole = chunk.after <= known or chunk.after in self.installed[member.number] or given_up
            self.require(whole, f"{at} lacks what follows {known}, up to {chunk.after}")
            known = max(known, chunk.index)
            for one in chunk.entries:
                self.require(self.committed[one.index] == one.command, f"{at} tells another entry at {one.index}")
        written = member.running.archive.written
        self.require(known == written or written in self.installed[member.number], f"{at} ends at {known}")

    def _stays(self, member: Member) -> bool:
        """Whether it is a member as far as those know that have a state."""
        states = [other.running.state for other in self.members.values() if other.alive]
        newest = max(states, key=lambda state: state.index, default=State())
        known = membership.members_in(newest).get(member.number)
        return known is None or known.phase != "removed"

    def _check_counters(self, state: State) -> None:
        """None applied twice: a counter is as high as the transactions that raised it, each of which left its mark."""
        raised: dict[str, int] = defaultdict(int)
        for document in state.group("done", "").values():
            raised[document.value.decode()] += 1
        for name, document in state.group("counters", "").items():
            self.require(int(document.value) == raised[name], f"counter {name} was raised twice by one")
