"""One raft driver whose other members are played by the test: it says what they send, and looks at what they would get.

Owns time and a disk that can be held; refuses to know what is right, which is the test's to say."""

import random
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from lxdnode.raft import driver as drivers
from lxdnode.raft.core import Message
from lxdnode.raft.driver import Driver, Limits
from lxdnode.raft.entry import LEVEL, Members, pack
from lxdnode.raft.journal import Identity, LogEntry
from lxdnode.raft.proposals import Waiter
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Put, Transaction, encode
from tests.harness.changes import member_put, transaction
from tests.harness.disks import HeldWorker, MemoryDisk


class Lone:
    """Member 1 of `voters`, with a log that begins with their documents; or, with `lost_term`, one that begins with
    nothing in the place of one that was lost, and is linked to members 2 to 4."""

    def __init__(
        self,
        voters: Sequence[int] = (1, 2, 3),
        learners: Sequence[int] = (),
        off: Collection[str] = (),
        limits: Limits = Limits(),  # noqa: B008 - frozen
        lost_term: int = 0,
        copy_until: int = 0,
    ) -> None:
        self.now = 100.0
        self.voters = tuple(voters)
        self.members = Members(self.voters, tuple(learners))
        self.off, self.limits = off, limits
        self.disk = MemoryDisk(random.Random(1))
        documents = [member_put(number, voter=number in self.voters) for number in self.members.all]
        initial = encode(transaction(State(), 1, writes=tuple(documents)))
        self.copy_until = copy_until
        identity = Identity("lone", 1, 1)
        if lost_term:
            self.members = Members((), (2, 3, 4))
            drivers.create(self.disk, identity, Members(), lost_term=lost_term)
        else:
            drivers.create(self.disk, identity, self.members, initial)
        self.outbox: list[tuple[int, Message]] = []
        self.start()

    def start(self) -> None:
        """Begin with what is on the disk."""
        self.worker, self.snapshots = HeldWorker(), HeldWorker()
        deliver = lambda member, message: self.outbox.append((member, dict(message)))  # noqa: E731
        chance = random.Random(7)
        workers = self.worker, self.snapshots
        self.driver = Driver(
            self.disk, self.now, chance, *workers, deliver, self.limits, self.off, copy_until=self.copy_until
        )
        self.driver._started -= 60  # grace is over
        for member in (self.driver.journal.members.all or self.members.all) - {1}:
            self.driver.link(member, up=True)
        self.settle()

    def lose_power(self) -> None:
        self.disk.cut_power()
        self.start()

    def step(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.driver.step(self.now)

    def settle(self) -> None:
        """Step until nothing more comes of it at this moment."""
        for _ in range(4):
            self.step(0.0001)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.step(0.02)

    def hear(self, member: int, kind: str, **fields: Any) -> None:
        fields.setdefault("term", self.driver.core.term)
        message = msgspec.msgpack.decode(msgspec.msgpack.encode({"type": kind, **fields}))
        self.driver.inbox.append((member, message))
        self.settle()

    def sent(self, kind: str, to: int | None = None) -> list[Message]:
        return [message for member, message in self.outbox if message["type"] == kind and to in (None, member)]

    # What other members do.

    def append(self, leader: int, previous: int, entries: Sequence[LogEntry] = (), **fields: Any) -> None:
        """`leader` sends entries behind index `previous`, by default of the log that both have."""
        previous_term = fields.pop("previous_term", None)
        if previous_term is None:
            previous_term = self.driver.journal.term_at(previous)
        fields = {"commit_index": 0, "entries": list(entries), "round": 0, **fields}
        self.hear(leader, "append_entries", prevLogIdx=previous, prevLogTerm=previous_term, **fields)

    def acknowledge(self, member: int, index: int, **fields: Any) -> None:
        fields = {"next_node_idx": index + 1, "success": True, "reset": False, "round": 0, **fields}
        self.hear(member, "next_node_idx", **fields)

    def elect(self) -> None:
        """Let this member become leader, by the votes of the first others that make a majority."""
        others = [member for member in self.voters if member != 1][: len(self.voters) // 2]
        while not self.sent("prevote"):
            self.step(0.05)
        for member in others:
            self.hear(member, "prevote_ok", asked=self.driver.core.term)
        for member in others:
            self.hear(member, "response_vote")
        assert self.driver.core.is_leader
        self.outbox.clear()

    def lead(self) -> None:
        """Be elected, and have everything committed by everybody."""
        self.elect()
        self.answer_all()
        assert self.driver.core.established
        self.outbox.clear()

    def answer_all(self) -> None:
        for member in self.driver.journal.members.all - {1}:
            self.acknowledge(member, self.driver.journal.last)

    def propose(self, value: bytes = b"value", change: Transaction | None = None) -> Waiter:
        change = change or transaction(self.driver.state, 1, writes=(Put("t", "", "n", value),))
        self.results: list[object] = []
        waiter = self.driver.proposals.wait(change, encode(change), self.results.append)
        self.settle()
        return waiter


def entry(index: int, term: int, *changes: Transaction) -> LogEntry:
    """An entry as a leader would send it."""
    return pack([encode(change) for change in changes], LEVEL), index, term
