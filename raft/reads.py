"""Linearizable reads without log writes: a barrier names an index that was committed when a majority still followed.

Owns barriers, asked here or by other members, on their way through read rounds; concurrent ones share a round."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lxdnode.raft.core import Core, Message
from lxdnode.raft.journal import Journal

RETRY = 0.15


@dataclass(slots=True)
class _Question:
    """A barrier that a member waits for, at the leader: `index` is known once the leader is established."""

    member: int
    token: int
    round: int
    index: int | None


class Reads:
    """`wait` registers a barrier, `step` moves all of them on, `on_*` take the messages and echoes."""

    def __init__(
        self, core: Core, journal: Journal, send: Callable[[int, Message], None], off: Collection[str] = ()
    ) -> None:
        self._core = core
        self._journal = journal
        self._send = send
        self._off = off
        self._own = journal.identity.member
        self._new: list[Callable[[], None]] = []
        self._asked: list[Callable[[], None]] = []
        self._asked_at = 0.0
        self._asked_leader: tuple[int | None, int] = (None, 0)
        self._token = 0
        self._confirmed: list[tuple[int, Callable[[], None]]] = []  # wait for the local apply of an index
        self._questions: list[_Question] = []
        self._echoes: dict[int, int] = {}
        self._term = -1

    def wait(self, done: Callable[[], None]) -> None:
        """Call `done` in a later step, when all that was committed before this call is applied here."""
        if "reads_are_confirmed" in self._off:
            self._confirmed.append((self._core.applied, done))
        else:
            self._new.append(done)

    def give_up(self, done: Callable[[], None]) -> None:
        for waiters in (self._new, self._asked):
            if done in waiters:
                waiters.remove(done)
        self._confirmed = [(index, waiter) for index, waiter in self._confirmed if waiter is not done]

    def forget(self, member: int) -> None:
        """Its link broke: what it asked over it is void (a member that starts again counts its questions anew)."""
        self._questions = [question for question in self._questions if question.member != member]

    @property
    def pending(self) -> bool:
        return bool(self._new or self._asked)

    def step(self, now: float) -> None:
        if self._core.term != self._term:
            self._term, self._questions, self._echoes = self._core.term, [], {}
        self._ask(now)
        self._answer()
        ready = [done for index, done in self._confirmed if index <= self._core.applied]
        self._confirmed = [(index, done) for index, done in self._confirmed if index > self._core.applied]
        for done in ready:
            done()

    def _ask(self, now: float) -> None:
        leader = (self._core.leader, self._core.term)
        lost = leader != self._asked_leader or now - self._asked_at > RETRY
        if self._asked and not lost:
            return  # what is new joins the next question
        waiting = self._asked + self._new
        if not waiting or leader[0] is None:
            return
        self._asked, self._new = waiting, []
        self._token += 1
        self._asked_at, self._asked_leader = now, leader
        if leader[0] == self._own:
            self.on_question(self._own, self._token)
        else:
            self._send(leader[0], {"type": "barrier", "token": self._token})

    def on_question(self, member: int, token: int) -> None:
        """A member asks; only a leader answers, and who is not stays silent: the asker tries again."""
        if not self._core.is_leader:
            return
        self._core.round += 1
        index = self._core.commit if self._core.established else None
        self._questions.append(_Question(member, token, self._core.round, index))

    def on_echo(self, member: int, round_: int) -> None:
        """A follower of this term has seen the round: no other leader had its vote when that began."""
        self._echoes[member] = max(round_, self._echoes.get(member, 0))

    def on_answer(self, token: int, index: int) -> None:
        if token == self._token:
            self._confirmed += [(index, done) for done in self._asked]
            self._asked = []

    def _answer(self) -> None:
        if not self._core.is_leader or not self._core.established or not self._questions:
            return
        waiting = []
        for question in self._questions:
            if question.index is None:
                question.index = self._core.commit
            if not self._is_confirmed(question.round):
                waiting.append(question)
            elif question.member == self._own:
                self.on_answer(question.token, question.index)
            else:
                answer = {"type": "barrier_ok", "token": question.token, "index": question.index}
                self._send(question.member, answer)
        self._questions = waiting

    def _is_confirmed(self, round_: int) -> bool:
        members = self._journal.members
        echoed = sum(self._echoes.get(member, 0) >= round_ for member in members.voters if member != self._own)
        return echoed + (self._own in members.voters) >= members.quorum
