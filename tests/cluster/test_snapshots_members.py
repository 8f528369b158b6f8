"""Snapshots, copies, backups and publishing through members that do not hold the container."""

import os
from collections.abc import Iterator

import pytest

from tests.harness.daemons import ApiError, Cluster

pytestmark = pytest.mark.slow

HEADERS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def name(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty container on the second member, whose file `/mark` says `first`."""
    made = request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    cluster[1].post("/1.0/containers?target=m2", {"name": made, "source": {"type": "none"}})
    cluster[3].ask("POST", f"/1.0/containers/{made}/files?path=/mark", b"first")
    yield made
    for one in (made, f"{made}-copy"):
        cluster[1].lxc("delete", "--force", one, check=False)


def mark(cluster: Cluster, name: str) -> str:
    """What the mark of a container says, through the first member."""
    return cluster[1].request("GET", f"/1.0/containers/{name}/files?path=/mark")[2].decode()


def test_snapshots_through_any_member(cluster: Cluster, name: str) -> None:
    first, third = cluster[1], cluster[3]
    first.lxc("snapshot", name, "before")
    third.ask("POST", f"/1.0/containers/{name}/files?path=/mark", b"second")
    shown = third.get(f"/1.0/containers/{name}/snapshots?recursion=1")
    assert [one["name"] for one in shown] == [f"{name}/before"]
    assert (cluster[2].directory / f"storage-pools/default/snapshots/{name}/before/rootfs/mark").exists()
    third.lxc("restore", name, "before")
    assert mark(cluster, name) == "first"
    third.post(f"/1.0/containers/{name}/snapshots/before", {"name": "after"})
    first.post(f"/1.0/containers/{name}", {"name": f"{name}-copy"})
    assert third.get(f"/1.0/containers/{name}-copy/snapshots/after")["name"] == f"{name}-copy/after"
    third.delete(f"/1.0/containers/{name}-copy/snapshots/after")
    assert first.get(f"/1.0/containers/{name}-copy/snapshots") == []
    with pytest.raises(ApiError, match="^snapshot .*/after does not exist$"):
        third.put(f"/1.0/containers/{name}-copy", {"restore": "after"})


def test_copies_are_made_where_their_source_is(cluster: Cluster, name: str) -> None:
    cluster[1].lxc("snapshot", name, "before")
    done = cluster[3].post("/1.0/containers", {"name": f"{name}-copy", "source": {"type": "copy", "source": name}})
    assert done["description"] == "Creating container"
    assert cluster[1].get(f"/1.0/containers/{name}-copy")["location"] == "m2"
    assert cluster[1].get(f"/1.0/containers/{name}-copy/snapshots") == [f"/1.0/containers/{name}-copy/snapshots/before"]
    assert mark(cluster, f"{name}-copy") == "first"


def test_a_snapshot_is_published_through_any_member(cluster: Cluster, name: str) -> None:
    cluster[1].lxc("snapshot", name, "before")
    done = cluster[3].post("/1.0/images", {"source": {"type": "snapshot", "name": f"{name}/before"}})
    fingerprint = done["metadata"]["fingerprint"]
    assert cluster[1].request("GET", f"/1.0/images/{fingerprint}/export")[0] == 200
    cluster[1].delete(f"/1.0/images/{fingerprint}")


def test_backups_through_any_member(cluster: Cluster, name: str) -> None:
    first, third = cluster[1], cluster[3]
    big = os.urandom(3 << 20)
    first.ask("POST", f"/1.0/containers/{name}/files?path=/big", big)
    first.lxc("snapshot", name, "before")
    third.post(f"/1.0/containers/{name}/backups", {"name": "b"})
    assert first.get(f"/1.0/containers/{name}/backups") == [f"/1.0/containers/{name}/backups/b"]
    content = third.request("GET", f"/1.0/containers/{name}/backups/b/export")[2]
    assert content == first.request("GET", f"/1.0/containers/{name}/backups/b/export")[2]
    assert [len(list((member.directory / "backups").glob("*"))) for member in cluster.members] == [0, 1, 0]
    with pytest.raises(ApiError, match=f"^Container '{name}' already exists$"):
        third.ask("POST", "/1.0/containers", content, HEADERS)
    first.delete(f"/1.0/containers/{name}")
    assert not list((cluster[2].directory / "backups").glob("*"))
    third.ask("POST", "/1.0/containers?target=m1", content, HEADERS)
    assert first.get(f"/1.0/containers/{name}")["location"] == "m1"
    assert third.get(f"/1.0/containers/{name}/snapshots") == [f"/1.0/containers/{name}/snapshots/before"]
    assert third.request("GET", f"/1.0/containers/{name}/files?path=/big")[2] == big
