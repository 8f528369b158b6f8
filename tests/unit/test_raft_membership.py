"""Members: which vote comes next, what is refused, and joins, removals and hand-overs in a simulated cluster."""

from collections.abc import Collection

import msgspec
import pytest

from lxdnode.raft import machine, membership
from lxdnode.raft.entry import Members
from lxdnode.raft.membership import HandOver, VoteChange, configuration, plan
from lxdnode.raft.proposals import Refused
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Committed, Put
from tests.harness.changes import member_put, transaction
from tests.harness.lone import Lone, entry
from tests.harness.simulation import World
from tests.harness.storm import Storm


def _state(**phases: str) -> State:
    """`m1="member+"`: member 1 with a vote."""
    puts = [
        member_put(int(name[1:]), voter=phase.endswith("+"), phase=phase.removesuffix("+"))
        for name, phase in phases.items()
    ]
    return machine.apply(State(), 1, [transaction(State(), 1, writes=tuple(puts))]).state


def test_the_configuration_follows_from_the_documents() -> None:
    state = _state(m1="member+", m2="member", m3="joining+", m4="leaving+", m5="removed+", m6="learner")
    assert configuration(state) == Members((1, 4), (2, 3, 6))


def test_fields_of_the_node_are_passed_over() -> None:
    record = {"number": 1, "name": "a", "phase": "member", "voter": True, "addresses": ["::1"], "mood": {"is": "good"}}
    put = Put("members", "", "1", msgspec.msgpack.encode(record))
    state = machine.apply(State(), 1, [transaction(State(), 1, writes=(put,))]).state
    assert configuration(state) == Members((1,), ())


@pytest.mark.parametrize(
    ("phases", "away", "step"),
    [
        ({"m1": "member+"}, (), None),
        ({"m1": "member+", "m2": "member"}, (), None),  # two members: one votes
        ({"m1": "member+", "m2": "member", "m3": "joining"}, (), None),
        ({"m1": "member+", "m2": "member", "m3": "member"}, (), VoteChange(2, True)),
        ({"m1": "member+", "m2": "member+", "m3": "member"}, (), VoteChange(3, True)),
        ({"m1": "member+", "m2": "member", "m3": "member"}, (3,), None),  # no even number to stay at
        ({"m1": "member+", "m2": "member+", "m3": "member"}, (3,), VoteChange(2, False)),
        ({"m1": "member+", "m2": "member+", "m3": "member+"}, (3,), None),  # nobody to replace it
        ({"m1": "member+", "m2": "member+", "m3": "member+", "m4": "member"}, (), None),
        ({"m1": "member+", "m2": "member+", "m3": "member+", "m4": "member"}, (3,), VoteChange(4, True)),
        ({"m1": "member+", "m2": "member+", "m3": "member+", "m4": "member+"}, (3,), VoteChange(3, False)),
        ({"m1": "member+", "m2": "member+", "m3": "leaving+"}, (), VoteChange(3, False)),
        ({"m1": "member+", "m2": "member+", "m3": "removed"}, (), VoteChange(2, False)),
        ({"m1": "member+", "m2": "member+", "m3": "learner"}, (3,), None),  # it fetches its store
        ({"m1": "member+", "m2": "member+", "m3": "learner", "m4": "member"}, (3,), VoteChange(4, True)),
        ({"m1": "leaving+", "m2": "member"}, (), VoteChange(2, True)),
        ({"m1": "leaving+", "m2": "member+"}, (), HandOver()),
        ({"m1": "leaving+"}, (), None),
    ],
)
def test_the_next_vote(phases: dict[str, str], away: Collection[int], step: VoteChange | HandOver | None) -> None:
    state = _state(**phases)
    reachable = {number for number in membership.members_in(state) if number not in away}
    assert plan(state, 3, reachable, reachable, leader=1) == step


def test_a_spare_that_is_far_behind_gets_no_vote() -> None:
    state = _state(m1="member+", m2="member", m3="member")
    assert plan(state, 3, {1, 2, 3}, {1}, leader=1) is None
    assert plan(state, 3, {1, 2, 3}, {1, 3}, leader=1) is None


def _vote(lone: Lone, *puts: Put) -> list[object]:
    lone.propose(change=transaction(lone.driver.state, 1, writes=puts))
    return lone.results


def test_unsafe_changes_are_refused() -> None:
    lone = Lone(voters=(1, 2, 3), learners=(4, 5))
    lone.lead()
    two = _vote(lone, member_put(4, voter=True), member_put(5, voter=True))
    own = _vote(lone, member_put(1, voter=False))
    removed = _vote(lone, member_put(2, voter=False, phase="removed"))
    assert all(isinstance(result, Refused) for [result] in (two, own, removed))
    assert lone.driver.journal.members == Members((1, 2, 3), (4, 5))


def test_a_configuration_counts_from_its_append_and_goes_with_its_entry() -> None:
    lone = Lone(voters=(1, 2, 3), learners=(4,))
    lone.lead()
    _vote(lone, member_put(4, voter=True))
    assert len(lone.driver.core.otherNodes) == 3
    last = lone.driver.journal.last
    lone.append(2, last - 1, [entry(last, 9)], term=9)
    assert lone.driver.journal.members.voters == (1, 2, 3)
    assert len(lone.driver.core.otherNodes) == 2


def _set_member(world: World, number: int, *, phase: str = "member", voter: bool = False) -> None:
    leader = world.leader()
    assert leader is not None
    put = member_put(number, voter=voter, phase=phase)
    change = transaction(leader.running.state, leader.number, writes=(put,))
    assert isinstance(world.commit(leader.number, change), Committed)


def _plan_votes(world: World, max_voters: int = 3) -> None:
    """What the leader's task does in the node."""
    for _ in range(20):
        leader = world.leader()
        if leader is None:
            world.run(0.5)
            continue
        driver = leader.running
        reachable = driver.connected | {leader.number}
        step = plan(driver.state, max_voters, reachable, reachable, leader.number)
        if step is None:
            return
        if isinstance(step, HandOver):
            driver.election.hand_over(world.now, driver.connected)
            leader.wake()
            world.run(1.0, lambda leader=leader: not leader.running.core.is_leader)  # type: ignore[misc]
        else:
            phase = membership.members_in(driver.state)[step.member].phase
            _set_member(world, step.member, phase=phase, voter=step.voter)


def _join(world: World, number: int) -> None:
    _set_member(world, number, phase="joining")
    joiner = world.add(number, Members())
    read = world.read(number)
    assert world.run(20, lambda: read.done), world.describe()
    assert joiner.running.state.index >= 2
    _set_member(world, number)


def _grown(count: int, seed: int = 1) -> World:
    world = World(seed=seed)
    world.found(1)
    world.run(0.1)
    for number in range(2, count + 1):
        _join(world, number)
        _plan_votes(world)
    return world


def test_a_cluster_grows_from_one_to_four() -> None:
    world = World(seed=1)
    world.found(1)
    world.run(0.1)
    voters = []
    for number in range(2, 5):
        _join(world, number)
        _plan_votes(world)
        voters.append(world.members[1].running.journal.members.voters)
    assert voters == [(1,), (1, 2, 3), (1, 2, 3)]
    world.settle()


def test_a_joiner_far_behind_gets_a_snapshot() -> None:
    world = World(seed=2)
    world.found(1)
    world.run(0.1)
    Storm(world).rage(5, faults=False)
    _join(world, 2)
    assert world.snapshots == 1
    world.settle()


def test_a_member_leaves_and_is_told() -> None:
    world = _grown(4)
    _set_member(world, 3, phase="leaving", voter=True)
    _plan_votes(world)
    _set_member(world, 3, phase="removed")
    assert world.run(2, lambda: world.members[3].running.removed)
    term = world.members[1].running.core.term
    world.run(10)
    assert world.members[1].running.core.term == term
    assert world.members[1].running.journal.members.voters == (1, 2, 4)
    world.settle()


def test_a_member_that_was_away_when_it_was_removed_is_told_when_it_comes_back() -> None:
    world = _grown(4)
    world.kill(3)
    _set_member(world, 3, phase="leaving", voter=True)
    _plan_votes(world)
    _set_member(world, 3, phase="removed")
    world.start(3)
    term = world.members[1].running.core.term
    assert world.run(5, lambda: world.members[3].running.removed)
    world.run(5)
    assert world.members[1].running.core.term == term


def test_the_leader_leaves() -> None:
    world = _grown(3)
    leader = world.leader()
    assert leader is not None
    _join(world, 4)
    _set_member(world, leader.number, phase="leaving", voter=True)
    _plan_votes(world)
    heir = world.leader()
    assert heir is not None
    assert heir is not leader
    assert leader.number not in heir.running.journal.members.voters
    assert len(heir.running.journal.members.voters) == 3


def test_handing_over_takes_no_election_timeout() -> None:
    world = _grown(3)
    leader = world.leader()
    assert leader is not None
    leader.running.election.hand_over(world.now, leader.running.connected)
    leader.wake()
    assert world.run(0.2, lambda: world.leader() not in (None, leader))


def test_a_voter_that_stays_away_is_replaced() -> None:
    world = _grown(4)
    world.kill(2)
    world.run(1.0)
    _plan_votes(world)
    assert world.members[1].running.journal.members.voters == (1, 3, 4)


@pytest.mark.parametrize("seed", range(8))
def test_joins_and_removals_under_faults(seed: int) -> None:
    world = World(seed=seed)
    world.found(3)
    storm = Storm(world)
    steps: list[tuple[int, str, bool]] = [(4, "joining", False), (4, "member", False), (4, "member", True)]
    steps += [(2, "leaving", True), (2, "leaving", False), (2, "removed", False)]

    def change() -> None:
        leader = world.leader()
        if steps and leader is not None and leader.running.core.established:
            number, phase, voter = steps[0]
            current = membership.members_in(leader.running.state).get(number)
            if current is not None and (current.phase, current.voter) == (phase, voter):
                steps.pop(0)
                if phase == "joining":
                    world.add(number, Members())
            elif number == leader.number and not voter:
                leader.running.election.hand_over(world.now, leader.running.connected)
            else:
                put = member_put(number, voter=voter, phase=phase)
                world.propose(leader.number, transaction(leader.running.state, leader.number, writes=(put,)))
        world.after(0.3, change)

    world.after(1.0, change)
    storm.rage(15)
    assert world.run(30, lambda: not steps), (steps, world.describe())
    steps.clear()
    world.settle()
