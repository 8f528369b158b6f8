"""Members of the simulated cluster whose store is lost: they fetch their state from the others, as a daemon does.

Owns the steps (ask for the demotion, begin anew, catch up, say so) and the damage itself; refuses to know when."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lxdnode.raft import driver as drivers
from lxdnode.raft import membership
from lxdnode.raft.entry import Members
from lxdnode.raft.framing import payloads
from lxdnode.raft.journal import Identity
from lxdnode.raft.transaction import Committed, Expect, Outcome
from tests.harness.changes import member_put, transaction
from tests.harness.disks import MemoryDisk

if TYPE_CHECKING:
    from tests.harness.inhabitants import Member
    from tests.harness.simulation import World

AGAIN = 0.5


def flip(world: "World", number: int) -> None:
    """One bit of a stopped member's journal or newest snapshot is wrong from now on."""
    disk = world.members[number].disk
    names = sorted(name for name in disk.names() if name.startswith("journal-") and not name.endswith(".new"))
    newest = max((name for name in disk.names() if name.startswith("snapshot-")), default=None)
    name = world.chance.choice([*names, newest] if newest else names)
    whole = max(end for end, _ in payloads(disk.read(name)))  # what is torn anyway need not be found
    disk.flip(name, whole)


def lose(world: "World", number: int) -> None:
    """The directory of a stopped member is gone."""
    world.members[number].disk = MemoryDisk(world.chance)


class Healing:
    """One member's way back, for as long as its store is none that it may start on."""

    def __init__(self, member: "Member") -> None:
        self._member = member
        self._world = member.world
        self._identity = Identity(self._world.cluster, 1, member.number)
        self.index = 0  # of the demotion; 0 = not yet committed

    def begin(self) -> None:
        """Ask the others, again and again, while the member is on."""
        life = self._member.life
        self._repeat(life, self._demote)

    def _repeat(self, life: int, step: Callable[[], bool]) -> None:
        """Every now and then, until the step says that it is done or the power fails."""
        if life == self._member.life and not step():
            self._world.after(AGAIN, lambda: self._repeat(life, step))

    def _demote(self) -> bool:
        if "lost_votes_are_demoted" in self._world.off:
            self._begin_anew(0, 0, Members(tuple(self._world.members)))
            return True
        helper = self._helper()
        if helper is None:
            return False
        state = helper.running.state
        known = state.get(membership.TABLE, "", str(self._member.number))
        found = membership.members_in(state).get(self._member.number)
        if found is None:
            return False  # the helper has just begun itself
        if found.phase == "removed":
            return True  # nobody waits for it
        phase = found.phase
        put = member_put(self._member.number, voter=False, phase="learner" if phase == "member" else phase)
        expects = (Expect(membership.TABLE, "", str(self._member.number), known.revision if known else 0),)
        change = transaction(state, helper.number, writes=(put,), expects=expects)
        call = self._world.propose(helper.number, change)
        life, helper_life = self._member.life, helper.life

        def done() -> bool:
            outcome: Outcome | None = call.outcome
            if outcome is None and helper_life == helper.life and not call.results:
                return False
            if not isinstance(outcome, Committed) or helper_life != helper.life:
                return True
            if self.index == 0:
                others = tuple(number for number in self._world.members if number != self._member.number)
                self._begin_anew(helper.running.core.term, outcome.index, Members((), others))
            return True

        self._repeat(life, done)
        return self.index > 0

    def _helper(self) -> "Member | None":
        whole = [
            other
            for other in self._world.members.values()
            if other is not self._member and other.alive and other.healing is None and not other.running.removed
        ]
        return self._world.chance.choice(whole) if whole else None

    def _begin_anew(self, term: int, index: int, members: Members) -> None:
        member = self._member
        member.disk = MemoryDisk(self._world.chance)
        self.index = max(index, 1)
        drivers.create(member.disk, self._identity, members, lost_term=term)
        member.run(copy_until=index)
        member.connect()
        read = self._world.read(member.number)

        def caught_up() -> bool:
            journal = member.running.journal
            if not read.done or journal.durable < max(index, member.running.state.index):
                return False
            member.healing = None  # from here on a restart finds this store
            self._repeat(member.life, self._join)
            return True

        self._repeat(member.life, caught_up)

    def _join(self) -> bool:
        """It says that it is a member again; the leader's task gives it its vote."""
        driver = self._member.running
        known = membership.members_in(driver.state).get(self._member.number)
        if known is None or known.phase != "learner":
            return True
        put = member_put(self._member.number, voter=False)
        self._world.propose(self._member.number, transaction(driver.state, self._member.number, writes=(put,)), 1.0)
        return False


def resume(member: "Member") -> None:
    """A member that was stopped between its new store and its word about it gives that word now."""
    healing = Healing(member)
    healing._repeat(member.life, healing._join)
