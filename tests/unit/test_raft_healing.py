"""A member that lost its store, or finds it damaged, fetches it from the others, and breaks nothing meanwhile."""

import pytest

from lxdnode.raft.entry import LEVEL, Members, pack
from lxdnode.raft.framing import Damaged
from tests.harness.changes import raise_counter
from tests.harness.healing import flip, lose
from tests.harness.lone import Lone
from tests.harness.simulation import Broken, World
from tests.harness.storm import Storm
from tests.harness.turnover import Turnover


def _calm(off: tuple[str, ...] = ()) -> tuple[World, int, int, int]:
    """Three members at rest: world, leader and the two others."""
    world = World(seed=3, off=off)
    world.slow_disk = 0.0
    world.found(3)
    assert world.run(5, lambda: world.leader() is not None)
    leader = world.leader()
    assert leader is not None
    world.commit(leader.number, raise_counter(leader.running.state, leader.number, "first"))
    one, other = (number for number in world.members if number != leader.number)
    return world, leader.number, one, other


def _lose(world: World, number: int) -> None:
    world.kill(number)
    world.members[number].flipped = True
    lose(world, number)
    world.start(number)


def test_a_follower_without_its_store_gets_it_back_and_votes_again() -> None:
    world, leader, one, _ = _calm()
    Turnover(world)
    _lose(world, one)
    assert world.run(5, lambda: one in world.members[leader].running.journal.members.learners), "it is demoted"
    assert world.run(10, lambda: world.members[leader].running.journal.members.voters == (1, 2, 3))
    world.settle()
    assert world.healed == 1


def test_a_leader_without_its_store_gets_it_back_from_the_next_one() -> None:
    world, leader, _, _ = _calm()
    Turnover(world)
    _lose(world, leader)
    assert world.run(20, lambda: world.members[leader].alive and not world.members[leader].healing)
    world.settle()


def _committed_by_one_that_forgets(off: tuple[str, ...] = ()) -> None:
    """A leader and a follower commit what the third does not get; the follower loses it, and the leader goes away."""
    world, leader, forgetful, late = _calm(off)
    world.partition([late])
    state = world.members[leader].running.state
    world.commit(leader, raise_counter(state, leader, "kept by two"))
    world.kill(leader)
    _lose(world, forgetful)
    world.heal()
    world.run(10)
    assert world.leader() is None, "the one that knows less leads"
    world.start(leader)
    world.settle()


def test_who_lost_its_log_elects_nobody_before_the_others_have_agreed() -> None:
    _committed_by_one_that_forgets()


def test_without_the_demotion_a_commit_is_lost() -> None:
    with pytest.raises((Broken, AssertionError), match="leads|lacks|another entry"):
        _committed_by_one_that_forgets(off=("lost_votes_are_demoted",))


def test_a_log_in_the_place_of_a_lost_one_gives_no_vote_in_the_term_of_its_demotion() -> None:
    lone = Lone(lost_term=4)
    began = pack([], LEVEL, Members((2, 3, 4), (1,))), 2, 1
    lone.append(2, 1, [began], term=4)
    lone.wait(2)
    lone.hear(3, "request_vote", term=4, last_log_index=9, last_log_term=4)
    assert not lone.sent("response_vote")
    lone.hear(3, "request_vote", term=5, last_log_index=9, last_log_term=4)
    assert [message["term"] for message in lone.sent("response_vote", to=3)] == [5]


def test_the_configurations_of_its_past_do_not_let_it_stand() -> None:
    """Its first entries say that it is the only voter, as it was once."""
    lone = Lone(lost_term=4, copy_until=50)
    began = pack([], LEVEL, Members((1,))), 2, 1
    lone.append(2, 1, [began], term=4, commit_index=2)
    assert lone.driver.journal.members == Members((1,), ())
    lone.wait(5)
    assert not lone.driver.core.is_leader
    assert lone.driver.core.term == 4


def _a_learner_begins_anew(off: tuple[str, ...] = ()) -> None:
    lone = Lone(learners=(4,), off=off)
    lone.lead()
    for _ in range(5):
        lone.propose()
        lone.answer_all()
    last = lone.driver.journal.last
    assert lone.driver.core.match(4) == last
    lone.outbox.clear()
    lone.acknowledge(4, 1, success=False, reset=True)
    assert lone.driver.core.match(4) == 1
    sent = [entry[1] for message in lone.sent("append_entries", to=4) for entry in message.get("entries", ())]
    assert sent == list(range(2, last + 1))


def test_a_learner_that_begins_anew_is_sent_what_it_had_acknowledged() -> None:
    _a_learner_begins_anew()


def test_without_the_rule_it_would_never_be_sent_that_again() -> None:
    with pytest.raises(AssertionError):
        _a_learner_begins_anew(off=("learners_begin_anew",))


def test_a_voter_never_takes_back_what_it_acknowledged() -> None:
    lone = Lone()
    lone.lead()
    last = lone.driver.journal.last
    lone.acknowledge(2, 1, success=False, reset=True)
    assert lone.driver.core.match(2) == last


def test_a_rotten_snapshot_of_the_leader_is_written_anew() -> None:
    world, leader, one, _ = _calm()
    Storm(world).rage(6, faults=False)
    leading = world.leader()
    assert leading is not None
    disk = leading.disk
    name = max(name for name in disk.names() if name.startswith("snapshot-"))
    disk.flip(name)
    _lose(world, one if one != leading.number else leader)
    world.settle()


@pytest.mark.parametrize("kind", ["journal-", "snapshot-"])
def test_every_flipped_bit_is_found(kind: str) -> None:
    world, _, one, _ = _calm()
    Storm(world).rage(6, faults=False)
    world.kill(one)
    member = world.members[one]
    name = max(name for name in member.disk.names() if name.startswith(kind))
    whole = member.disk.read(name)
    for position in range(0, len(whole), 41):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        member.disk._files[name] = data
        with pytest.raises(Damaged, match="join again"):
            member.run()
    member.disk._files[name] = bytearray(whole)
    world.settle()


@pytest.mark.parametrize("seed", range(12))
def test_damaged_stores_under_faults(seed: int) -> None:
    world = World(seed)
    world.found(world.chance.choice([3, 5]))
    Turnover(world, len(world.members))
    Storm(world, damage=True).rage(9)
    world.settle()


def test_flip_leaves_the_size() -> None:
    world, _, one, _ = _calm()
    world.kill(one)
    before = {name: world.members[one].disk.size(name) for name in world.members[one].disk.names()}
    flip(world, one)
    assert before == {name: world.members[one].disk.size(name) for name in world.members[one].disk.names()}
