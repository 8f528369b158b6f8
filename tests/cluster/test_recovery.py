"""When the majority is gone for good: the best survivor goes on, others are refused; backups and restores."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import BRIDGE, POOL, PROFILE
from tests.harness.daemons import ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture
def five(directory: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Five members, three of which vote."""
    made = Cluster(directory / tmp_path.name[-8:], 5, f"lxdr{os.getpid() % 1000}", "10.98.0")
    try:
        yield made.start().form()
    finally:
        made.stop()


def profiles(member: Daemon) -> set[str]:
    return {url.rsplit("/", 1)[1] for url in member.get("/1.0/profiles")}


def test_the_best_survivor_goes_on_and_the_old_ones_are_refused(five: Cluster) -> None:
    within(
        15, "three vote", lambda: sum(one["database"] for one in five[1].get("/1.0/cluster/members?recursion=1")) == 3
    )
    shown = five[1].get("/1.0/cluster/members?recursion=1")
    voters = [member for member, one in zip(five.members, shown, strict=True) if one["database"]]
    stale, best = [member for member in five.members if member not in voters]
    five[1].post("/1.0/profiles", {"name": "early"})
    within(5, "the spare has it", lambda: "early" in profiles(stale))
    stale.kill()
    five[1].post("/1.0/profiles", {"name": "late"})
    within(5, "the other spare has it", lambda: "late" in profiles(best))
    for member in voters:
        member.kill()
    stale.start().wait_ready_without_quorum()

    refused = stale.command("cluster", "recover", "--yes", check=False)
    assert refused.returncode == 2
    assert f"{best.name} ({best.address}) holds more than this member" in refused.stderr.decode()

    started = time.monotonic()
    said = best.command("cluster", "recover", "--yes").stdout.decode()
    assert f"writable in epoch 2; compared with: {stale.name}" in said
    best.post("/1.0/profiles", {"name": "after"})
    assert time.monotonic() - started < 10
    assert {"early", "late", "after"} <= profiles(best)
    assert [one["server_name"] for one in best.get("/1.0/cluster/members?recursion=1")] == [best.name]

    term = best.get("/internal/cluster/status")["store"]["term"]
    voters[0].start().wait_ready_without_quorum()
    time.sleep(3)
    assert best.get("/internal/cluster/status")["store"]["term"] == term
    with pytest.raises(ApiError, match="No quorum"):
        voters[0].post("/1.0/profiles", {"name": "ghost"})
    assert "ghost" not in profiles(best)


def test_recovering_a_cluster_with_a_majority_is_refused(five: Cluster) -> None:
    refused = five[2].command("cluster", "recover", "--yes", check=False)
    assert refused.returncode == 1
    assert "The cluster has a majority and m1 leads: nothing to recover" in refused.stderr.decode()


@pytest.fixture
def alone(directory: Path, tmp_path: Path) -> Iterator[Daemon]:
    """One server with a pool, a bridge and the default profile."""
    made = Cluster(directory / tmp_path.name[-8:], 1, f"lxdb{os.getpid() % 1000}", "10.99.0")
    try:
        member = made.start()[1]
        member.post("/1.0/storage-pools", POOL)
        member.post("/1.0/networks", BRIDGE)
        member.put("/1.0/profiles/default", PROFILE)
        yield member
    finally:
        made.stop()


def test_a_backup_is_restored_and_what_came_after_it_keeps_its_data(alone: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "documents"
    alone.post("/1.0/containers", {"name": "old", "source": {"type": "none"}})
    alone.command("cluster", "backup", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    alone.post("/1.0/containers", {"name": "new", "source": {"type": "none"}})
    alone.post("/1.0/profiles", {"name": "new"})
    data = alone.directory / "storage-pools/default/containers/new/rootfs/data"
    data.write_text("precious")

    said = alone.command("cluster", "restore", "--yes", str(file)).stdout.decode()
    assert "in epoch 2" in said
    assert alone.get("/1.0/containers") == ["/1.0/containers/old"]
    assert profiles(alone) == {"default"}
    assert data.read_text() == "precious"
    assert any("new" in item for item in alone.get("/internal/cluster/status")["unknown"])
    alone.post("/1.0/profiles", {"name": "later"})
    alone.kill()
    alone.start().wait_ready()
    assert profiles(alone) == {"default", "later"}


def test_what_is_no_backup_is_refused_and_changes_nothing(alone: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "documents"
    alone.command("cluster", "backup", str(file))
    whole = file.read_bytes()
    for broken in (b"", b"no backup", whole[:-5], whole[:100] + b"\x00" + whole[101:]):
        file.write_bytes(broken)
        refused = alone.command("cluster", "restore", "--yes", str(file), check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr.decode()
        assert "is damaged" in refused.stderr.decode() or "no backup" in refused.stderr.decode()
    assert alone.get("/1.0/cluster")["enabled"] is False
    assert profiles(alone) == {"default"}


def test_the_store_is_verified_and_dumped_where_it_lies(alone: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "documents"
    alone.command("cluster", "backup", str(file))
    for argv in ([], [str(file)]):
        said = alone.command("store", "verify", *argv).stdout.decode()
        assert "epoch 1, member 1" in said and "digest " in said
        rows = [json.loads(line) for line in alone.command("store", "dump", *argv).stdout.splitlines()]
        assert any(row["table"] == "profiles" and row["value"]["name"] == "default" for row in rows)
    damaged = alone.directory.parent / "damaged"
    (damaged / "raft").mkdir(parents=True)
    for found in (alone.directory / "raft").iterdir():
        data = bytearray(found.read_bytes())
        if found.name.startswith("journal-"):
            data[30] ^= 0xFF
        (damaged / "raft" / found.name).write_bytes(data)
    refused = alone.command("store", "verify", "--dir", str(damaged), check=False)
    assert refused.returncode == 1 and "damaged" in refused.stderr.decode()
