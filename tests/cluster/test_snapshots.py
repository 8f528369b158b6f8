"""Snapshots on real daemons: made, listed, renamed, restored and removed, through any member and over a crash."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.drivers.images.busybox import assemble, find_busybox, unified
from tests.harness.daemons import ApiError, Daemon, unhurried, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image_named_bb(server: Daemon, image: bytes) -> str:
    """The busybox image on the server."""
    done = server.ask("POST", "/1.0/images", image)
    server.post("/1.0/images/aliases", {"name": "bb", "target": done["metadata"]["fingerprint"]})
    return "bb"


@pytest.fixture
def name(server: Daemon, image_named_bb: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a stopped container with a file `/root/mark` that says `first`; it is gone afterwards."""
    made = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].rstrip("-")
    body = {"name": made, "source": {"type": "image", "alias": image_named_bb}, "config": {"user.a": "1"}}
    server.post("/1.0/containers", body)
    write(server, made, "first")
    yield made
    server.lxc("delete", "--force", made, check=False)


def write(server: Daemon, name: str, text: str) -> None:
    """Puts `text` into the mark of a container."""
    server.ask("POST", f"/1.0/containers/{name}/files?path=/root/mark", text.encode(), {"X-LXD-mode": "0644"})


def mark(server: Daemon, name: str) -> str:
    """What the mark of a container says."""
    return server.request("GET", f"/1.0/containers/{name}/files?path=/root/mark")[2].decode()


def snapshots(server: Daemon, name: str) -> list[str]:
    """The names of a container's snapshots, without the container's."""
    return [url.rpartition("/")[2] for url in server.get(f"/1.0/containers/{name}/snapshots")]


def folder(server: Daemon, name: str) -> Path:
    """Where the volumes of a container's snapshots are."""
    return server.directory / "storage-pools/default/snapshots" / name


def test_a_snapshot_is_what_the_container_was(server: Daemon, name: str) -> None:
    was = server.get(f"/1.0/containers/{name}")
    server.post(f"/1.0/containers/{name}/snapshots", {"name": "before"})
    server.patch(f"/1.0/containers/{name}", {"config": {"user.a": "2"}, "description": "changed"})
    assert server.get(f"/1.0/containers/{name}/snapshots") == [f"/1.0/containers/{name}/snapshots/before"]
    shown = server.get(f"/1.0/containers/{name}/snapshots/before")
    assert server.get(f"/1.0/containers/{name}/snapshots?recursion=1") == [shown]
    assert shown.pop("name") == f"{name}/before"
    assert shown.pop("created_at") > was["created_at"]
    assert shown == {key: was[key] for key in shown}
    assert set(shown) == {
        *("architecture", "config", "devices", "ephemeral", "profiles", "stateful", "last_used_at"),
        *("expanded_config", "expanded_devices"),
    }
    assert (server.directory / "snapshots" / name / "before/rootfs/root/mark").read_text() == "first"
    volume = server.get(f"/1.0/storage-pools/default/volumes/container/{name}/before")
    assert volume["used_by"] == [f"/1.0/containers/{name}/snapshots/before"]
    assert volume["used_by"][0] in server.get("/1.0/storage-pools/default")["used_by"]


def test_names_are_counted_up_and_renamed(server: Daemon, name: str) -> None:
    for _ in range(2):
        server.post(f"/1.0/containers/{name}/snapshots", {})
    server.post(f"/1.0/containers/{name}/snapshots", {"name": "snap7"})
    server.post(f"/1.0/containers/{name}/snapshots", {"name": ""})
    assert snapshots(server, name) == ["snap0", "snap1", "snap7", "snap8"]
    server.post(f"/1.0/containers/{name}/snapshots/snap1", {"name": "other"})
    assert snapshots(server, name) == ["snap0", "other", "snap7", "snap8"]
    assert sorted(path.name for path in folder(server, name).iterdir()) == ["other", "snap0", "snap7", "snap8"]
    for snapshot in snapshots(server, name):
        server.delete(f"/1.0/containers/{name}/snapshots/{snapshot}")
    assert snapshots(server, name) == []
    assert not folder(server, name).exists()
    assert not (server.directory / "snapshots" / name).is_symlink()


def test_a_restore_brings_back_files_and_configuration(server: Daemon, name: str) -> None:
    was = server.get(f"/1.0/containers/{name}")
    server.post(f"/1.0/containers/{name}/snapshots", {"name": "before"})
    write(server, name, "second")
    server.put(f"/1.0/containers/{name}", {"config": {"user.b": "2"}, "profiles": ["default"], "description": "x"})
    server.put(f"/1.0/containers/{name}", {"restore": "before"})
    assert mark(server, name) == "first"
    assert server.get(f"/1.0/containers/{name}") == was
    write(server, name, "third")
    server.put(f"/1.0/containers/{name}", {"restore": f"{name}/before"})
    assert mark(server, name) == "first"


def test_a_running_container_is_restored_and_runs_again(server: Daemon, name: str) -> None:
    server.put(f"/1.0/containers/{name}/state", {"action": "start"})
    first = server.get(f"/1.0/containers/{name}/state")["pid"]
    server.lxc("snapshot", name, "before")
    write(server, name, "second")
    server.lxc("restore", name, "before")
    state = server.get(f"/1.0/containers/{name}/state")
    assert state["status"] == "Running" and state["pid"] != first
    assert mark(server, name) == "first"
    assert server.lxc("exec", "-T", name, "--", "cat", "/root/mark").stdout == b"first"
    assert b"before" in server.lxc("info", name).stdout


def test_snapshots_go_and_move_with_their_container(server: Daemon, name: str) -> None:
    server.post(f"/1.0/containers/{name}/snapshots", {"name": "before"})
    server.post(f"/1.0/containers/{name}", {"name": f"{name}-new"})
    assert snapshots(server, f"{name}-new") == ["before"]
    assert server.get(f"/1.0/containers/{name}-new/snapshots/before")["name"] == f"{name}-new/before"
    assert not folder(server, name).exists()
    write(server, f"{name}-new", "second")
    server.put(f"/1.0/containers/{name}-new", {"restore": "before"})
    assert mark(server, f"{name}-new") == "first"
    server.delete(f"/1.0/containers/{name}-new")
    assert not folder(server, f"{name}-new").exists()
    assert server.request("GET", f"/1.0/containers/{name}-new/snapshots")[0] == 404


def test_what_is_wrong_is_refused_with_lxds_words(server: Daemon, name: str) -> None:
    here = f"/1.0/containers/{name}"
    server.post(f"{here}/snapshots", {"name": "before"})
    server.post(f"{here}/snapshots", {"name": "other"})
    for method, path, body, words in [
        ("POST", f"{here}/snapshots", {"name": "a/b"}, "Snapshot names may not contain slashes"),
        ("POST", f"{here}/snapshots", {"name": ".."}, "Invalid snapshot name: '..'"),
        ("POST", f"{here}/snapshots", {"name": "before"}, f"Snapshot '{name}/before' already exists"),
        (
            *("POST", f"{here}/snapshots", {"name": "s", "stateful": True}),
            "Unable to create a stateful snapshot. The container isn't running.",
        ),
        ("POST", f"{here}/snapshots/before", {"name": "a/b"}, "Snapshot names may not contain slashes"),
        ("POST", f"{here}/snapshots/before", {"name": ""}, "Snapshot name must not be empty"),
        ("POST", f"{here}/snapshots/before", {"name": "other"}, f"Name '{name}/other' already in use"),
        ("POST", f"{here}/snapshots/before", {"migration": True}, "A new name for the container must be provided"),
        ("POST", f"{here}/snapshots/nobody", {"name": "x"}, "not found"),
        ("DELETE", f"{here}/snapshots/nobody", None, "not found"),
        ("GET", f"{here}/snapshots/nobody", None, "not found"),
        ("PUT", f"{here}/snapshots/before", {}, "not implemented"),
        ("PUT", here, {"restore": "nobody"}, f"snapshot {name}/nobody does not exist"),
        (
            *("PUT", here, {"restore": "before", "stateful": True}),
            "Stateful snapshot restore requested by snapshot is stateless",
        ),
        ("PATCH", here, {"restore": "before"}, "Can't call PATCH in restore mode."),
    ]:
        with pytest.raises(ApiError) as refusal:
            server.ask(method, path, body)
        assert str(refusal.value) == words
    assert snapshots(server, name) == ["before", "other"]


@pytest.mark.extension("container_protection_delete")
def test_a_protected_container_stays_and_its_snapshots_may_go(server: Daemon, name: str) -> None:
    server.patch(f"/1.0/containers/{name}", {"config": {"security.protection.delete": "true"}})
    server.post(f"/1.0/containers/{name}/snapshots", {"name": "before"})
    assert server.request("DELETE", f"/1.0/containers/{name}")[0] == 202
    with pytest.raises(ApiError, match="^Container is protected$"):
        server.delete(f"/1.0/containers/{name}")
    server.delete(f"/1.0/containers/{name}/snapshots/before")
    assert mark(server, name) == "first" and snapshots(server, name) == []
    server.patch(f"/1.0/containers/{name}", {"config": {"security.protection.delete": "false"}})
    server.delete(f"/1.0/containers/{name}")
    assert server.request("GET", f"/1.0/containers/{name}")[0] == 404


def test_a_snapshot_never_takes_foreign_data_over(server: Daemon, name: str) -> None:
    foreign = folder(server, name) / "before"
    foreign.mkdir(parents=True)
    with pytest.raises(ApiError, match="are in the way: move .*/before away$"):
        server.post(f"/1.0/containers/{name}/snapshots", {"name": "before"})
    assert foreign.exists() and snapshots(server, name) == []
    assert server.get("/internal/cluster/status")["unknown"] == [str(foreign)]
    foreign.rmdir()
    foreign.parent.rmdir()


# A daemon that is killed half-way.


@pytest.fixture(scope="module")
def large(server: Daemon) -> Iterator[str]:
    """A container whose copying takes some time."""
    done = server.ask("POST", "/1.0/images", unified(assemble(find_busybox(), padding=160)))
    source = {"type": "image", "fingerprint": done["metadata"]["fingerprint"]}
    server.post("/1.0/containers", {"name": "large", "source": source, "config": {"user.a": "1"}})
    yield "large"
    server.lxc("delete", "--force", "large", check=False)


def restart(server: Daemon) -> None:
    """kill -9, and another daemon."""
    server.kill()
    server.start().wait_ready()


def test_a_snapshot_that_was_cut_short_is_gone(server: Daemon, large: str) -> None:
    assert server.request("POST", f"/1.0/containers/{large}/snapshots", {"name": "cut"})[0] == 202
    within(10, "copying", lambda: (folder(server, large) / "cut/rootfs").exists())
    restart(server)
    within(5, "no volume", lambda: not folder(server, large).exists())
    within(5, "the name is free", lambda: server.post(f"/1.0/containers/{large}/snapshots", {"name": "cut"}))
    server.delete(f"/1.0/containers/{large}/snapshots/cut")


def test_a_deletion_that_was_cut_short_is_finished(server: Daemon, large: str) -> None:
    server.post(f"/1.0/containers/{large}/snapshots", {"name": "gone"})
    assert server.request("DELETE", f"/1.0/containers/{large}/snapshots/gone")[0] == 202
    restart(server)
    if snapshots(server, large):  # Either it never began, or it is finished.
        server.delete(f"/1.0/containers/{large}/snapshots/gone")
    within(5, "no volume", lambda: not folder(server, large).exists())


def test_a_restore_that_was_cut_short_is_finished(server: Daemon, large: str) -> None:
    server.post(f"/1.0/containers/{large}/snapshots", {"name": "whole"})
    server.put(f"/1.0/containers/{large}/state", {"action": "start"})
    write(server, large, "second")
    server.patch(f"/1.0/containers/{large}", {"config": {"user.a": "2"}})
    assert server.request("PUT", f"/1.0/containers/{large}", {"restore": "whole"})[0] == 202
    notes = server.directory / "notes/snapshots"
    within(10, "a note of it", lambda: any(b"restore" in note.read_bytes() for note in notes.glob("[!.]*")))
    restart(server)
    within(unhurried(30), "running again", lambda: server.get(f"/1.0/containers/{large}")["status"] == "Running")
    assert server.get(f"/1.0/containers/{large}")["config"]["user.a"] == "1"
    assert server.request("GET", f"/1.0/containers/{large}/files?path=/root/mark")[0] == 404
    server.put(f"/1.0/containers/{large}/state", {"action": "stop", "force": True})
