"""How long ago each member was heard, how wrong its clock is, and the small report that each one gives of itself:
memory, never logged.

The leader's ages, its skews and all reports travel with its heartbeats; reports and clocks reach it with the answers
to them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lxdnode.raft.core import HEARTBEAT, Message

CLOCKS = 2.0  # seconds between two looks at the clock of a member
TRIP_LIMIT = 0.5  # a question and its answer that took longer say too little: half of the time is the error
UNSET = float("-inf")


@dataclass(slots=True)
class Liveness:
    own: int
    started: float
    clock: Callable[[], float]  # the wall clock
    skews: dict[int, float] = field(default_factory=dict)
    report: bytes = b""
    reports: dict[int, bytes] = field(default_factory=dict)
    _heard: dict[int, float] = field(default_factory=dict)
    _table: dict[int, float] = field(default_factory=dict)
    _table_at: float | None = None
    _told_leader: tuple[int, int, bytes] | None = None
    _told: dict[int, dict[int, bytes]] = field(default_factory=dict)
    _told_at: dict[int, float] = field(default_factory=dict)
    _clock_asked_at: dict[int, float] = field(default_factory=dict)
    _clock_question: tuple[int, float] | None = None

    def hear(self, member: int, now: float) -> None:
        self._heard[member] = now

    def meet(self, member: int, now: float) -> None:
        """A member is new here: that it was not heard yet says nothing about the time before."""
        self._heard.setdefault(member, now)

    def forget_link(self, member: int) -> None:
        """A new link: what was told over the old one may not have arrived."""
        self._told.pop(member, None)
        if self._told_leader is not None and self._told_leader[0] == member:
            self._told_leader = None

    def ages(self, members: Collection[int], now: float, leader: int | None) -> dict[int, float]:
        """Seconds since each member was heard: by the leader; while there is none, by the last one or this member."""
        ages = {member: now - self._heard.get(member, self.started) for member in members}
        if leader != self.own and self._table_at is not None:
            elapsed = now - self._table_at
            told = {
                member: self._table[member] + elapsed if member in self._table else ages[member] for member in members
            }
            if leader is not None:
                told[leader] = ages[leader]
            ages = told if leader is not None else {member: min(ages[member], told[member]) for member in members}
        ages[self.own] = 0.0
        return ages

    # At the leader.

    def fill(self, member: int, message: Message, members: Collection[int], now: float) -> None:
        """Put ages and what the member does not know of the reports into a heartbeat to it."""
        if now - self._told_at.get(member, UNSET) < HEARTBEAT / 2:
            return
        self._told_at[member] = now
        self.reports[self.own] = self.report
        known = self._told.setdefault(member, {})
        news = {number: report for number, report in self.reports.items() if known.get(number) != report}
        known.update(news)
        message["ages"] = self.ages(members, now, self.own)
        if news:
            message["reports"] = news
        if now - self._clock_asked_at.get(member, UNSET) >= CLOCKS:
            self._clock_asked_at[member] = now
            self.skews = {number: skew for number, skew in self.skews.items() if number in members} | {self.own: 0.0}
            message |= {"asked_at": now, "skews": dict(self.skews)}

    def take_answer(self, member: int, message: Message, now: float) -> None:
        if "report" in message:
            self.reports[member] = message["report"]
        if "clock" in message and (trip := now - message["asked_at"]) <= TRIP_LIMIT:
            self.skews[member] = message["clock"] - (self.clock() - trip / 2)

    # At the others.

    def answer(self, leader: int, message: Message) -> None:
        """Put this member's report into an answer when that leader does not have it, and its clock when it asked."""
        told = (leader, message["term"], self.report)
        if told != self._told_leader:
            self._told_leader = told
            message["report"] = self.report
        if self._clock_question is not None and self._clock_question[0] == message["term"]:
            message |= {"asked_at": self._clock_question[1], "clock": self.clock()}
        self._clock_question = None

    def take(self, message: Message, now: float) -> None:
        if "ages" in message:
            self._table, self._table_at = message["ages"], now
        if "asked_at" in message:
            self.skews, self._clock_question = message["skews"], (message["term"], message["asked_at"])
        self.reports.update(message.get("reports", {}))
