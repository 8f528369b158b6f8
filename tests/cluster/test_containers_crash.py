"""A daemon that is killed in the middle of its work leaves nothing half done behind."""

from collections.abc import Iterator

import pytest

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.daemons import ApiError, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slow_image(server: Daemon) -> str:
    """An image that takes some time to unpack; its fingerprint."""
    padded = unified(assemble(find_busybox(), padding=48))
    done = server.ask("POST", "/1.0/images", padded)
    fingerprint: str = done["metadata"]["fingerprint"]
    return fingerprint


@pytest.fixture
def body(server: Daemon, slow_image: str) -> Iterator[dict[str, object]]:
    """The request that makes a container `c1` of that image; the container is gone afterwards."""
    yield {"name": "c1", "source": {"type": "image", "fingerprint": slow_image}}
    server.lxc("delete", "--force", "c1", check=False)


def restart(server: Daemon) -> None:
    """kill -9, and another daemon."""
    server.kill()
    server.start().wait_ready()


def test_a_creation_that_was_cut_short_is_undone(server: Daemon, body: dict[str, object]) -> None:
    volume = server.directory / "storage-pools/default/containers/c1"
    assert server.request("POST", "/1.0/containers", body)[0] == 202
    within(10, "unpacking", lambda: (volume / "rootfs").exists())
    restart(server)
    within(5, "no container", lambda: server.request("GET", "/1.0/containers/c1")[0] == 404)
    assert not volume.exists()
    server.post("/1.0/containers", body)
    assert server.get("/1.0/containers/c1")["status"] == "Stopped"


def test_a_deletion_that_was_cut_short_is_finished(server: Daemon, body: dict[str, object]) -> None:
    server.post("/1.0/containers", body)
    volume = server.directory / "storage-pools/default/containers/c1"
    assert server.request("DELETE", "/1.0/containers/c1")[0] == 202
    restart(server)
    found = server.request("GET", "/1.0/containers/c1")[0]
    assert found == 404 or volume.exists()  # Either it never began, or it is whole.
    if found == 200:
        server.delete("/1.0/containers/c1")
    assert not volume.exists()


def test_a_failed_creation_leaves_no_trace(server: Daemon, body: dict[str, object]) -> None:
    volume = server.directory / "storage-pools/default/containers/c1"
    volume.parent.mkdir(exist_ok=True)
    volume.mkdir()  # Foreign data in the way: never removed by us.
    (volume / "theirs").touch()
    with pytest.raises(ApiError, match="^Data of an unknown container c1 are in the way: move .*/c1 away$"):
        server.post("/1.0/containers", body)
    assert server.request("GET", "/1.0/containers/c1")[0] == 404
    assert (volume / "theirs").exists()
    (volume / "theirs").unlink()
    volume.rmdir()


def test_a_copy_that_was_cut_short_is_undone(server: Daemon, body: dict[str, object]) -> None:
    server.post("/1.0/containers", body)
    server.post("/1.0/containers/c1/snapshots", {"name": "before"})
    pool = server.directory / "storage-pools/default"
    copy = {"name": "c2", "source": {"type": "copy", "source": "c1"}}
    for seen in (pool / "containers/c2/rootfs", pool / "snapshots/c2/before/rootfs"):
        assert server.request("POST", "/1.0/containers", copy)[0] == 202
        within(10, f"copying {seen}", seen.exists)
        restart(server)
        within(5, "no container", lambda: server.request("GET", "/1.0/containers/c2")[0] == 404)
        assert not (pool / "containers/c2").exists() and not (pool / "snapshots/c2").exists()
    server.post("/1.0/containers", copy)
    assert server.get("/1.0/containers/c2/snapshots") == ["/1.0/containers/c2/snapshots/before"]
    server.delete("/1.0/containers/c2")


def test_a_publication_that_was_cut_short_leaves_no_file(server: Daemon, body: dict[str, object]) -> None:
    server.post("/1.0/containers", body)
    images, known = server.directory / "images", server.get("/1.0/images")
    files = set(images.iterdir())
    wanted = {"source": {"type": "container", "name": "c1"}, "properties": {"cut": "short"}}
    assert server.request("POST", "/1.0/images", wanted)[0] == 202
    within(10, "packing", lambda: set(images.iterdir()) - files)
    restart(server)
    within(5, "no file of it", lambda: set(images.iterdir()) == files)
    assert server.get("/1.0/images") == known
    done = server.post("/1.0/images", wanted)  # Nothing of the first try is in the way.
    server.delete(f"/1.0/images/{done['metadata']['fingerprint']}")


def test_a_renamed_snapshot_has_one_name_after_a_crash(server: Daemon, body: dict[str, object]) -> None:
    server.post("/1.0/containers", body)
    server.post("/1.0/containers/c1/snapshots", {"name": "one"})
    assert server.request("POST", "/1.0/containers/c1/snapshots/one", {"name": "two"})[0] == 202
    restart(server)
    [url] = server.get("/1.0/containers/c1/snapshots")
    folder = server.directory / "storage-pools/default/snapshots/c1"
    assert [path.name for path in folder.iterdir()] == [url.rpartition("/")[2]]
    assert not list((server.directory / "notes/snapshots").glob("*"))
