"""Members of different versions in one cluster: upgraded and downgraded one at a time while clients write, and what
happens when the cluster's level is raised (raft/DESIGN.md, "Versions")."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from lxdnode.node.server.description import VERSION
from lxdnode.raft.transaction import LEVEL
from tests.cluster.conftest import POOL
from tests.harness import versions
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within
from tests.harness.versions import NEXT_LEVEL, NEXT_VERSION, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def released(directory: Path) -> Path:
    """The source of the last release."""
    try:
        return versions.release(directory / "released")
    except versions.NotInThisClone as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def coming(directory: Path) -> Path:
    """The source of a release of the next level."""
    return versions.next_release(directory / "coming")


def founded(directory: Path, source: Path, members: int) -> Iterator[Cluster]:
    """Members that run one version, the first three of them in a cluster in which all vote."""
    made = Cluster(directory, members, f"lxdv{os.getpid() % 1000}", "10.101.0")
    for member in made.members:
        use(member, source)
    first, *others = made.members[:3]
    wanted = {
        "config": {"core.https_address": first.address, "core.trust_password": PASSWORD},
        "cluster": {"enabled": True, "server_name": first.name},
        "storage_pools": [POOL],
    }
    try:
        made.start()
        first.command("init", "--preseed", stdin=json.dumps(wanted).encode())
        for member in others:
            made.join(member)
        within(15, "all vote", lambda: all(one["database"] for one in shown(first).values()))
        yield made
    finally:
        made.stop()


@pytest.fixture
def old_three(directory: Path, released: Path) -> Iterator[Cluster]:
    """Three members of the last release."""
    yield from founded(directory / "o", released, 3)


@pytest.fixture(scope="module")
def four(directory: Path) -> Iterator[Cluster]:
    """Three members of the current version, and a server of it that is in no cluster."""
    yield from founded(directory / "n", ROOT, 4)


def use(member: Daemon, source: Path) -> None:
    """Lets a member run a version from its next start on."""
    member.extra["PYTHONPATH"] = str(source / "src")


def end(member: Daemon) -> None:
    """Ends a daemon as an upgrade does; its containers would run on."""
    assert member.process is not None
    member.signal(signal.SIGTERM)
    member.process.wait(20)


def change_to(source: Path, member: Daemon) -> None:
    """Lets a member run a version, if it does not."""
    if member.extra["PYTHONPATH"] == str(source / "src"):
        return
    end(member)
    use(member, source)
    member.start().wait_ready(30)


def shown(member: Daemon) -> dict[str, Any]:
    """The members as one of them shows them, by name."""
    return {one["server_name"]: one for one in member.get("/1.0/cluster/members?recursion=1")}


def level(member: Daemon) -> int:
    found: int = member.get("/internal/cluster/status")["store"]["level"]
    return found


def profiles(member: Daemon) -> set[str]:
    return {url.rsplit("/", 1)[1] for url in member.get("/1.0/profiles")}


def stored(member: Daemon, table: str, name: str) -> dict[str, Any]:
    """A document of the store of a member, by the name that it holds."""
    rows = [json.loads(line) for line in member.command("store", "dump").stdout.splitlines()]
    return next(row["value"] for row in rows if row["table"] == table and row["value"].get("name") == name)


class Writer(threading.Thread):
    """Makes profiles through one member. `made`: acknowledged. `wrong`: refused or broken while its member was not
    being restarted, or refused otherwise than as surely not done."""

    def __init__(self, member: Daemon) -> None:
        super().__init__(daemon=True)
        self.member = member
        self.made: list[str] = []
        self.wrong: list[str] = []
        self.restarting = False
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.wait(0.05):
            number += 1
            self._write(f"{self.member.name}-{number}")

    def _write(self, name: str) -> None:
        excused = self.restarting
        try:
            status, _headers, answer = self.member.request("POST", "/1.0/profiles", {"name": name})
        except (OSError, HTTPException) as error:
            if not (excused or self.restarting):
                self.wrong.append(f"{name}: {error!r}")
            return
        if status == 201:
            self.made.append(name)
        elif status != 503 or b"othing was changed" not in answer or not (excused or self.restarting):
            self.wrong.append(f"{name}: {status} {answer!r}")


@pytest.fixture
def writers(old_three: Cluster) -> Iterator[dict[str, Writer]]:
    """A client at each member, by its name."""
    made = {member.name: Writer(member) for member in old_three.members}
    for writer in made.values():
        writer.start()
    yield made
    finish(made)


def finish(writers: dict[str, Writer]) -> None:
    for writer in writers.values():
        writer.over.set()
    for writer in writers.values():
        writer.join(60)


def test_members_are_upgraded_and_downgraded_one_at_a_time_under_load(
    old_three: Cluster, writers: dict[str, Writer], released: Path
) -> None:
    for source in (ROOT, released):
        for member in old_three.members:
            writer = writers[member.name]
            writer.restarting = True
            change_to(source, member)
            writer.restarting = False
            before = len(writer.made)
            within(10, f"{member.name} takes writes again", lambda w=writer, n=before: len(w.made) > n + 5)
        if source is ROOT:
            assert {one["version"] for one in shown(old_three[1]).values()} == {VERSION}
    finish(writers)
    assert [wrong for writer in writers.values() for wrong in writer.wrong] == []
    made = {name for writer in writers.values() for name in writer.made}
    for member in old_three.members:
        assert made - profiles(member) == set(), "acknowledged, and lost"


def test_an_older_member_keeps_what_it_does_not_know(four: Cluster, coming: Path) -> None:
    change_to(coming, four[1])
    four[1].post("/1.0/profiles", {"name": "early", "config": {"user.a": "1"}})
    four[3].patch("/1.0/profiles/early", {"description": "by the older one"})
    found = stored(four[3], "profiles", "early")
    assert (found["future"], found["description"]) == ("field", "by the older one")
    assert stored(four[3], "futures", "early")["config"] == {"user.a": "1"}


def test_the_level_is_raised_when_all_report_it_and_an_older_member_stops_there(four: Cluster, coming: Path) -> None:
    for member in (four[1], four[2]):
        change_to(coming, member)
    assert {name: one["version"] for name, one in shown(four[1]).items()}["m2"] == NEXT_VERSION
    end(four[3])
    keep_writing(four[2], seconds=2)
    assert level(four[1]) == LEVEL, "an absent member counts"
    assert (shown(four[1])["m1"]["status"], shown(four[1])["m2"]["status"]) == ("Online", "Online")
    use(four[3], coming)
    four[3].start().wait_ready(30)
    for member in four.members[:3]:
        within(5, "the level is raised", lambda member=member: level(member) == NEXT_LEVEL)

    words = f"cluster has {NEXT_LEVEL}, the joining server {LEVEL}: install lxd-node {NEXT_VERSION} there first"
    with pytest.raises(ApiError, match=words):
        four[4].put("/1.0/cluster", four.join_request(four[4]))

    end(four[3])
    use(four[3], ROOT)
    four[3].start().wait_ready_without_quorum()
    four[1].post("/1.0/profiles", {"name": "later"})
    status, headers, body = four[3].request("GET", "/1.0/profiles")
    assert status == 200 and "x-lxd-node-stale" in headers
    assert b"/1.0/profiles/default" in body and b"later" not in body
    words = f"knows level {LEVEL}, the cluster is at level {NEXT_LEVEL}.*Install lxd-node {NEXT_VERSION} here"
    with pytest.raises(ApiError, match=words) as refused:
        four[3].post("/1.0/profiles", {"name": "never"})
    assert refused.value.code == 503
    assert NEXT_VERSION in four[3].command("cluster", "status").stdout.decode()
    seen = within(5, "the others say so", lambda: one if (one := shown(four[1])["m3"])["status"] == "Blocked" else None)
    assert seen["message"] == f"too old for this cluster: install lxd-node {NEXT_VERSION}"
    assert seen["version"] == VERSION

    change_to(coming, four[3])
    assert "later" in profiles(four[3]) and "never" not in profiles(four[3])
    assert shown(four[1])["m3"]["status"] == "Online"


def keep_writing(member: Daemon, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        member.patch("/1.0/profiles/default", {"description": f"at {time.monotonic()}"})


FAST_CLOCK = """
import time
now = time.time
time.time = lambda: now() + 60
"""


def test_a_member_whose_clock_is_wrong_is_named(four: Cluster, directory: Path) -> None:
    leader = four.leader()
    wrong = next(member for member in four.members[:3] if member is not leader)
    (directory / "clock").mkdir()
    (directory / "clock" / "sitecustomize.py").write_text(FAST_CLOCK)
    end(wrong)
    wrong.extra["PYTHONPATH"] += f":{directory / 'clock'}"
    wrong.start().wait_ready(30)
    for member in four.members[:3]:
        within(10, "it is seen", lambda member=member: abs(shown(member)[wrong.name]["clock_skew"] - 60) < 1)
    within(5, "the leader warns", lambda: "60.0 s ahead of the leader's" in leader.log())
    assert f"the clock of {wrong.name} is 60" in four[1].command("cluster", "status").stdout.decode()
