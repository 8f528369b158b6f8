"""The log as the rest of the program uses it, with real files and threads: three members over streams in memory."""

import time
import uuid
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from lxdnode.raft.entry import Members
from lxdnode.raft.errors import HelloRefused
from lxdnode.raft.journal import Identity
from lxdnode.raft.liveness import Liveness
from lxdnode.raft.log import (
    Change,
    Limits,
    Log,
    MembershipRefused,
    NotProposed,
    OutcomeUnknown,
    Outdated,
    Reset,
    Stale,
    TooLarge,
    Watch,
)
from lxdnode.raft.transaction import LEVEL, Committed, Conflict, Event, Expect, Put
from tests.harness.changes import member_put
from tests.harness.logs import CLUSTER, Cluster, change, put, within
from tests.harness.lone import Lone


@pytest.fixture
async def cluster(tmp_path: Path, nursery: trio.Nursery) -> Cluster:
    return Cluster(tmp_path, nursery)


async def _single(cluster: Cluster) -> Log:
    initial = change(None, member_put(1, voter=True))
    return await cluster.add(Log.create(cluster.folder / "1", cluster=CLUSTER, initial=initial))


async def test_what_was_committed_is_there_after_a_restart(cluster: Cluster) -> None:
    log = await _single(cluster)
    outcome = await log.commit(change(log, put("a")))
    assert outcome == Committed(log.state.index)
    cluster.stop(1)
    await trio.testing.wait_all_tasks_blocked()
    log = await cluster.start(1)
    document = log.state.get("t", "", "a")
    assert document is not None
    assert document.value == b"value"
    with pytest.raises(BlockingIOError, match="in use"):
        Log.open(cluster.folder / "1")
    cluster.stop(1)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(FileExistsError):
        await _single(cluster)


async def test_conflicts_are_values_and_repeated_ids_get_their_first_answer(cluster: Cluster) -> None:
    log = await _single(cluster)
    first = change(log, put("a"), expects=(Expect("t", "", "a", 0),))
    second = msgspec.structs.replace(first, id=str(uuid.uuid4()))
    outcome = await log.commit(first)
    assert await log.commit(second) == Conflict(log.state.index, first.expects[0])
    assert await log.commit(first) == outcome


async def test_who_repeats_an_id_that_is_on_its_way_waits_for_the_same(cluster: Cluster) -> None:
    log = await _single(cluster)
    one, outcomes = change(log, put("a")), []

    async def commit() -> None:
        outcomes.append(await log.commit(one))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(commit)
    assert outcomes == [Committed(log.state.index)] * 3


async def test_a_watch_gets_each_change_and_its_events_once(cluster: Cluster) -> None:
    log = await _single(cluster)
    event = Event("made", "/1.0/things/a", {"by": "test"})
    async with log.watch() as changes:
        outcome = await log.commit(change(log, put("a"), events=(event,)))
        assert isinstance(outcome, Committed)
        assert await anext(changes) == Change(outcome.index, (("t", "", "a"),), (event,))
    assert log.changes_since(outcome.index - 1) == (Change(outcome.index, (("t", "", "a"),), (event,)),)


async def test_a_watch_that_is_not_read_says_so() -> None:
    watch = Watch(set(), frozenset())
    for index in range(1, 5000):
        watch.add(Change(index, (), ()), set())
    first = await anext(watch)
    assert isinstance(first, Reset)
    assert await anext(watch) == Change(first.index + 1, (), ())


async def test_a_transaction_that_is_too_large_names_its_object(cluster: Cluster) -> None:
    log = await _single(cluster)
    with pytest.raises(TooLarge, match="t//big.*at most 524288"):
        await log.commit(change(log, put("small"), put("big", bytes(600_000))))


async def test_a_client_that_goes_away_is_forgotten(cluster: Cluster) -> None:
    await cluster.found(3)
    log = cluster.follower
    with trio.move_on_after(0):
        await log.commit(change(log, put("a")))
    assert not log._driver.proposals.waiting


async def test_writes_and_reads_through_any_member(cluster: Cluster) -> None:
    await cluster.found(3)
    for number, log in cluster.logs.items():
        assert isinstance(await log.commit(change(log, put(str(number)))), Committed)
    for log in cluster.logs.values():
        await log.barrier()
        assert set(log.state.group("t", "")) == {"1", "2", "3"}
    assert len({log.state.digest() for log in cluster.logs.values()}) == 1


async def test_without_a_majority_a_write_fails_at_once_and_names_who_is_missing(cluster: Cluster) -> None:
    await cluster.found(3)
    cluster.stop(2)
    cluster.stop(3)
    log = cluster.logs[1]
    await within(3, lambda: bool(log.status().missing) or not log.status().connected)
    await trio.sleep(max(0.0, 1.1 - (trio.current_time() - log._driver._started)))
    started = trio.current_time()
    with pytest.raises(NotProposed) as refusal:
        await log.commit(change(log, put("a")))
    assert refusal.value.missing == (2, 3)
    assert trio.current_time() - started < 0.5
    with pytest.raises(Stale) as stale:
        await log.barrier()
    assert stale.value.index == log.state.index


async def test_the_outcome_is_unknown_when_nobody_answers_the_leader(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.found(3)
    leader = cluster.leader
    assert leader is not None
    one = change(leader, put("a"))
    with monkeypatch.context() as patch, pytest.raises(OutcomeUnknown, match=one.id):
        patch.setattr(leader._transport, "deliver", lambda member, message: None)
        await leader.commit(one, timeout=0.4)
    cluster.cut(leader.identity.member)
    outcome = await cluster.follower.commit(one)
    assert isinstance(outcome, Committed)
    assert await cluster.follower.commit(one) == outcome


async def test_another_member_leads_within_two_seconds(cluster: Cluster) -> None:
    await cluster.found(3)
    leader = cluster.leader
    assert leader is not None
    cluster.stop(leader.identity.member)
    with trio.fail_after(2):
        log = cluster.follower
        assert isinstance(await log.commit(change(log, put("a"))), Committed)


async def test_the_lead_is_handed_over(cluster: Cluster) -> None:
    await cluster.found(3)
    leader = cluster.leader
    assert leader is not None
    with trio.fail_after(0.5):
        assert await leader.hand_over()
    await leader.commit(change(leader, put("a")))


async def test_a_learner_joins_into_another_directory(cluster: Cluster) -> None:
    log = await _single(cluster)
    log._transport._dial = cluster.dial(1)  # type: ignore[assignment]
    for number in range(20):
        await log.commit(change(log, put(str(number))))
    await log.commit(change(log, member_put(2, voter=False, phase="joining")))
    new = cluster.folder / "raft.new"
    joiner = await cluster.add(Log.join(new, cluster=CLUSTER, member=2))
    with trio.fail_after(5):
        await joiner.caught_up()
    assert joiner.state.get("t", "", "19") is not None
    new.rename(cluster.folder / "2")
    assert isinstance(await joiner.commit(change(joiner, member_put(2, voter=False))), Committed)
    assert joiner.status().members == Members((1,), (2,))
    cluster.stop(2)
    await trio.testing.wait_all_tasks_blocked()
    again = Log.open(cluster.folder / "2")
    assert again.identity == Identity(CLUSTER, 1, 2)
    again._close()


async def test_a_change_of_members_that_is_not_safe_is_refused(cluster: Cluster) -> None:
    await cluster.found(3)
    for log in (cluster.leader, cluster.follower):
        assert log is not None
        with pytest.raises(MembershipRefused, match="one member"):
            await log.commit(change(log, member_put(2, voter=False), member_put(3, voter=False)))


@pytest.mark.slow
async def test_whoever_leads_learns_it_and_nobody_else(cluster: Cluster) -> None:
    await cluster.found(3)
    first = cluster.leader
    assert first is not None
    with trio.fail_after(5):
        await first.leading()
    cluster.cut(first.identity.member)
    others = [log for log in cluster.logs.values() if log is not first]
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for log in others:
                nursery.start_soon(_until_leading, log, nursery.cancel_scope)
    await within(10, lambda: not first.is_leader)
    for log in cluster.logs.values():
        with trio.move_on_after(0.05) as scope:
            await log.leading()
        assert scope.cancelled_caught != log.is_leader


async def _until_leading(log: Log, scope: trio.CancelScope) -> None:
    await log.leading()
    scope.cancel()


async def test_one_that_was_removed_while_it_was_away_is_told_when_it_dials(cluster: Cluster) -> None:
    await cluster.found(1, spares=1)
    log = cluster.logs[1]
    cluster.stop(2)
    await trio.testing.wait_all_tasks_blocked()
    await log.commit(change(log, member_put(2, voter=False, phase="removed")))
    removed = await cluster.add(Log.open(cluster.folder / "2"))
    ours, theirs = trio.testing.memory_stream_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.dismiss, ours, 2)
            nursery.start_soon(removed.serve, theirs, 1)
            assert await removed.removal()
    assert not log.status().connected, "nothing that it says is heard"


def test_a_member_that_is_new_was_not_away_before() -> None:
    """The leader drops a join whose server is not heard for a minute: not one that begins an hour after its start."""
    lone = Lone(voters=(1,))
    lone.wait(100)
    lone.propose(change=change(None, member_put(2, voter=False, phase="joining")))
    driver = lone.driver
    assert driver.liveness.ages(driver.journal.members.all, lone.now, 1)[2] < 1


@pytest.mark.slow
async def test_reports_and_ages_reach_everybody(cluster: Cluster) -> None:
    await cluster.found(3)
    for number, log in cluster.logs.items():
        log.report(f"report of {number}".encode())
    wanted = {number: f"report of {number}".encode() for number in cluster.logs}
    for log in cluster.logs.values():
        await within(3, lambda log=log: log.reports() == wanted)  # type: ignore[misc]
        assert max(log.liveness().values()) < 2
    cluster.stop(cluster.follower.identity.member)
    log = cluster.follower
    await within(4, lambda: max(log.liveness().values()) > 1)


async def test_spares_keep_links_to_voters_only_and_see_each_other_by_the_leader(cluster: Cluster) -> None:
    await cluster.found(1, spares=3)
    for spare in (cluster.logs[number] for number in (2, 3, 4)):
        await within(5, lambda log=spare: log.status().connected == (1,))  # type: ignore[misc]
        assert await spare.commit(change(spare, put(f"by {spare.identity.member}")))
    await within(5, lambda: max(cluster.logs[4].liveness().values()) < 1)


def test_while_nobody_leads_what_the_last_leader_told_counts() -> None:
    liveness = Liveness(3, 0.0, clock=lambda: 0.0)
    liveness.hear(1, 100.0)
    liveness.take({"ages": {1: 0.0, 2: 0.5, 3: 0.0}}, 100.0)
    for leader in (1, None):
        assert liveness.ages({1, 2, 3}, 101.0, leader) == {1: 1.0, 2: 1.5, 3: 0.0}


@pytest.mark.slow
async def test_a_wrong_clock_is_seen_by_everybody(cluster: Cluster) -> None:
    await cluster.found(3)
    assert cluster.leader is not None
    own, wrong = cluster.leader.identity.member, cluster.follower.identity.member
    cluster.follower._driver.liveness.clock = lambda: time.time() - 60

    def seen(log: Log) -> bool:
        skews = log.skews()
        others = [abs(skew) for number, skew in skews.items() if number != wrong]
        return len(skews) == 3 and skews[own] == 0 and max(others) < 1 and abs(skews[wrong] + 60) < 1

    for log in cluster.logs.values():
        await within(10, lambda log=log: seen(log))  # type: ignore[misc]


async def test_what_needs_a_newer_program_is_refused_and_read_as_stale(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.found(1)
    log = cluster.logs[1]
    index = log.state.index
    monkeypatch.setattr("lxdnode.raft.log.LEVEL", LEVEL + 1)
    monkeypatch.setattr("lxdnode.raft.proposals.LEVEL", LEVEL + 1)
    with pytest.raises(OutcomeUnknown):  # the program is older than its own log: as after a downgrade
        await log.commit(change(log, level=LEVEL + 1), timeout=1)
    assert log.status().needs_level == LEVEL + 1
    with pytest.raises(Outdated, match=f"level {LEVEL + 1}"):
        await log.commit(change(log, put("a")))
    with pytest.raises(Stale):
        await log.barrier()
    assert log.state.index == index


@pytest.mark.parametrize(
    "other",
    [Identity("other", 1, 2), Identity(CLUSTER, 2, 2), Identity(CLUSTER, 1, 3)],
    ids=["cluster", "epoch", "member"],
)
async def test_a_stranger_is_refused(cluster: Cluster, other: Identity) -> None:
    log = await _single(cluster)
    stranger = Log.join(cluster.folder / "x", cluster=other.cluster, member=other.member, epoch=other.epoch)
    await cluster.add(stranger)
    ours, theirs = trio.testing.memory_stream_pair()
    refused: list[str] = []

    async def serve(log: Log, stream: trio.abc.Stream, member: int) -> None:
        try:
            await log.serve(stream, member)
        except (HelloRefused, trio.BrokenResourceError) as refusal:
            refused.append(type(refusal).__name__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, log, ours, 2)
        nursery.start_soon(serve, stranger, theirs, 1)
    assert "HelloRefused" in refused
    assert not log.status().connected


async def test_who_watches_tables_is_woken_for_those_alone(cluster: Cluster) -> None:
    log = await _single(cluster)
    async with log.watch("other", "more") as changes:
        for table in ("t", "other", "t", "more"):
            await log.commit(change(log, Put(table, "", "name", b"value")))
        seen = [await anext(changes), await anext(changes)]
        assert [one.keys for one in seen if isinstance(one, Change)] == [
            (("other", "", "name"),),
            (("more", "", "name"),),
        ]


async def test_a_member_far_behind_gets_a_snapshot_and_watchers_are_told(cluster: Cluster) -> None:
    await cluster.found(3)
    leader = cluster.leader
    assert leader is not None
    behind = cluster.follower.identity.member
    cluster.stop(behind)
    await trio.testing.wait_all_tasks_blocked()
    for log in cluster.logs.values():
        log._driver._limits = Limits(snapshot_entries=30, trail_entries=5)
    for number in range(60):
        await leader.commit(change(leader, put(str(number % 7), bytes(500))))
    log = Log.open(cluster.folder / str(behind), cluster.dial(behind))  # type: ignore[arg-type]
    async with log.watch() as changes:
        await cluster.add(log)
        with trio.fail_after(5):
            news = [await anext(changes)]
            while not isinstance(news[-1], Reset):
                news.append(await anext(changes))
        await log.barrier()
    assert log.state.digest() == leader.state.digest()


async def test_a_lone_survivor_shows_all_that_it_knew_to_be_committed(cluster: Cluster) -> None:
    await cluster.found(3)
    survivor = cluster.follower
    for number in range(5):
        await survivor.commit(change(survivor, put(str(number))))
    index = survivor.state.index
    for number in list(cluster.scopes):
        cluster.stop(number)
    await trio.testing.wait_all_tasks_blocked()
    survivor = await cluster.start(survivor.identity.member)
    await within(1, lambda: survivor.state.index >= index)
    with pytest.raises(Stale):
        await survivor.barrier()


async def test_a_member_document_that_cannot_be_read_is_refused(cluster: Cluster) -> None:
    log = await _single(cluster)
    for bad in (Put("members", "", "2", b"no msgpack"), Put("members", "", "two", b"\x80")):
        with pytest.raises(MembershipRefused, match="cannot be read"):
            await log.commit(change(log, bad))


async def test_a_removed_member_is_told_and_stops(cluster: Cluster) -> None:
    await cluster.found(3)
    leader = cluster.leader
    assert leader is not None
    gone = cluster.follower
    number = gone.identity.member
    await leader.commit(change(leader, member_put(number, voter=False, phase="leaving")))
    await leader.commit(change(leader, member_put(number, voter=False, phase="removed")))
    await within(2, lambda: gone.status().removed)
    with pytest.raises(NotProposed, match="removed"):
        await gone.commit(change(gone, put("a")))
    await within(3, lambda: not gone.status().connected)
    assert isinstance(await leader.commit(change(leader, put("a"))), Committed)
