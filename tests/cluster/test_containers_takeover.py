"""A daemon takes over from one that was killed: what that had begun on the host, by schedules made by hand."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdnode.drivers.host.cgroup import Groups, Setting, detect
from lxdnode.drivers.runtime.configure import PAYLOAD
from lxdnode.node.containers.backups import Frozen
from lxdnode.node.containers.owners import Intent as Shift
from lxdnode.node.containers.records import CONTAINERS, KIND
from lxdnode.node.documents import View
from lxdnode.node.images.images import Intent
from lxdnode.node.notes import Notes
from lxdnode.raft import recovery
from tests.cluster.conftest import host_of
from tests.harness.daemons import Daemon, unhurried, within
from tests.harness.namespaces import HostError, run

pytestmark = pytest.mark.slow
URL = "/1.0/containers/c1"


@pytest.fixture
def body(server: Daemon, fingerprint: str) -> Iterator[dict[str, Any]]:
    """The request that makes a container `c1`, which is gone afterwards."""
    yield {"name": "c1", "source": {"type": "image", "fingerprint": fingerprint}}
    server.lxc("delete", "--force", "c1", check=False)


@pytest.fixture
def box(server: Daemon, body: dict[str, Any]) -> Path:
    """A container `c1` that runs; where the host keeps its notes."""
    server.post("/1.0/containers", body)
    change(server, "start")
    return server.directory / "devices/c1"


def change(server: Daemon, action: str, **fields: Any) -> None:
    """A transition of the container."""
    server.put(f"{URL}/state", {"action": action} | fields)


def status(server: Daemon) -> str:
    """How the container is."""
    found: str = server.get(URL)["status"]
    return found


def restart(server: Daemon) -> None:
    """kill -9, and another daemon."""
    server.kill()
    server.start().wait_ready()


def tools(path: Path) -> list[int]:
    """The processes that name a path in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(path).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_tool_does_not_go_on_after_its_daemon(server: Daemon, body: dict[str, Any]) -> None:
    volume = server.directory / "storage-pools/default/containers/c1"
    stopped: list[int] = []

    def stop_tool() -> bool:
        for pid in tools(volume):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        return bool(stopped)

    assert server.request("POST", "/1.0/containers", body)[0] == 202
    within(10, "the image is being unpacked", stop_tool)
    restart(server)
    assert tools(volume) == []
    assert not volume.exists()
    server.post("/1.0/containers", body)


def test_a_start_that_was_cut_short_is_taken_back(server: Daemon, box: Path) -> None:
    server.patch(URL, {"config": {"boot.autostart": "false"}})
    (box / "starting").touch()
    restart(server)
    assert not (box / "plugged").exists()
    within(unhurried(5), "it is known to be stopped", lambda: status(server) == "Stopped")
    change(server, "start")
    restart(server)
    assert status(server) == "Running"


@pytest.fixture
def gate(server: Daemon, box: Path, tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Has the container wait in a hook of liblxc: (a file that is there once it waits, one that lets it go on)."""

    def make(hook: str) -> tuple[Path, Path]:
        script, begun, go = tmp_path / "hook", tmp_path / "begun", tmp_path / "go"
        script.write_text(f"#!/bin/sh\ntouch {begun}\nuntil [ -e {go} ]; do sleep 0.02; done\n")
        script.chmod(0o755)
        change(server, "stop", force=True)
        go.touch()
        server.patch(URL, {"config": {"raw.lxc": f"lxc.hook.{hook} = {script}"}})
        change(server, "start")
        for file in (begun, go):
            file.unlink(missing_ok=True)
        return begun, go

    return make


def test_a_restart_that_was_cut_short_is_finished(server: Daemon, gate: Callable[[str], tuple[Path, Path]]) -> None:
    begun, go = gate("pre-start")
    assert server.request("PUT", f"{URL}/state", {"action": "restart", "force": True})[0] == 202
    within(10, "it is about to start", begun.exists)
    server.kill()
    server.start()
    within(unhurried(15), "the start of before is taken back", lambda: not tools(begun.with_name("hook")))
    go.touch()
    server.wait_ready()
    within(unhurried(10), "it runs again", lambda: status(server) == "Running")


def test_a_container_that_a_restore_has_stopped_starts_again(
    server: Daemon, gate: Callable[[str], tuple[Path, Path]]
) -> None:
    server.post(f"{URL}/snapshots", {"name": "s"})
    begun, go = gate("post-stop")
    server.patch(URL, {"config": {"user.a": "since"}})
    assert server.request("PUT", URL, {"restore": "s"})[0] == 202
    within(10, "it has been stopped", begun.exists)
    server.kill()
    go.touch()
    within(10, "all of it has ended", lambda: not tools(begun.with_name("hook")))
    server.start().wait_ready()
    within(unhurried(10), "it runs again", lambda: status(server) == "Running")
    assert server.get(URL)["config"]["user.a"] == "since"  # Its files had not been touched.


def test_a_device_that_was_half_plugged_is_plugged(server: Daemon, box: Path) -> None:
    nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth1"}
    server.patch(URL, {"devices": {"eth1": nic}})
    server.kill()
    plugged = json.loads((box / "plugged").read_text())
    assert plugged["eth1"]["entry"] == nic
    plugged["eth1"]["entry"] = {}
    (box / "plugged").write_text(json.dumps(plugged))
    server.start().wait_ready()
    within(unhurried(10), "it is plugged", lambda: json.loads((box / "plugged").read_text())["eth1"]["entry"] == nic)
    assert "eth1" in server.get(f"{URL}/state")["network"]
    assert run(*host_of(server).enter, "ip", "-o", "link").count("veth") == 2


def test_a_limit_that_was_not_in_force_yet_comes_into_force(server: Daemon, box: Path) -> None:
    server.patch(URL, {"config": {"limits.processes": "100"}})
    groups = Groups(detect(), server.get(f"{URL}/state")["pid"], PAYLOAD)
    server.kill()
    groups.write([Setting("pids", "pids.max", "max")])
    applied = json.loads((box / "applied").read_text())
    assert applied["config"].pop("limits.processes") == "100"
    (box / "applied").write_text(json.dumps(applied))
    server.start().wait_ready()
    within(unhurried(10), "it is in force", lambda: groups.read("pids", "pids.max") == "100")


def test_a_container_that_was_frozen_for_a_backup_goes_on(server: Daemon, box: Path) -> None:
    view = View(recovery.read(server.directory / "raft").state)
    groups = Groups(detect(), server.get(f"{URL}/state")["pid"], PAYLOAD)
    server.kill()
    Notes(server.directory / "notes").put("backups", "b", Frozen(view.named(CONTAINERS, KIND, "c1")[0]))
    groups.freeze(True)
    server.start().wait_ready()
    within(unhurried(5), "it goes on, and is known to", lambda: not groups.frozen and status(server) == "Running")


def test_files_of_an_image_that_no_document_speaks_of_are_gone(server: Daemon, fingerprint: str) -> None:
    images, notes = server.directory / "images", Notes(server.directory / "notes")
    for name in (fingerprint, "ab" * 32):
        (images / name).touch()
        notes.put("images", name, Intent())
    restart(server)
    assert [path.name for path in images.iterdir()] == [fingerprint]
    assert list(notes.all("images", Intent)) == []


@pytest.fixture
def pool(server: Daemon) -> Iterator[Path]:
    """A pool `over` on a file system whose owners the kernel cannot map."""
    parts = [server.directory.with_name(name) for name in ("lower", "upper", "work", "merged")]
    for part in parts:
        part.mkdir()
    options = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
    try:
        run("mount", "-t", "overlay", "overlay", "-o", options, str(parts[3]))
    except HostError as error:
        pytest.skip(f"no overlay here: {error}")
    restart(server)  # It sees what is mounted now.
    source = parts[3] / "pool"
    server.post("/1.0/storage-pools", {"name": "over", "driver": "dir", "config": {"source": str(source)}})
    yield source
    server.lxc("delete", "--force", "c1", check=False)
    server.delete("/1.0/storage-pools/over")
    server.kill()
    run("umount", "-l", str(parts[3]))
    server.start().wait_ready()


def owner(path: Path) -> int:
    """The user on the disk."""
    return path.lstat().st_uid


def test_a_shift_of_owners_that_was_cut_short_is_finished(server: Daemon, body: dict[str, Any], pool: Path) -> None:
    root = {"type": "disk", "path": "/", "pool": "over"}
    server.post("/1.0/containers", body | {"devices": {"root": root}})
    rootfs, wanted = pool / "containers/c1/rootfs", server.get(URL)["config"]["volatile.idmap.next"]
    base = json.loads(wanted)[0]["Hostid"]
    view = View(recovery.read(server.directory / "raft").state)
    server.kill()
    Notes(server.directory / "notes").put("owners", view.named(CONTAINERS, KIND, "c1")[0], Shift("[]", wanted))
    for path in (rootfs / "bin").iterdir():
        os.chown(path, base, base, follow_symlinks=False)
    server.start().wait_ready()
    assert {owner(path) for path in (rootfs, *rootfs.iterdir(), *(rootfs / "bin").iterdir())} == {base}
    assert server.get(URL)["config"]["volatile.last_state.idmap"] == wanted
    change(server, "start")
    assert server.lxc("exec", "-T", "c1", "--", "stat", "-c", "%u", "/bin/busybox").stdout == b"0\n"
