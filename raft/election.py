"""When this member may stand for election: pre-vote, who may never, and the hand-over of the lead.

Owns the moment of a candidacy; the election itself is pysyncobj's, the judgement of votes the guard's."""

from collections.abc import Callable, Collection

from lxdnode.raft.core import ELECTION_MIN, Core, Message
from lxdnode.raft.guard import Guard
from lxdnode.raft.journal import Journal

HAND_OVER_LIMIT = 2.0  # seconds without proposals; then this member goes on leading


class Election:
    """`check` goes before each tick of the core: it takes the candidacy away that has no majority behind it."""

    def __init__(
        self,
        core: Core,
        journal: Journal,
        guard: Guard,
        send: Callable[[int, Message], None],
        off: Collection[str] = (),
    ) -> None:
        self._core = core
        self._journal = journal
        self._guard = guard
        self._send = send
        self._off = off
        self._asked_in = -1  # the term in which a pre-vote runs
        self._promises: set[int] = set()
        self._backed_in = -1  # the term in which a majority would vote for this member
        self._asked_by_leader = False
        self._heir: tuple[int, float] | None = None
        self.barred = False  # removed, or unable to apply what is committed
        self.not_before = 0  # the index that the log must hold on the disk: below it its configuration is history

    @property
    def own(self) -> int:
        return self._journal.identity.member

    @property
    def may_stand(self) -> bool:
        is_copy = self._journal.durable < self.not_before
        return self.own in self._journal.members.voters and not self.barred and not is_copy

    def check(self, now: float) -> None:
        if self._core.is_leader:
            return
        self._asked_by_leader = self._asked_by_leader and self._core.term == self._backed_in
        if self._asked_by_leader:
            self._core.campaign()  # a heartbeat of the outgoing leader may have put it off
        if self._core.election_at() >= now:
            return
        if not self.may_stand:
            self._core.postpone_election(now)
        elif not self._is_backed():
            self._ask(now)

    def _is_backed(self) -> bool:
        alone = self._journal.members.voters == (self.own,)
        return alone or self._backed_in == self._core.term or "pre_vote" in self._off

    def _ask(self, now: float) -> None:
        """Dissertation 9.6: ask whether an election could be won before raising the term."""
        self._core.postpone_election(now)
        self._asked_in, self._promises = self._core.term, {self.own}
        question = {"last_log_index": self._journal.last, "last_log_term": self._journal.last_term}
        for member in self._journal.members.voters:
            if member != self.own:
                self._send(member, {"type": "prevote", "term": self._core.term, **question})

    def on_prevote(self, now: float, member: int, message: Message) -> None:
        """Promise a vote to a member whose log is no older, when no leader is alive here. Nothing is changed by it."""
        if message["term"] < self._core.term:
            self._send(member, {"type": "stale", "term": self._core.term})
        elif member in self._journal.members and not self._leader_lives(now) and self._is_current(message):
            self._send(member, {"type": "prevote_ok", "term": self._core.term, "asked": message["term"]})

    def _leader_lives(self, now: float) -> bool:
        return self._core.is_leader or now - self._guard.heard_at < ELECTION_MIN

    def _is_current(self, message: Message) -> bool:
        theirs = (message["last_log_term"], message["last_log_index"])
        return theirs >= (self._journal.last_term, self._journal.last)

    def on_promise(self, member: int, message: Message) -> None:
        if message["asked"] != self._asked_in or self._asked_in != self._core.term:
            return
        if member not in self._journal.members.voters or self._core.is_leader:
            return
        self._promises.add(member)
        if len(self._promises) >= self._journal.members.quorum:
            self._backed_in = self._core.term
            self._core.campaign()

    def on_handed_over(self, member: int, message: Message) -> None:
        """The leader asks this member to lead: no pre-vote, and its vote requests are let through by the others."""
        if member == self._core.leader and message["term"] == self._core.term and self.may_stand:
            self._backed_in, self._asked_by_leader = self._core.term, True

    def stamp(self, message: Message) -> None:
        """Mark the vote requests of a hand-over: the others follow though they hear the old leader."""
        if self._asked_by_leader and message["term"] == self._backed_in + 1:
            message["transfer"] = True

    # Handing over the lead.

    def hand_over(self, now: float, linked: Collection[int]) -> None:
        """As leader: let the most advanced voter among `linked` lead."""
        heirs = [member for member in self._journal.members.voters if member in linked]
        if self._core.is_leader and heirs:
            self._heir = (max(heirs, key=self._core.match), now + HAND_OVER_LIMIT)

    def is_handing_over(self, now: float) -> bool:
        """Whether nothing may be proposed, so that the heir catches up; it is asked to lead once it has everything."""
        if self._heir is None:
            return False
        heir, until = self._heir
        if not self._core.is_leader or now > until:
            self._heir = None
            return False
        if self._core.match(heir) == self._journal.last:
            self._send(heir, {"type": "timeout_now", "term": self._core.term})
        return True
