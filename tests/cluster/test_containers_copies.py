"""Copies of containers and of their snapshots on one server, in one pool and across two."""

from collections.abc import Iterator

import pytest

from tests.harness.daemons import ApiError, Daemon

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def other_pool(server: Daemon) -> str:
    """A second pool of directories."""
    server.post("/1.0/storage-pools", {"name": "other", "driver": "dir"})
    return "other"


@pytest.fixture
def name(server: Daemon, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty container with snapshots `one` and `two`, whose file `/mark` says `one`, then `two`, and
    `now` at last; it is gone afterwards, and so is the copy `NAME-copy`."""
    made = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].rstrip("-")
    server.post("/1.0/containers", {"name": made, "source": {"type": "none"}, "config": {"user.at": "start"}})
    for moment in ("one", "two", "now"):
        server.ask("POST", f"/1.0/containers/{made}/files?path=/mark", moment.encode())
        server.patch(f"/1.0/containers/{made}", {"config": {"user.at": moment}})
        if moment != "now":
            server.post(f"/1.0/containers/{made}/snapshots", {"name": moment})
    yield made
    for one in (made, f"{made}-copy"):
        server.lxc("delete", "--force", one, check=False)


def copy(server: Daemon, source: str, name: str, container_only: bool = False, **fields: object) -> None:
    """Asks for a copy."""
    asked = {"type": "copy", "source": source, "container_only": container_only}
    server.post("/1.0/containers", {"name": name, "source": asked} | fields)


def mark(server: Daemon, name: str) -> str:
    """What the file of a container says."""
    return server.request("GET", f"/1.0/containers/{name}/files?path=/mark")[2].decode()


def snapshots(server: Daemon, name: str) -> list[str]:
    """The names of a container's snapshots, without the container's."""
    return [url.rpartition("/")[2] for url in server.get(f"/1.0/containers/{name}/snapshots")]


def test_a_copy_brings_its_snapshots(server: Daemon, name: str) -> None:
    copy(server, name, f"{name}-copy")
    assert mark(server, f"{name}-copy") == "now"
    assert snapshots(server, f"{name}-copy") == ["one", "two"]
    for moment in ("one", "two"):
        of_source, of_copy = (server.get(f"/1.0/containers/{one}/snapshots/{moment}") for one in (name, f"{name}-copy"))
        assert of_copy == of_source | {"name": f"{name}-copy/{moment}"}
    server.put(f"/1.0/containers/{name}-copy", {"restore": "one"})
    assert (mark(server, f"{name}-copy"), mark(server, name)) == ("one", "now")


def test_a_copy_has_the_configuration_without_what_is_the_sources_own(server: Daemon, name: str) -> None:
    copy(server, name, f"{name}-copy", config={"user.more": "1"}, description="a copy")
    was, now = (server.get(f"/1.0/containers/{one}") for one in (name, f"{name}-copy"))
    assert now["config"]["user.at"] == "now" and now["config"]["user.more"] == "1"
    assert now["config"]["volatile.apply_template"] == "copy"
    assert now["config"]["volatile.eth0.hwaddr"] != was["config"]["volatile.eth0.hwaddr"]
    assert (now["description"], now["ephemeral"], now["profiles"]) == ("a copy", False, ["default"])


@pytest.mark.extension("container_only_migration")
def test_a_copy_of_the_container_only_leaves_the_snapshots(server: Daemon, name: str) -> None:
    copy(server, name, f"{name}-copy", container_only=True)
    assert mark(server, f"{name}-copy") == "now"
    assert snapshots(server, f"{name}-copy") == []


def test_a_snapshot_becomes_a_container(server: Daemon, name: str) -> None:
    server.lxc("copy", f"{name}/one", f"{name}-copy")
    assert mark(server, f"{name}-copy") == "one"
    assert server.get(f"/1.0/containers/{name}-copy")["config"]["user.at"] == "one"
    assert snapshots(server, f"{name}-copy") == []


@pytest.mark.extension("container_local_cross_pool_handling")
def test_a_copy_crosses_pools_with_its_snapshots(server: Daemon, name: str, other_pool: str) -> None:
    server.lxc("copy", name, f"{name}-copy", "--storage", other_pool)
    assert mark(server, f"{name}-copy") == "now"
    volumes = server.directory / "storage-pools/other"
    assert (volumes / f"containers/{name}-copy/rootfs/mark").read_text() == "now"
    assert (volumes / f"snapshots/{name}-copy/two/rootfs/mark").read_text() == "two"
    for one in ("", "/snapshots/one"):
        shown = server.get(f"/1.0/containers/{name}-copy{one}")
        assert shown["expanded_devices"]["root"]["pool"] == other_pool
    server.put(f"/1.0/containers/{name}-copy", {"restore": "one"})
    assert mark(server, f"{name}-copy") == "one"
    server.lxc("copy", f"{name}/two", f"{name}-again", "--storage", other_pool)
    assert mark(server, f"{name}-again") == "two"
    server.lxc("delete", f"{name}-again")


def test_a_move_to_another_pool_takes_all_along(server: Daemon, name: str, other_pool: str) -> None:
    server.lxc("move", name, f"{name}-copy", "--storage", other_pool)
    assert server.request("GET", f"/1.0/containers/{name}")[0] == 404
    assert mark(server, f"{name}-copy") == "now"
    assert snapshots(server, f"{name}-copy") == ["one", "two"]


def test_a_copy_of_a_running_container_starts(server: Daemon, image: bytes, name: str) -> None:
    done = server.ask("POST", "/1.0/images", image)
    fingerprint = done["metadata"]["fingerprint"]
    server.delete(f"/1.0/containers/{name}")
    server.post("/1.0/containers", {"name": name, "source": {"type": "image", "fingerprint": fingerprint}})
    server.put(f"/1.0/containers/{name}/state", {"action": "start"})
    copy(server, name, f"{name}-copy")
    server.put(f"/1.0/containers/{name}-copy/state", {"action": "start"})
    assert server.lxc("exec", "-T", f"{name}-copy", "--", "hostname").stdout.decode().strip() == f"{name}-copy"
    # Its first start rendered the templates of the trigger `copy`.
    rendered = server.request("GET", f"/1.0/containers/{name}-copy/files?path=/etc/hostname")[2]
    assert rendered.decode().strip() == f"{name}-copy"
    assert "volatile.apply_template" not in server.get(f"/1.0/containers/{name}-copy")["config"]


def test_what_cannot_be_copied_is_refused_with_lxds_words(server: Daemon, name: str) -> None:
    for source, more, words in [
        ("", {}, "must specify a source container"),
        ("nobody", {}, "not found"),
        (f"{name}/nobody", {}, "not found"),
        (
            *(name, {"stateful": True}),
            f'Copying stateful containers requires that source "{name}" and target "{name}-copy" name be identical',
        ),
        (name, {"profiles": ["nobody"]}, "Requested profile 'nobody' doesn't exist"),
    ]:
        with pytest.raises(ApiError) as refusal:
            copy(server, source, f"{name}-copy", **more)
        assert str(refusal.value) == words
    with pytest.raises(ApiError, match=f"^Container '{name}' already exists$"):
        copy(server, name, name)
    assert server.request("GET", f"/1.0/containers/{name}-copy")[0] == 404
