"""Transactions on their way into the log: those that wait here for their outcome, those that the leader will append.

One entry carries all that wait. The local apply alone gives the outcome; until then they are proposed again by id."""

from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from lxdnode.raft import machine, membership
from lxdnode.raft.core import Core, Message
from lxdnode.raft.entry import ENTRY_LIMIT, Members, pack
from lxdnode.raft.journal import Journal
from lxdnode.raft.state import State
from lxdnode.raft.transaction import LEVEL, TRANSACTION_LIMIT, Outcome, Transaction, decode

RETRY = 0.3
_ENTRY_BYTES = ENTRY_LIMIT - TRANSACTION_LIMIT // 8  # leaves room for the framing


@dataclass(frozen=True, slots=True)
class Refused:
    """The leader does not append it: the change of members that it makes is not allowed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """It was not proposed, since no majority can be reached: these voters are missing."""

    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Full:
    """This member's disk is full: it was not proposed, or nobody can say for how long its outcome stays unknown."""


Result = Outcome | Refused | Unreachable | Full
Listener = Callable[[Result], None]


@dataclass(slots=True)
class Waiter:
    """A transaction whose outcome somebody here waits for; its listeners get it, or why there will be none."""

    transaction: Transaction
    data: bytes  # the same, encoded
    listeners: list[Listener] = field(default_factory=list)
    proposed: bool = False  # whether it may be in a log
    sent_at: float = float("-inf")
    sent_to: tuple[int | None, int] = (None, -1)

    def end(self, result: Result) -> None:
        for listener in self.listeners:
            listener(result)


@dataclass(slots=True)
class _Queued:
    transaction: Transaction
    data: bytes
    origin: int


@dataclass(slots=True)
class Proposals:
    core: Core
    journal: Journal
    send: Callable[[int, Message], None]
    linked: Set[int]  # the members that a message can be sent to now
    waiting: dict[str, Waiter] = field(default_factory=dict)
    _queue: dict[str, _Queued] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)
    _term: int = -1
    paused: bool = False  # while the lead is handed over
    answered: bool = False  # whether somebody here got an outcome in this step

    @property
    def own(self) -> int:
        return self.journal.identity.member

    def wait(self, transaction: Transaction, data: bytes, listener: Listener) -> Waiter:
        """Propose it (`data` encodes it) and tell the listener; who repeats an id on its way waits for the same."""
        waiter = self.waiting.setdefault(transaction.id, Waiter(transaction, data))
        waiter.listeners.append(listener)
        return waiter

    def give_up(self, waiter: Waiter, listener: Listener) -> None:
        """Nobody proposes it again once its last listener has gone; what was proposed may still be applied."""
        waiter.listeners.remove(listener)
        if not waiter.listeners and self.waiting.get(waiter.transaction.id) is waiter:
            del self.waiting[waiter.transaction.id]
            if not waiter.proposed:
                self._queue.pop(waiter.transaction.id, None)

    def step(self, now: float) -> None:
        """Bring what waits here to the leader, again after a while or when the leader changed."""
        if self.core.term != self._term:
            self._term = self.core.term
            self._queue.clear()
            self._logged.clear()
        leader = (self.core.leader, self.core.term)
        if leader[0] is None or (leader[0] != self.own and leader[0] not in self.linked):
            return  # what is not sent is surely in no log
        due = [w for w in self.waiting.values() if w.sent_to != leader or now - w.sent_at > RETRY]
        for waiter in due:
            waiter.sent_to, waiter.sent_at = leader, now
        if leader[0] == self.own:
            for waiter in due:
                self._enqueue(waiter.transaction, waiter.data, self.own)
        elif due:
            self._forward(leader[0], due)

    def _forward(self, leader: int, due: list[Waiter]) -> None:
        while due:
            batch = [due.pop(0)]
            while due and sum(len(w.data) for w in batch) + len(due[0].data) <= TRANSACTION_LIMIT:
                batch.append(due.pop(0))
            for waiter in batch:
                waiter.proposed = True
            self.send(leader, {"type": "propose", "transactions": [waiter.data for waiter in batch]})

    def on_forwarded(self, member: int, transactions: list[bytes]) -> None:
        """What cannot be decoded must not get into the log, where every member would stumble over it."""
        if self.core.is_leader and self.core.term == self._term:
            for data in transactions:
                with suppress(msgspec.DecodeError):
                    self._enqueue(decode(data), data, member)

    def _enqueue(self, transaction: Transaction, data: bytes, origin: int) -> None:
        if transaction.id not in self._queue and transaction.id not in self._logged:
            self._queue[transaction.id] = _Queued(transaction, data, origin)

    def take(self, state: State) -> bytes | None:
        """As leader: the entry to append now, of all that wait. A change of members, or one that raises the level, goes
        alone, into an empty pipe."""
        if not self._queue or self.paused:
            return None
        chosen: list[_Queued] = []
        size = 0
        for queued in self._queue.values():
            if membership.concerns_members(queued.transaction) or queued.transaction.level > state.level:
                return self._take(chosen, state.level) if chosen else self._take_alone(queued, state)
            size += len(queued.data)
            if chosen and size > _ENTRY_BYTES:
                break
            chosen.append(queued)
        return self._take(chosen, state.level)

    def _take(self, chosen: list[_Queued], level: int, members: Members | None = None) -> bytes:
        for queued in chosen:
            del self._queue[queued.transaction.id]
            self._logged.add(queued.transaction.id)
            if queued.transaction.id in self.waiting:
                self.waiting[queued.transaction.id].proposed = True
        return pack([queued.data for queued in chosen], level, members)

    def _take_alone(self, queued: _Queued, state: State) -> bytes | None:
        """The outcome must be known before the append, since members count from there, and who does not know a level
        stops before its entry, also when that writes nothing: so the log must be applied to its end. That also keeps
        changes one at a time, and behind an entry of this term (paper 6)."""
        if self.journal.last != self.core.applied or not self.core.established:
            return None
        if queued.transaction.level > LEVEL:
            self._refuse(queued, f"this member knows level {LEVEL}, not {queued.transaction.level}")
            return None
        after = machine.apply(state, self.journal.last + 1, [queued.transaction]).state
        try:
            members = membership.configuration(after)
        except ValueError as error:  # msgspec's are among them
            self._refuse(queued, f"a member document cannot be read: {error}")
            return None
        if members == self.journal.members:
            return self._take([queued], after.level)
        reason = membership.refusal(self.journal.members, members, self.own)
        if reason is not None:
            self._refuse(queued, reason)
            return None
        return self._take([queued], after.level, members)

    def _refuse(self, queued: _Queued, reason: str) -> None:
        del self._queue[queued.transaction.id]
        if queued.origin == self.own:
            self.on_refused(queued.transaction.id, reason)
        else:
            self.send(queued.origin, {"type": "refused", "id": queued.transaction.id, "reason": reason})

    def on_refused(self, identity: str, reason: str) -> None:
        waiter = self.waiting.pop(identity, None)
        if waiter is not None:
            waiter.end(Refused(reason))

    def fail_unproposed(self, result: Unreachable | Full) -> None:
        """What is surely in no log ends here."""
        self._fail([waiter for waiter in self.waiting.values() if not waiter.proposed], result)

    def fail_all(self, result: Full) -> None:
        """Nobody waits any longer; what was proposed may still be applied."""
        self._fail(list(self.waiting.values()), result)

    def _fail(self, waiters: list[Waiter], result: Result) -> None:
        for waiter in waiters:
            if not waiter.proposed:
                self._queue.pop(waiter.transaction.id, None)
            del self.waiting[waiter.transaction.id]
            waiter.end(result)

    def applied(self, identity: str, outcome: Outcome) -> None:
        self._logged.discard(identity)
        self._queue.pop(identity, None)
        waiter = self.waiting.pop(identity, None)
        if waiter is not None:
            self.answered = True
            waiter.end(outcome)
