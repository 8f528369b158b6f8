"""The rules of the Raft paper, one schedule each: it holds with the rule and breaks without it.

The faults of pysyncobj that the rules mend are numbered as in the measurements that came before (A.1, 1 to 20)."""

from collections.abc import Callable, Collection
from typing import Any

import pytest

from lxdnode.raft import machine, membership
from lxdnode.raft.core import Core
from lxdnode.raft.driver import Driver
from lxdnode.raft.entry import LEVEL, level_of, pack
from lxdnode.raft.journal import Diverged
from lxdnode.raft.proposals import Proposals, Refused, Unreachable
from lxdnode.raft.reads import Reads
from lxdnode.raft.snapshot import SnapshotHead
from lxdnode.raft.snapshot import encode as encode_snapshot
from lxdnode.raft.state import State
from lxdnode.raft.transaction import Conflict, Expect, Transaction
from tests.harness.changes import member_put, transaction
from tests.harness.lone import Lone, entry

Schedule = Callable[[Collection[str]], None]
SCHEDULES: list[tuple[str, Schedule]] = []


def needs(rule: str) -> Callable[[Schedule], Schedule]:
    def register(schedule: Schedule) -> Schedule:
        SCHEDULES.append((rule, schedule))
        return schedule

    return register


def _follow(lone: Lone, leader: int, term: int, last: int, commit: int = 0) -> None:
    """`leader` of `term` fills the log up to `last` with entries of its term."""
    start = lone.driver.journal.last
    entries = [entry(index, term) for index in range(start + 1, last + 1)]
    lone.append(leader, start, entries, term=term, commit_index=commit)
    assert lone.driver.journal.last == last


# Terms (paper 5.1).


@needs("old_terms_are_answered")
def a_deposed_leader_is_told_of_the_newer_term(off: Collection[str]) -> None:  # fault 10
    lone = Lone(off=off)
    _follow(lone, 2, 5, 4)
    lone.append(3, 4, [entry(5, 3)], term=3)
    assert lone.driver.journal.last == 4
    assert lone.sent("stale", to=3) == [{"type": "stale", "term": 5}]


@needs("old_terms_are_answered")
def answers_to_an_older_leadership_count_for_nothing(off: Collection[str]) -> None:  # fault 2
    lone = Lone(off=off)
    lone.elect()
    lone.acknowledge(2, lone.driver.journal.last, term=lone.driver.core.term - 1)
    assert not lone.driver.core.established, "committed by an answer of an older term"


@needs("newer_terms_are_adopted")
def a_leader_steps_down_when_it_hears_of_a_newer_term(off: Collection[str]) -> None:
    lone = Lone(off=off)
    lone.lead()
    lone.hear(2, "stale", term=lone.driver.core.term + 3)
    assert not lone.driver.core.is_leader


# Appends (paper 5.3, 7).


@needs("matching_entries_stay")
def an_append_that_is_sent_again_cuts_nothing(off: Collection[str]) -> None:  # fault 1
    lone = Lone(off=off)
    _follow(lone, 2, 3, 10)
    assert lone.sent("next_node_idx")[-1]["next_node_idx"] == 11
    lone.append(2, 2, [entry(index, 3) for index in range(3, 6)], term=3)
    assert lone.driver.journal.last == 10, "entries were acknowledged and are gone"


@needs("matching_entries_stay")
def entries_that_contradict_the_leader_are_cut(off: Collection[str]) -> None:
    lone = Lone(off=off)
    _follow(lone, 2, 3, 10, commit=5)
    lone.append(3, 5, [entry(6, 3), entry(7, 3), entry(8, 4)], term=4)
    assert [term for _, _, term in lone.driver.journal.entries(6, 20)] == [3, 3, 4]
    lone.append(3, 5, [entry(6, 3), entry(7, 3)], term=4)
    assert lone.driver.journal.last == 8


@needs("answer_what_was_compared")
def an_uncompared_tail_is_not_acknowledged(off: Collection[str]) -> None:  # trap 5
    lone = Lone(off=off)
    _follow(lone, 2, 3, 10)
    lone.append(3, 4, [], term=4, commit_index=10)
    answer = lone.sent("next_node_idx", to=3)[-1]
    assert (answer["next_node_idx"], lone.driver.core.commit) == (5, 4)


@needs("snapshots_commit_nothing")
def an_append_that_compares_nothing_commits_nothing(off: Collection[str]) -> None:  # fault 4
    lone = Lone(off=off)
    _follow(lone, 2, 3, 10, commit=5)
    lone.hear(3, "append_entries", term=4, commit_index=10)
    assert lone.driver.core.commit == 5, "a deposed leader's tail was applied"


@needs("acks_are_durable")
def entries_are_acknowledged_when_they_are_durable(off: Collection[str]) -> None:  # fault 9
    lone = Lone(off=off)
    _follow(lone, 2, 3, 4)
    lone.worker.held = True
    _follow(lone, 2, 3, 5)
    assert lone.sent("next_node_idx")[-1]["next_node_idx"] == 5
    lone.worker.held = False
    lone.settle()
    assert lone.sent("next_node_idx")[-1]["next_node_idx"] == 6


# Votes (paper 5.2, 5.4; dissertation 4.2.3, 9.6).


def _ask_for_vote(lone: Lone, member: int, **fields: object) -> None:
    wanted = {"term": lone.driver.core.term + 1, "last_log_index": 100, "last_log_term": 100, **fields}
    lone.hear(member, "request_vote", **wanted)


@needs("votes_are_durable")
def a_vote_leaves_when_it_is_durable(off: Collection[str]) -> None:  # fault 9
    lone = Lone(off=off)
    lone.worker.held = True
    _ask_for_vote(lone, 2)
    assert not lone.sent("response_vote")
    lone.worker.held = False
    lone.settle()
    assert lone.sent("response_vote", to=2)


@needs("candidates_are_members")
def a_stranger_gets_no_vote(off: Collection[str]) -> None:  # fault 3
    lone = Lone(off=off)
    lone.driver.link(9, up=True)
    _ask_for_vote(lone, 9)
    assert not lone.sent("response_vote")
    assert lone.driver.core.term == 1


@needs("live_leaders_are_kept")
def a_follower_that_hears_its_leader_does_not_vote(off: Collection[str]) -> None:  # fault 11
    lone = Lone(off=off)
    _follow(lone, 2, 3, 4)
    _ask_for_vote(lone, 3)
    assert lone.driver.core.term == 3


@needs("lost_votes_are_repeated")
def the_same_candidate_gets_its_vote_again(off: Collection[str]) -> None:  # fault 11
    lone = Lone(off=off)
    _ask_for_vote(lone, 2, term=7)
    _ask_for_vote(lone, 2, term=7)
    _ask_for_vote(lone, 3, term=7)
    assert len(lone.sent("response_vote", to=2)) == 2
    assert not lone.sent("response_vote", to=3)


def _stand(lone: Lone, *backers: int) -> None:
    while not lone.sent("prevote"):
        lone.step(0.05)
    for member in backers:
        lone.hear(member, "prevote_ok", asked=lone.driver.core.term)
    assert lone.sent("request_vote")


@needs("voters_elect")
def the_vote_of_a_stranger_does_not_count(off: Collection[str]) -> None:  # fault 3
    lone = Lone(off=off)
    _stand(lone, 2)
    lone.hear(9, "response_vote")
    assert not lone.driver.core.is_leader


@needs("voters_elect")
def the_vote_of_a_learner_does_not_count(off: Collection[str]) -> None:
    lone = Lone(voters=(1, 2, 3), learners=(4,), off=off)
    _stand(lone, 2)
    lone.hear(4, "response_vote")
    assert not lone.driver.core.is_leader


@needs("votes_count_once")
def one_voter_counts_once(off: Collection[str]) -> None:  # fault 3
    lone = Lone(voters=(1, 2, 3, 4, 5), off=off)
    _stand(lone, 2, 3)
    lone.hear(2, "response_vote")
    lone.hear(2, "response_vote")
    assert not lone.driver.core.is_leader


@needs("pre_vote")
def who_reaches_nobody_does_not_raise_the_term(off: Collection[str]) -> None:  # fault 11
    lone = Lone(off=off)
    lone.wait(10)
    assert lone.driver.core.term == 1


# Answers to appends.


@needs("followers_are_members")
def the_answer_of_a_removed_member_does_no_harm(off: Collection[str]) -> None:  # fault 12
    lone = Lone(off=off)
    lone.lead()
    lone.acknowledge(9, 3)


@needs("answers_are_of_this_log")
def nobody_acknowledges_what_the_leader_does_not_have(off: Collection[str]) -> None:
    lone = Lone(off=off)
    lone.lead()
    lone.acknowledge(2, 50)
    lone.propose()
    assert not lone.results, "committed by an answer that came before the entry"


@needs("next_never_back_by_ack")
def what_is_in_flight_is_not_sent_again(off: Collection[str]) -> None:  # fault 1
    lone = Lone(off=off)
    lone.lead()
    first = lone.driver.journal.last + 1
    for _ in range(5):
        lone.propose()
    lone.acknowledge(2, first)
    lone.wait(0.2)
    sent = [index for message in lone.sent("append_entries", to=2) for _, index, _ in message["entries"]]
    assert sorted(sent) == sorted(set(sent))


@needs("next_never_up_by_reset")
def of_two_refusals_the_lower_is_followed(off: Collection[str]) -> None:  # fault 18
    lone = Lone(off=off)
    lone.elect()
    core = lone.driver.core
    core.connect(2, up=False)
    for _ in range(6):
        lone.propose()
    lone.acknowledge(2, 3, success=False, reset=True)
    lone.acknowledge(2, 6, success=False, reset=True)
    assert core.next_of(2) == 4


@pytest.mark.parametrize(("rule", "schedule"), SCHEDULES, ids=lambda value: getattr(value, "__name__", value))
def test_holds_with_the_rule_and_breaks_without(rule: str, schedule: Schedule) -> None:
    schedule(())
    with pytest.raises((AssertionError, KeyError, Diverged)):
        schedule((rule,))


def test_a_question_over_a_broken_link_is_void() -> None:
    """A member that starts again counts its questions anew: the answer to an old one would be too old for the new."""
    lone = Lone()
    lone.lead()
    lone.hear(2, "barrier", token=1)
    lone.driver.link(2, up=False)
    lone.driver.link(2, up=True)
    lone.acknowledge(3, lone.driver.journal.last, round=lone.driver.core.round)
    assert not lone.sent("barrier_ok")
    lone.hear(2, "barrier", token=1)
    lone.acknowledge(3, lone.driver.journal.last, round=lone.driver.core.round)
    assert len(lone.sent("barrier_ok")) == 1


def test_what_cannot_be_sent_to_the_leader_is_surely_not_proposed() -> None:
    lone = Lone()
    _follow(lone, 2, 3, 4)
    lone.driver.link(2, up=False)
    waiter = lone.propose()
    assert not waiter.proposed
    lone.driver.link(3, up=False)
    lone.settle()
    assert lone.results == [Unreachable((2, 3))]


def test_who_has_no_vote_needs_the_leader_alone() -> None:
    lone = Lone(voters=(2, 3, 4), learners=(1,))
    for member in (3, 4):
        lone.driver.link(member, up=False)
    assert lone.driver.missing(lone.now) == (3, 4)
    lone.append(2, 2, term=3)
    assert lone.driver.missing(lone.now) == ()
    lone.driver.link(2, up=False)
    assert lone.driver.missing(lone.now) == (2, 3, 4)


# Levels (a member that is too old for an entry).


def test_an_entry_of_a_newer_level_is_kept_and_not_applied() -> None:
    lone = Lone()
    command = pack([], LEVEL + 1)
    lone.append(2, 2, [(command, 3, 3), entry(4, 3)], term=3, commit_index=4)
    assert lone.driver.needs_level == LEVEL + 1
    assert lone.driver.state.index == 2
    assert lone.sent("next_node_idx")[-1]["next_node_idx"] == 5
    lone.wait(5)
    assert not lone.sent("prevote"), "it could not serve as leader"


def test_a_leader_that_is_too_old_for_an_entry_leads_no_longer() -> None:
    lone = Lone()
    lone.append(2, 2, [(pack([], LEVEL + 1), 3, 3)], term=3)
    lone.elect()
    lone.answer_all()
    lone.settle()
    assert (lone.driver.needs_level, lone.driver.core.is_leader) == (LEVEL + 1, False)
    lone.wait(5)
    assert not lone.driver.core.is_leader


def raising(lone: Lone, **fields: object) -> Transaction:
    """A transaction that raises the level."""
    return transaction(lone.driver.state, 1, level=LEVEL + 1, **fields)


def test_the_level_is_raised_by_an_entry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lxdnode.raft.proposals.LEVEL", LEVEL + 1)
    lone = Lone()
    lone.lead()
    lone.propose()
    lone.propose(change=raising(lone))
    lone.propose()
    last = lone.driver.journal.last
    for _ in range(2):
        lone.answer_all()
    levels = [level_of(command) for command, *_ in lone.driver.journal.entries(last, last + 1)]
    assert levels == [LEVEL, LEVEL + 1], "it waits until what is before it is applied"


def test_a_raise_that_conflicts_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lxdnode.raft.proposals.LEVEL", LEVEL + 1)
    lone = Lone()
    lone.lead()
    change = raising(lone, expects=(Expect("t", "", "n", 0),))
    lone.propose()
    lone.propose(change=change)
    lone.answer_all()
    lone.answer_all()
    assert isinstance(lone.results[0], Conflict)
    assert (lone.driver.needs_level, lone.driver.state.level) == (None, LEVEL)


def test_a_leader_raises_no_level_that_it_does_not_know() -> None:
    lone = Lone()
    lone.lead()
    lone.propose(change=raising(lone))
    assert lone.results == [Refused(f"this member knows level {LEVEL}, not {LEVEL + 1}")]


def test_the_snapshot_of_a_newer_level_is_not_installed_nor_asked_for_again() -> None:
    lone = Lone()
    head = SnapshotHead(lone.driver.identity, 9, 3, lone.members, LEVEL + 1)
    data = b"".join(encode_snapshot(head, State(index=9, level=LEVEL + 1)))
    lone.append(2, 2, term=3)
    for _ in range(2):
        lone.hear(2, "snapshot", index=9, offset=0, size=len(data), data=data)
    assert (lone.driver.needs_level, lone.driver.state.index) == (LEVEL + 1, 1)
    assert not lone.sent("snapshot_damaged")


# Rules that are no switch of the guard: the test takes the code away that holds them.

BROKEN: list[tuple[type | object, str, object, Callable[[], None]]] = []


def breaks_without(owner: type | object, name: str, replacement: object) -> Callable[[Callable[[], None]], None]:
    def register(schedule: Callable[[], None]) -> None:
        BROKEN.append((owner, name, replacement, schedule))

    return register


@breaks_without(Core, "_committed", lambda core: core.commit)
def own_entries_count_when_they_are_durable() -> None:  # fault 9
    lone = Lone()
    lone.lead()
    lone.worker.held = True
    lone.propose()
    lone.acknowledge(2, lone.driver.journal.last)
    assert not lone.results, "one of three disks has it"
    lone.acknowledge(3, lone.driver.journal.last)
    assert lone.results, "two of three disks have it"


@breaks_without(
    Core, "_committed", lambda core: min(core.commit, core._journal.durable) if core.is_leader else core.commit
)
def also_in_the_tick_in_which_a_leader_falls_back() -> None:
    lone = Lone()
    lone.lead()
    commit = lone.driver.core.commit
    lone.worker.held = True
    lone.propose()
    last = lone.driver.journal.last
    lone.driver.core._SyncObj__raftMatchIndex.update(dict.fromkeys(lone.driver.core.otherNodes, 0))
    node = next(node for node in lone.driver.core.otherNodes if node.id == 2)
    lone.driver.core._SyncObj__raftMatchIndex[node] = last
    lone.driver.core._SyncObj__lastResponseTime.update(dict.fromkeys(lone.driver.core.otherNodes, 0.0))
    lone.step()
    assert not lone.driver.core.is_leader
    assert lone.driver.core.commit == commit


@breaks_without(Driver, "_forgive_lateness", lambda driver, now: None)
def who_was_stopped_blames_nobody() -> None:
    lone = Lone()
    lone.lead()
    lone.step(3.0)
    assert lone.driver.core.is_leader, "the answers of the others lie unread in the sockets"


@breaks_without(Reads, "_is_confirmed", lambda reads, round_: True)
def a_leader_without_followers_answers_no_read() -> None:
    lone = Lone()
    lone.lead()
    lone.driver.reads.wait(lambda: lone.results.append("read"))
    lone.results = []
    lone.wait(0.3)
    assert not lone.results
    lone.acknowledge(2, lone.driver.journal.last, round=lone.driver.core.round)
    assert lone.results == ["read"]


@breaks_without(Core, "established", property(lambda core: core.is_leader))
def a_new_leader_knows_what_is_committed_only_after_an_entry_of_its_own() -> None:
    lone = Lone()
    lone.elect()
    lone.results = []
    lone.driver.reads.wait(lambda: lone.results.append("read"))
    lone.settle()
    lone.acknowledge(2, 2, round=lone.driver.core.round)
    assert not lone.results


@breaks_without(membership, "refusal", lambda old, new, leader: None)
def majorities_overlap() -> None:
    lone = Lone(voters=(1, 2, 3), learners=(4, 5))
    lone.lead()
    puts = (member_put(4, voter=True), member_put(5, voter=True))
    lone.propose(change=transaction(lone.driver.state, 1, writes=puts))
    assert lone.driver.journal.members.voters == (1, 2, 3)


def _take_at_once(proposals: Proposals, queued: Any, state: State) -> bytes:
    after = machine.apply(state, proposals.journal.last + 1, [queued.transaction]).state
    return proposals._take([queued], after.level, membership.configuration(after))


@breaks_without(Proposals, "_take_alone", _take_at_once)
def members_change_one_at_a_time() -> None:  # fault 6
    lone = Lone(voters=(1, 2, 3), learners=(4, 5))
    lone.lead()
    for number in (4, 5):
        lone.propose(change=transaction(lone.driver.state, 1, writes=(member_put(number, voter=True),)))
    assert lone.driver.journal.members.voters == (1, 2, 3, 4), "the second waits for the first"
    lone.answer_all()
    lone.answer_all()
    assert lone.driver.journal.members.voters == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("owner", "name", "replacement", "schedule"), BROKEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_holds_and_breaks_without_its_code(
    owner: object, name: str, replacement: object, schedule: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule()
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(AssertionError):
        schedule()
