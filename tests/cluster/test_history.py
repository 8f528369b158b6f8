"""The history of three members: who changed what, replayed from any index on any member, over crashes and absences."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import wrap_client_stream

from lxdnode.node.keypair import make
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow


def history(member: Daemon, *options: str) -> list[dict[str, Any]]:
    """What `lxd-node history` prints on a member."""
    return list(json.loads(member.command("history", "--format", "json", *options).stdout))


def newest(member: Daemon) -> int:
    """The index that a member has applied."""
    return int(member.get("/internal/cluster/digest")["index"])


def of_profile(rows: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """The documents of a profile before and after each change of it."""
    changes = [change for row in rows for change in row["changes"]]
    return [(one["before"], one["after"]) for one in changes if one["key"].startswith("profiles/")]


def listen(member: Daemon, since: str, count: int) -> list[dict[str, Any]]:
    """The first lifecycle events (and gaps) that followed an event, as a client gets them."""

    async def run() -> list[dict[str, Any]]:
        stream: Any = await trio.open_unix_socket(str(member.socket))
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                path = f"/1.0/events?type=lifecycle&since={since}"
                socket = await wrap_client_stream(nursery, stream, "lxd", path)
                heard = [json.loads(await socket.get_message()) for _ in range(count)]
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)
        return heard

    return trio.run(run)


@contextmanager
def updates(member: Daemon, name: str, count: int) -> Iterator[None]:
    """Meanwhile a container is changed `count` times."""

    def run() -> None:
        for number in range(count):
            member.patch(f"/1.0/containers/{name}", {"config": {"user.step": str(number)}})

    running = threading.Thread(target=run)
    running.start()
    try:
        yield
    finally:
        running.join()


def test_who_asked_is_told_with_what_was_and_what_is(cluster: Cluster) -> None:
    first, second = cluster[1], cluster[2]
    first.post("/1.0/profiles", {"name": "web", "config": {"user.a": "1"}})
    second.put("/1.0/profiles/web", {"config": {"user.a": "2"}, "description": "changed"})
    rows = history(cluster[3], "--object", "/1.0/profiles/web")
    assert [(row["request"], row["author"], row["member"]) for row in rows] == [
        ("POST /1.0/profiles", "unix:0", 1),
        ("PUT /1.0/profiles/web", "unix:0", 2),
    ]
    (created, changed) = of_profile(rows)
    assert created[0] is None and created[1]["config"] == {"user.a": "1"}
    assert changed[0] == created[1] and changed[1]["config"] == {"user.a": "2"}
    shown = first.command("history", "--object", "/1.0/profiles/web", "--diff").stdout.decode()
    assert "    -  user.a: '1'" in shown and "    +  user.a: '2'" in shown
    assert "unix:0" in first.command("history", "--since", str(rows[0]["index"] - 1), "--limit", "1").stdout.decode()
    assert len(history(first, "--object", "/1.0/profiles/web", "--limit", "1")) == 1


def test_the_author_of_a_request_that_was_passed_on_is_its_client(cluster: Cluster, tmp_path: Path) -> None:
    pair, url = make(), f"https://{cluster[1].address}/1.0"
    (tmp_path / "crt").write_text(pair.certificate)
    (tmp_path / "key").write_text(pair.key)

    def curl(body: object, path: str) -> Any:
        assert cluster[2].host is not None
        shown = ["--cert", str(tmp_path / "crt"), "--key", str(tmp_path / "key")]
        command = [*cluster[2].host.enter, "curl", "-sk", *shown, "-d", json.dumps(body), f"{url}/{path}"]
        return json.loads(subprocess.run(command, capture_output=True, timeout=30, check=True).stdout)

    assert curl({"type": "client", "password": PASSWORD}, "certificates")["status_code"] == 200
    author = f"certificate:{pair.fingerprint}"
    operation = curl({"name": "passed", "source": {"type": "none"}}, "containers?target=m3")["operation"]
    assert cluster[1].get(f"{operation}/wait")["status_code"] == 200
    rows = history(cluster[2], "--object", "/1.0/containers/passed", "--since", "0")
    assert {(row["author"], row["member"]) for row in rows} == {(author, 3)}
    assert [event["action"] for row in rows for event in row["events"]] == ["container-created"]
    assert history(cluster[2], "--author", author, "--limit", "5")


def test_secrets_are_never_shown(cluster: Cluster) -> None:
    before = newest(cluster[1])
    cluster[1].patch("/1.0", {"config": {"core.trust_password": "very secret", "maas.api.key": "a:b:c"}})
    shown = cluster[2].command("history", "--since", str(before), "--diff").stdout.decode()
    assert "settings/cluster/core.trust_password" in shown and "(hidden)" in shown
    assert "secret" not in shown and "a:b:c" not in shown
    cluster[1].patch("/1.0", {"config": {"core.trust_password": PASSWORD, "maas.api.key": ""}})
    as_rows = ("--since", "0", "--format", "json")
    for command in (("history", *as_rows), ("store", "history", *as_rows), ("store", "dump")):
        shown = cluster[1].command(*command).stdout.decode()
        assert "core.trust_password" in shown
        assert re.search("[0-9a-f]{150}", shown) is None  # no hash, which has 192 digits
    assert cluster[1].request("GET", "/internal/history/chunks?after=1&until=9")[0] == 403


def test_events_are_replayed_through_another_member_while_writes_go_on(cluster: Cluster) -> None:
    cluster[1].post("/1.0/containers", {"name": "steps", "source": {"type": "none"}})
    since = newest(cluster[1])
    with updates(cluster[1], "steps", 150):
        early = listen(cluster[1], str(since), 40)
        rest = listen(cluster[2], early[-1]["id"], 110)
    whole = listen(cluster[3], str(since), 150)
    assert [event["id"] for event in early + rest] == [event["id"] for event in whole]
    assert [event["timestamp"] for event in early + rest] == [event["timestamp"] for event in whole]
    assert {event["metadata"]["action"] for event in whole} == {"container-updated"}
    assert [event["id"] for event in listen(cluster[2], whole[99]["id"], 50)] == [e["id"] for e in whole[100:]]
    status, _headers, data = cluster[1].request(
        "GET",
        "/1.0/events?since=yesterday",
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        },
    )
    assert status == 400 and b"yesterday" in data


def test_nothing_is_missing_after_all_were_killed(cluster: Cluster) -> None:
    cluster[1].post("/1.0/profiles", {"name": "before-the-kill"})
    for number in range(20):
        cluster[1].put("/1.0/profiles/before-the-kill", {"description": str(number)})
    for member in cluster.members:
        member.kill()
    alone = history_of_files(cluster[1], "--object", "/1.0/profiles/before-the-kill", "--since", "0")
    for member in cluster.members:
        member.start()
    for member in cluster.members:
        member.wait_ready(30)
    wanted = [None, "", *map(str, range(20))]
    for member in cluster.members:
        rows = history(member, "--object", "/1.0/profiles/before-the-kill", "--since", "0")
        changes = of_profile(rows)
        assert [after["description"] for _before, after in changes] == wanted[1:]
        assert [before and before["description"] for before, _after in changes] == wanted[:-1]
        assert rows[: len(alone)] == alone
    assert len(alone) >= 20, "what a majority acknowledged is in the files of one that was killed"


def history_of_files(member: Daemon, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(member.command("store", "history", "--format", "json", *options).stdout))


def test_a_member_that_was_away_learns_what_it_missed(cluster: Cluster) -> None:
    cluster[1].post("/1.0/containers", {"name": "away", "source": {"type": "none"}})
    within(10, "all have it", lambda: newest(cluster[3]) >= newest(cluster[1]))
    since = newest(cluster[3])
    cluster[3].kill()
    cluster[1].post("/1.0/profiles", {"name": "large"})
    for number in range(50):  # more than the trail of the log behind a snapshot
        cluster[1].put("/1.0/profiles/large", {"config": {"user.large": f"{number} " + "x" * 200_000}})
        cluster[1].patch("/1.0/containers/away", {"config": {"user.step": str(number)}})
    cluster[3].start().wait_ready(30)
    within(30, "m3 has all", lambda: newest(cluster[3]) >= newest(cluster[1]))
    events = listen(cluster[3], str(since), 50)
    assert {event["type"] for event in events} == {"lifecycle"}
    assert [event["id"] for event in events] == [event["id"] for event in listen(cluster[2], str(since), 50)]
    assert "what was missing in the history is here now" in cluster[3].log()
    rows = history(cluster[3], "--since", str(since))
    assert not [row for row in rows if "gap" in row]
    assert rows == history(cluster[1], "--since", str(since), "--until", str(rows[-1]["index"]))
    assert {after for _before, after in of_profile(rows)[1:]} == {"(200060 bytes)", "(200061 bytes)"}


def test_what_is_too_old_is_forgotten(cluster: Cluster) -> None:
    old = {member.name: _files(member) for member in cluster.members}
    assert all(old.values())
    cluster[1].patch("/1.0", {"config": {"cluster.history_days": "0"}})
    try:
        for member in cluster.members:
            within(5, "the files are gone", lambda member=member: not _files(member) & old[member.name])  # type: ignore[misc]
        assert [set(row) for row in history(cluster[2], "--since", "0")] == [{"gap"}]
    finally:
        cluster[1].patch("/1.0", {"config": {"cluster.history_days": "30"}})
    cluster[1].post("/1.0/profiles", {"name": "kept-again"})
    rows = history(cluster[2], "--since", "0")
    assert "gap" in rows[0] and rows[0]["gap"][0] == 2
    assert rows[-1]["request"] == "POST /1.0/profiles"
    with pytest.raises(ApiError, match="neither an index nor a time"):
        cluster[2].get("/internal/history?since=tomorrow")


def _files(member: Daemon) -> set[Path]:
    return set((member.directory / "raft").glob("history-*"))
