"""Stores that are damaged or lost, disks that are full: a member says so, helps itself, and nobody repairs by hand."""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon, within
from tests.harness.namespaces import run

pytestmark = pytest.mark.slow


def damage(member: Daemon, kind: str) -> None:
    """Flips one bit in the newest file of a kind of a stopped member."""
    path = max((member.directory / "raft").glob(f"{kind}-*"))
    data = bytearray(path.read_bytes())
    data[random.Random(7).randrange(len(data))] ^= 4
    path.write_bytes(data)


def digests(cluster: Cluster) -> set[str]:
    return {member.get("/internal/cluster/digest")["digest"] for member in cluster.members}


def voters(member: Daemon) -> set[str]:
    return {one["name"] for one in member.get("/internal/cluster/status")["members"] if one["role"] != "spare"}


def comes_back(cluster: Cluster, member: Daemon) -> None:
    """A member that was started on no good store is a voter again, with the state of the others."""
    other = next(one for one in cluster.members if one is not member)
    member.start().wait_ready(20)
    assert "the store is damaged: fetching it from the other members" in member.log()
    within(10, "all three vote again", lambda: voters(other) == {"m1", "m2", "m3"})
    other.post("/1.0/profiles", {"name": f"after-{random.randrange(10**9)}"})
    within(5, "all have one state", lambda: len(digests(cluster)) == 1)


def test_a_member_with_a_flipped_bit_fetches_its_state_from_the_others(cluster: Cluster) -> None:
    within(10, "all three vote", lambda: voters(cluster[1]) == {"m1", "m2", "m3"})
    follower = next(member for member in cluster.members if member is not cluster.leader())
    follower.kill()
    damage(follower, "journal")
    comes_back(cluster, follower)
    assert (follower.directory / "raft.damaged").is_dir()


def test_the_leader_without_its_store_fetches_it_from_the_next_one(cluster: Cluster) -> None:
    within(10, "all three vote", lambda: voters(cluster[1]) == {"m1", "m2", "m3"})
    leader = cluster.leader()
    leader.kill()
    shutil.rmtree(leader.directory / "raft")
    comes_back(cluster, leader)


@pytest.fixture
def small(directory: Path) -> Iterator[Daemon]:
    """A server whose state directory has room for 32 MiB."""
    daemon = Daemon(directory / "small")
    daemon.directory.mkdir(mode=0o711)
    run("mount", "-t", "tmpfs", "-o", "size=32m", "chaos", str(daemon.directory))
    try:
        yield daemon.start().wait_ready()
    finally:
        daemon.stop()
        run("umount", str(daemon.directory))


def fill(member: Daemon) -> Path:
    """Leaves no room on a member's disk."""
    path = member.directory / "ballast"
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with open(path, "ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64))
    return path


def test_a_full_disk_makes_a_server_read_only_until_there_is_room(small: Daemon) -> None:
    small.post("/1.0/profiles", {"name": "before"})
    ballast = fill(small)
    with pytest.raises(ApiError) as first:
        for number in range(1000):  # what the file system still had in the last block of the journal
            small.post("/1.0/profiles", {"name": f"last{number}"})
    assert first.value.code == 503
    started = time.monotonic()
    with pytest.raises(ApiError, match="disk of this member is full: it is read-only until there is room") as refused:
        small.post("/1.0/profiles", {"name": "refused"})
    assert refused.value.code == 503 and time.monotonic() - started < 1
    assert "/1.0/profiles/before" in small.get("/1.0/profiles")
    ballast.unlink()
    within(5, "writes succeed again", lambda: small.post("/1.0/profiles", {"name": "after"}) is None)
    small.kill()
    small.start().wait_ready()
    names = {url.rsplit("/", 1)[1] for url in small.get("/1.0/profiles")}
    assert {"before", "after"} <= names and "refused" not in names


def test_a_server_alone_says_how_to_go_on(directory: Path) -> None:
    alone = Daemon(directory / "alone").start().wait_ready()
    alone.post("/1.0/profiles", {"name": "lost"})
    alone.kill()
    damage(alone, "journal")
    alone.start()
    try:
        assert alone.process is not None
        assert alone.process.wait(10) != 0
        assert "No other member has a copy: move it aside" in alone.log()
        (alone.directory / "raft").rename(alone.directory / "raft.aside")
        alone.start().wait_ready()
    finally:
        alone.stop()
