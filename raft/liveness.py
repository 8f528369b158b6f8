"""How long ago each member was heard, and the small report that each one gives of itself: memory, never logged.

The leader's ages and all reports travel with its heartbeats; reports reach it with the answers to them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from lxdnode.raft.core import HEARTBEAT, Message


@dataclass(slots=True)
class Liveness:
    own: int
    started: float
    report: bytes = b""
    reports: dict[int, bytes] = field(default_factory=dict)
    _heard: dict[int, float] = field(default_factory=dict)
    _table: dict[int, float] = field(default_factory=dict)
    _table_at: float | None = None
    _told_leader: tuple[int, int, bytes] | None = None
    _told: dict[int, dict[int, bytes]] = field(default_factory=dict)
    _told_at: dict[int, float] = field(default_factory=dict)

    def hear(self, member: int, now: float) -> None:
        self._heard[member] = now

    def forget_link(self, member: int) -> None:
        """A new link: what was told over the old one may not have arrived."""
        self._told.pop(member, None)
        if self._told_leader is not None and self._told_leader[0] == member:
            self._told_leader = None

    def ages(self, members: Iterable[int], now: float, leader: int | None) -> dict[int, float]:
        """Seconds since each member was heard: by the leader, or by this member while there is none."""
        if leader is not None and leader != self.own and self._table_at is not None:
            elapsed = now - self._table_at
            ages = {member: self._table.get(member, now - self.started) + elapsed for member in members}
            ages[leader] = now - self._heard.get(leader, self.started)
        else:
            ages = {member: now - self._heard.get(member, self.started) for member in members}
        ages[self.own] = 0.0
        return ages

    # At the leader.

    def fill(self, member: int, message: Message, members: Iterable[int], now: float) -> None:
        """Put ages and what the member does not know of the reports into a heartbeat to it."""
        if now - self._told_at.get(member, float("-inf")) < HEARTBEAT / 2:
            return
        self._told_at[member] = now
        self.reports[self.own] = self.report
        known = self._told.setdefault(member, {})
        news = {number: report for number, report in self.reports.items() if known.get(number) != report}
        known.update(news)
        message["ages"] = self.ages(members, now, self.own)
        if news:
            message["reports"] = news

    def take_answer(self, member: int, message: Message) -> None:
        if "report" in message:
            self.reports[member] = message["report"]

    # At the others.

    def answer(self, leader: int, message: Message) -> None:
        """Put this member's report into an answer when that leader does not have it."""
        told = (leader, message["term"], self.report)
        if told != self._told_leader:
            self._told_leader = told
            message["report"] = self.report

    def take(self, message: Message, now: float) -> None:
        if "ages" in message:
            self._table, self._table_at = message["ages"], now
        self.reports.update(message.get("reports", {}))
