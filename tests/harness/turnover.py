"""What the node does about members, in the simulated cluster: the leader keeps the votes, servers join and leave.

Owns the steps of each, which faults may cut short: they are tried again. Refuses to know when a storm wants one."""

from lxdnode.raft import membership
from lxdnode.raft.entry import Members
from lxdnode.raft.membership import HandOver, VoteChange, plan
from lxdnode.raft.transaction import Expect
from tests.harness.changes import member_put, transaction
from tests.harness.inhabitants import Member
from tests.harness.simulation import World

LOOK = 0.5
NEAR = 100  # entries behind the end with which a member counts as caught up (Log.caught_up_members)


def put_member(member: Member, number: int, phase: str, voter: bool) -> None:
    """Propose a member's document in place of the one that `member` knows."""
    state = member.running.state
    known = state.get(membership.TABLE, "", str(number))
    expects = (Expect(membership.TABLE, "", str(number), known.revision if known else 0),)
    put = member_put(number, voter=voter, phase=phase)
    member.world.propose(member.number, transaction(state, member.number, writes=(put,), expects=expects), 2.0)


class Turnover:
    """Looks every half second, until the world's end."""

    def __init__(self, world: World, max_voters: int = 3) -> None:
        self._world = world
        self._max_voters = max_voters
        self.wanted: dict[int, str] = {}  # member -> "join" or "leave"
        self._look()

    def join(self) -> None:
        """Let another server join."""
        number = max(self._world.members) + 1
        self.wanted.setdefault(number, "join")

    def leave(self, number: int) -> None:
        """Take a member out, unless too few would stay."""
        self.wanted.setdefault(number, "leave")

    def _look(self) -> None:
        self._world.after(LOOK, self._look)
        leader = self._world.leader()
        if leader is None or not leader.running.core.established or leader.paused:
            return
        self._vote(leader)
        for number in list(self.wanted):
            (self._join if self.wanted[number] == "join" else self._leave)(leader, number)

    def _vote(self, leader: Member) -> None:
        driver = leader.running
        others = driver.journal.members.all - {leader.number}
        near = {other for other in others if driver.core.match(other) >= driver.journal.last - NEAR}
        reachable = driver.connected | {leader.number}
        step = plan(driver.state, self._max_voters, reachable, near | {leader.number}, leader.number)
        if isinstance(step, HandOver):
            driver.election.hand_over(self._world.now, driver.connected)
        elif isinstance(step, VoteChange):
            phase = membership.members_in(driver.state)[step.member].phase
            put_member(leader, step.member, phase, step.voter)

    def _join(self, leader: Member, number: int) -> None:
        known = membership.members_in(leader.running.state).get(number)
        joiner = self._world.members.get(number)
        if known is None:
            put_member(leader, number, "joining", False)
        elif joiner is None:
            self._world.add(number, Members())
        elif known.phase != "joining":
            del self.wanted[number]
        elif joiner.alive and leader.running.core.match(number) >= leader.running.journal.last - NEAR:
            put_member(leader, number, "member", False)

    def _leave(self, leader: Member, number: int) -> None:
        documents = membership.members_in(leader.running.state)
        known = documents[number]
        serving = [member for member in documents.values() if member.phase == "member"]
        if known.phase == "removed" or (known.phase != "leaving" and len(serving) < 4):
            del self.wanted[number]
        elif known.phase != "leaving":
            put_member(leader, number, "leaving", known.voter)
        elif not known.voter:
            put_member(leader, number, "removed", False)
