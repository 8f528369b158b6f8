"""Events: who hears what, in which words, and what happens to those who listen too slowly."""

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from lxdnode.node import events as module
from lxdnode.node import feeds
from lxdnode.node.cluster import rules
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.documents import Draft
from lxdnode.node.operations import Operation
from lxdnode.raft import history as recent
from tests.harness.api import Site, alone, cluster


@asynccontextmanager
async def listening(site: Site, query: str = "") -> AsyncIterator["Ear"]:
    """A websocket on /1.0/events."""
    stream: Any = (await site.connect()).stream
    async with trio.open_nursery() as nursery:
        yield Ear(await wrap_client_stream(nursery, stream, "lxd", f"/1.0/events{query}"))
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


class Ear:
    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def hear(self, type: str | None = None) -> Any:
        """The next message (of a type)."""
        with trio.fail_after(5):
            while True:
                message = msgspec.json.decode(await self.socket.get_message())
                if type in (None, message["type"]):
                    return message

    async def hear_end(self, id: str) -> Any:
        """The final event of an operation, as `lxc` waits for it."""
        while True:
            message = await self.hear("operation")
            if message["metadata"]["id"] == id and message["metadata"]["status_code"] >= 200:
                return message


async def for_ever(_: Operation) -> None:
    await trio.sleep_forever()


async def quietly(_: Operation) -> None:
    """Work without events of its own."""


def begin(site: Site, run: Any = None) -> Operation:
    async def at_once(operation: Operation) -> None:
        operation.update(metadata={"step": "1"})

    return site.node.operations.create(kind="task", description="Working", run=run or at_once)


def _silent(*_: Any) -> str:
    return ""


async def commit_event(site: Site, action: str, **context: str) -> None:
    def rule(draft: Draft) -> None:
        draft.event(action, "/1.0/containers/c1", **context)

    await site.node.store.transact(rule, author="test", request="TEST")


async def test_a_listener_hears_the_life_of_an_operation(tmp_path: Path) -> None:
    async with alone(tmp_path) as site, listening(site, "?type=operation") as ear:
        operation = begin(site)
        heard = [await ear.hear() for _ in range(4)]
        assert [message["metadata"]["status"] for message in heard] == ["Pending", "Running", "Running", "Success"]
        assert all(set(message) == {"type", "timestamp", "metadata"} for message in heard)
        assert heard[-1]["metadata"] == (await site.ask("GET", operation.url)).metadata


async def test_lifecycle_events_come_with_the_transaction_that_means_them(tmp_path: Path) -> None:
    async with alone(tmp_path) as site, listening(site, "?type=lifecycle") as ear:
        await commit_event(site, "container-started")
        await commit_event(site, "container-renamed", new_name="c2")
        first, second = await ear.hear(), await ear.hear()
        assert first["metadata"] == {"action": "container-started", "source": "/1.0/containers/c1"}
        assert second["metadata"]["context"] == {"new_name": "c2"}
        numbers = [tuple(map(int, message["id"].split("."))) for message in (first, second)]
        assert numbers[0] < numbers[1]


async def test_logging_events_have_texts_and_levels_of_four_letters(tmp_path: Path) -> None:
    async with alone(tmp_path) as site, listening(site, "?type=logging") as ear:
        logger: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[site.node.events.logging, _silent])
        for method, level in (("debug", "dbug"), ("info", "info"), ("warning", "warn"), ("error", "eror")):
            getattr(logger, method)("it happened", count=3, member=None)
            message = (await ear.hear())["metadata"]
            assert message == {"message": "it happened", "level": level, "context": {"count": "3", "member": "None"}}


@pytest.mark.parametrize("query", ["", "?type=logging,operation,lifecycle", "?type=nonsense"])
async def test_all_types_come_by_default(tmp_path: Path, query: str) -> None:
    async with alone(tmp_path) as site, listening(site, query) as ear:
        begin(site)
        assert (await ear.hear("operation"))["metadata"]["description"] == "Working"
        await commit_event(site, "container-started")
        assert (await ear.hear("lifecycle"))["metadata"]["action"] == "container-started"


async def test_strangers_may_not_listen(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        assert (await (await site.dial()).upgrade("/1.0/events")).status == 403
        assert (await site.ask("GET", "/1.0/events")).status == 400


async def test_who_is_too_slow_is_closed_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 8)
    async with alone(tmp_path) as site, listening(site, "?type=operation") as slow, listening(site) as quick:
        for number in itertools.count():
            operation = begin(site, quietly)
            operation.metadata = {"long": "x" * 100_000}
            await operation.wait()
            await quick.hear_end(operation.id)
            if sum(not listener.local for listener in site.node.events._listeners) == 1:
                break
            assert number < 1000
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await slow.hear()
        assert closed.value.reason is not None and closed.value.reason.code == 1008


async def test_who_asks_since_an_event_gets_what_followed_it_and_what_comes(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        async with listening(site, "?type=lifecycle&since=0") as ear:
            await commit_event(site, "first")
            first = await ear.hear()
            assert first["metadata"]["action"] == "first"
        for number in range(5):
            await commit_event(site, f"missed-{number}")
        async with listening(site, f"?since={first['id']}") as ear:
            missed = [await ear.hear("lifecycle") for _ in range(5)]
            assert [message["metadata"]["action"] for message in missed] == [f"missed-{number}" for number in range(5)]
            begin(site)
            assert (await ear.hear("operation"))["metadata"]["description"] == "Working"
            await commit_event(site, "new")
            assert (await ear.hear("lifecycle"))["metadata"]["action"] == "new"


async def test_several_events_of_one_change_have_ids_of_their_own(tmp_path: Path) -> None:
    def rule(draft: Draft) -> None:
        for number in range(3):
            draft.event(f"part-{number}", "/1.0/containers/c1")

    async with alone(tmp_path) as site:
        await site.node.store.transact(rule, author="test", request="TEST")
        index = site.node.log.state.index
        async with listening(site, f"?type=lifecycle&since={index}.0") as ear:
            assert [(await ear.hear())["id"] for _ in range(2)] == [f"{index}.1", f"{index}.2"]
        async with listening(site, f"?type=lifecycle&since={index}") as ear:
            await commit_event(site, "next")
            assert (await ear.hear())["metadata"]["action"] == "next"


@pytest.mark.parametrize("since", ["x", "-1", "1.2.3", "1."])
async def test_a_wrong_since_is_refused(tmp_path: Path, since: str) -> None:
    async with alone(tmp_path) as site:
        assert (await (await site.connect()).upgrade(f"/1.0/events?since={since}")).status == 400


async def test_a_reader_that_is_too_slow_goes_on_behind_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "KEPT", 8)
    async with alone(tmp_path) as site:
        since = site.node.log.state.index
        async with listening(site, f"?type=lifecycle&since={since}") as slow:
            for number in range(40):
                await commit_event(site, "told", number=str(number), long="x" * 100_000)
            await site.node.log.past.gaps()  # all is on the disk
            await site.node.log.past.prune(time.time() + 60)
            await commit_event(site, "after")
            heard = [await slow.hear()]
            while heard[-1]["metadata"].get("action") != "after":
                heard.append(await slow.hear())
    (place,) = [at for at, message in enumerate(heard) if message["type"] == "gap"]
    gap, next_index = heard[place]["metadata"], int(heard[place + 1]["id"].split(".")[0])
    before = [int(message["metadata"]["context"]["number"]) for message in heard[:place]]
    assert 0 < place < 35 and before == list(range(place))
    assert (gap["from"], gap["to"]) == (since + place + 1, next_index - 1)
    assert heard[place]["id"] == str(gap["to"])


async def test_a_slow_reader_loses_nothing_that_the_history_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "KEPT", 8)
    async with alone(tmp_path) as site, listening(site, "?type=lifecycle&since=0") as slow:
        for number in range(40):
            await commit_event(site, "told", number=str(number), long="x" * 100_000)
        numbers = [(await slow.hear())["metadata"]["context"]["number"] for _ in range(40)]
        assert numbers == [str(number) for number in range(40)]


async def test_a_listener_that_goes_is_forgotten(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        async with listening(site) as ear:
            begin(site)
            await ear.hear()
            assert site.node.events.has_clients
        with trio.fail_after(2):
            while site.node.events.has_clients:
                await site.node.events.changed.wait()


# Between members.


async def test_operations_of_other_members_are_heard_with_their_number(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as sites, listening(sites[0], "?type=operation") as ear:
        for site in sites[1:]:
            with trio.fail_after(5):
                await sites[0].node.feeds.ready(site.node.member)
            operation = begin(site)
            message = await ear.hear_end(operation.id)
            assert message["node"] == site.node.member
            assert message["metadata"]["status"] == "Success"


async def test_members_do_not_pass_on_what_they_were_sent(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b), listening(a) as ear, listening(b) as other:
        await a.node.feeds.ready(2)
        await b.node.feeds.ready(1)
        operation = begin(b)
        await ear.hear_end(operation.id)
        await commit_event(b, "container-started")
        assert (await other.hear("lifecycle"))["metadata"]["action"] == "container-started"
        begin(a, quietly)
        seen = [await ear.hear() for _ in range(2)]
        assert [message.get("node") for message in seen] == [None, None]


async def test_without_listeners_nothing_is_fed_and_nothing_waits(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b):
        with trio.fail_after(1):
            await a.node.feeds.ready(2)
        assert not b.node.events._listeners


async def test_what_a_broken_feed_missed_is_made_good(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b), listening(a, "?type=operation") as ear:
        await a.node.feeds.ready(2)
        done = trio.Event()
        operation = begin(b, lambda _: done.wait())
        assert (await ear.hear())["metadata"]["id"] == operation.id
        addresses = b.network.addresses
        await b.network.listen([])
        for connection in list(b.server._connections):
            connection.end()
        done.set()
        await operation.wait()
        await b.network.listen(addresses)
        assert (await ear.hear_end(operation.id))["metadata"]["status"] == "Success"


async def test_operations_of_a_member_that_started_anew_have_failed(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as (a, b), listening(a, "?type=operation") as ear:
        await a.node.feeds.ready(2)
        operation = begin(b, for_ever)
        assert (await ear.hear())["metadata"]["id"] == operation.id
        await b.network.listen([])
        await _raise_incarnation(a, 2)
        for connection in list(b.server._connections):
            connection.end()
        end = (await ear.hear_end(operation.id))["metadata"]
        assert (end["status"], end["err"]) == ("Failure", "member m2 went away")
        shown = (await a.ask("GET", f"{operation.url}/wait")).metadata
        assert (shown["status"], shown["err"]) == ("Failure", "member m2 went away")


async def _raise_incarnation(site: Site, number: int) -> None:
    def rule(draft: Draft) -> None:
        member = rules.member(draft, number)
        assert member is not None
        draft.put(MEMBERS, str(number), msgspec.structs.replace(member, incarnation=member.incarnation + 1))

    await site.node.store.transact(rule, author="test", request="TEST")


async def test_feeds_stay_a_while_after_the_last_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LINGER", 0.2)
    async with cluster(tmp_path, 2) as (a, b):
        async with listening(a):
            await a.node.feeds.ready(2)
        assert b.node.events._listeners
        with trio.fail_after(5):
            while b.node.events._listeners:
                await b.node.events.changed.wait()


async def test_the_list_of_operations_is_that_of_all_members(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as sites:
        operations = [begin(site, for_ever) for site in sites]
        for site in sites:
            listed = (await site.ask("GET", "/1.0/operations")).metadata
            assert sorted(listed["running"]) == sorted(operation.url for operation in operations)
            shown = (await site.ask("GET", "/1.0/operations?recursion=1")).metadata["running"]
            assert sorted(one["id"] for one in shown) == sorted(operation.id for operation in operations)
        await sites[2].network.listen([])
        assert len((await sites[0].ask("GET", "/1.0/operations")).metadata["running"]) == 2
