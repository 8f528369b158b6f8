"""Containers that move from one member to another, and what is left when a member falls in between."""

import os
from collections.abc import Iterator

import pytest

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.daemons import ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fingerprint(cluster: Cluster) -> str:
    """An image on the first member whose containers take some time to move."""
    done = cluster[1].ask("POST", "/1.0/images", unified(assemble(find_busybox(), padding=24)))
    found: str = done["metadata"]["fingerprint"]
    return found


@pytest.fixture
def name(cluster: Cluster, fingerprint: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a container on the second member with a snapshot `before`; it is gone afterwards."""
    made = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].rstrip("-")
    source = {"type": "image", "fingerprint": fingerprint}
    config = {"security.idmap.isolated": "true"}
    cluster[1].post("/1.0/containers?target=m2", {"name": made, "source": source, "config": config})
    cluster[1].ask("POST", f"/1.0/containers/{made}/files?path=/root/mark", b"first", {"X-LXD-uid": "1000"})
    cluster[1].post(f"/1.0/containers/{made}/snapshots", {"name": "before"})
    cluster[1].ask("POST", f"/1.0/containers/{made}/files?path=/root/mark", b"second")
    yield made
    for one in (made, f"{made}-new"):
        cluster[1].lxc("delete", "--force", one, check=False)


def volumes(member: Daemon, name: str) -> list[bool]:
    """Whether a member has the volumes of a container, and of its snapshots."""
    pool = member.directory / "storage-pools/default"
    return [(pool / kind / name).exists() for kind in ("containers", "snapshots")]


def mark(cluster: Cluster, name: str) -> str:
    """What the mark of a container says."""
    return cluster[1].request("GET", f"/1.0/containers/{name}/files?path=/root/mark")[2].decode()


@pytest.mark.parametrize("new", ["", "-new"], ids=["same name", "another name"])
def test_a_container_moves_with_all_that_it_has(cluster: Cluster, name: str, new: str) -> None:
    was = cluster[1].get(f"/1.0/containers/{name}")
    big = os.urandom(2 << 20)
    cluster[1].ask("POST", f"/1.0/containers/{name}/files?path=/root/big", big)
    cluster[1].lxc("move", name, name + new, "--target", "m3")
    now = cluster[1].get(f"/1.0/containers/{name}{new}")
    assert now == was | {"name": name + new, "location": "m3"}
    assert volumes(cluster[3], name + new) == [True, True] and volumes(cluster[2], name) == [False, False]
    assert cluster[2].request("GET", f"/1.0/containers/{name}{new}/files?path=/root/big")[2] == big
    cluster[2].put(f"/1.0/containers/{name}{new}/state", {"action": "start"})
    assert cluster[1].lxc("exec", "-T", name + new, "--", "stat", "-c", "%u", "/root/mark").stdout == b"1000\n"
    with pytest.raises(ApiError, match="^Container is running$"):
        cluster[1].post(f"/1.0/containers/{name}{new}?target=m1", {"name": name, "migration": True})
    cluster[1].put(f"/1.0/containers/{name}{new}/state", {"action": "stop", "force": True})
    cluster[1].put(f"/1.0/containers/{name}{new}", {"restore": "before"})
    assert mark(cluster, name + new) == "first"
    # And back again.
    cluster[2].lxc("move", name + new, name, "--target", "m2")
    assert cluster[1].get(f"/1.0/containers/{name}")["location"] == "m2"
    assert volumes(cluster[3], name + new) == [False, False]


def test_what_cannot_move_is_refused(cluster: Cluster, name: str) -> None:
    cluster[1].post("/1.0/containers", {"name": f"{name}-new", "source": {"type": "none"}})
    for target, new, words in [
        ("m2", name, f"Container {name} is on member m2 already"),
        ("m9", name, "No cluster member called 'm9'"),
        ("m3", f"{name}-new", f"Name '{name}-new' already in use"),
        ("m3", "-x", "Invalid container name"),
    ]:
        with pytest.raises(ApiError) as refusal:
            cluster[1].post(f"/1.0/containers/{name}?target={target}", {"name": new, "migration": True})
        assert str(refusal.value) == words
    assert volumes(cluster[2], name) == [True, True]
    foreign = cluster[3].directory / "storage-pools/default/containers" / name
    foreign.mkdir(parents=True)
    with pytest.raises(ApiError, match="are in the way"):
        cluster[1].post(f"/1.0/containers/{name}?target=m3", {"name": name, "migration": True})
    assert foreign.exists()
    foreign.rmdir()
    assert cluster[1].get(f"/1.0/containers/{name}")["location"] == "m2" and mark(cluster, name) == "second"


@pytest.mark.parametrize("falls", [2, 3], ids=["old member", "new member"])
def test_a_member_that_falls_in_between_leaves_one_whole_container(cluster: Cluster, name: str, falls: int) -> None:
    arriving = cluster[3].directory / "storage-pools/default/containers" / name / "rootfs"
    status, _, _ = cluster[2].request("POST", f"/1.0/containers/{name}?target=m3", {"name": name, "migration": True})
    assert status == 202
    within(10, "data arrive", arriving.exists)
    cluster[falls].kill()
    cluster[falls].start().wait_ready()

    def is_whole() -> bool:
        location = cluster[1].get(f"/1.0/containers/{name}")["location"]
        here, there = (2, 3) if location == "m2" else (3, 2)
        return volumes(cluster[here], name) == [True, True] and volumes(cluster[there], name) == [False, False]

    within(15, "one whole container", is_whole)
    within(20, "it starts", lambda: cluster[1].put(f"/1.0/containers/{name}/state", {"action": "start"}))
    assert mark(cluster, name) == "second"


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_a_copy_is_made_on_another_member(cluster: Cluster, name: str, asked: int) -> None:
    """By LXD's client, which asks for a migration inside the cluster; through the source, the target, and neither."""
    cluster[asked].lxc("copy", name, f"{name}-new", "--target", "m3")
    copied = cluster[1].get(f"/1.0/containers/{name}-new")
    assert copied["location"] == "m3" and volumes(cluster[3], f"{name}-new") == [True, True]
    assert mark(cluster, f"{name}-new") == "second" and mark(cluster, name) == "second"
    assert (
        copied["config"]["volatile.eth0.hwaddr"]
        != cluster[1].get(f"/1.0/containers/{name}")["config"]["volatile.eth0.hwaddr"]
    )
    cluster[1].put(f"/1.0/containers/{name}-new/state", {"action": "start"})
    assert mark(cluster, f"{name}-new") == "second"
