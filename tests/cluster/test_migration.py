"""Containers between two servers by the real client, in each of its ways, and what is refused (spec/migration.md)."""

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import wrap_client_stream

from lxdnode.node.migration.messages import Header, encode_header
from tests.cluster.conftest import BRIDGE, POOL, PREFIX, PROFILE
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within
from tests.harness.monitor import Monitor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(directory: Path, image: bytes) -> Iterator[tuple[Daemon, Daemon]]:
    """Two servers that are not clustered; the first one's client knows the second as `other`, and the image as `bb`."""
    made = Cluster(directory / "p", 2, PREFIX + "p", "10.98.0")
    try:
        made.start()
        for member in made.members:
            member.patch("/1.0", {"config": {"core.https_address": member.address, "core.trust_password": PASSWORD}})
            member.post("/1.0/storage-pools", POOL)
            member.post("/1.0/networks", BRIDGE)
            member.put("/1.0/profiles/default", PROFILE)
        one, other = made.members
        done = one.ask("POST", "/1.0/images", image)
        one.post("/1.0/images/aliases", {"name": "bb", "target": done["metadata"]["fingerprint"]})
        one.lxc("remote", "add", "other", f"https://{other.address}", "--accept-certificate", f"--password={PASSWORD}")
        # Pull: the sink dials the first server, which the client reaches over a socket that has no address of its own.
        one.lxc("remote", "add", "this", f"https://{one.address}", "--accept-certificate", f"--password={PASSWORD}")
        yield one, other
    finally:
        made.stop()


def mark(server: Daemon, name: str, text: str) -> None:
    """Puts a file with an owner into a container."""
    headers = {"X-LXD-uid": "1000", "X-LXD-gid": "5", "X-LXD-mode": "0640"}
    server.ask("POST", f"/1.0/containers/{name}/files?path=/root/mark", text.encode(), headers)


def read(server: Daemon, name: str) -> tuple[str, str, str]:
    """(text, uid, gid) of the file of `mark`."""
    _status, headers, data = server.request("GET", f"/1.0/containers/{name}/files?path=/root/mark")
    return data.decode(), headers["x-lxd-uid"], headers["x-lxd-gid"]


@pytest.mark.extension("container_push")
@pytest.mark.extension("container_push_target")
@pytest.mark.parametrize(
    ("mode", "privileged"), [("pull", "false"), ("pull", "true"), ("push", "false"), ("relay", "false")]
)
def test_a_container_goes_with_its_snapshots(pair: tuple[Daemon, Daemon], mode: str, privileged: str) -> None:
    one, other = pair
    name = f"{mode}-{privileged}"
    one.lxc("init", "bb", name, "-c", "user.note=x", "-c", f"security.privileged={privileged}")
    one.lxc("start", name)
    mark(one, name, "first")
    one.lxc("snapshot", name, "before")
    one.lxc("stop", "--force", name)
    mark(one, name, "second")
    one.lxc("copy", f"this:{name}", f"other:{name}", "--mode", mode)
    copied = other.get(f"/1.0/containers/{name}")
    assert copied["config"]["user.note"] == "x" and copied["status"] == "Stopped"
    assert read(other, name) == ("second", "1000", "5")
    [snapshot] = other.get(f"/1.0/containers/{name}/snapshots?recursion=1")
    assert snapshot["name"] == f"{name}/before" and snapshot["config"]["user.note"] == "x"
    other.put(f"/1.0/containers/{name}/state", {"action": "start"})  # Its files are shifted to what they are here.
    assert read(other, name) == ("second", "1000", "5")
    other.lxc("restore", name, "before")
    assert read(other, name) == ("first", "1000", "5")
    other.lxc("delete", "--force", name)
    one.lxc("delete", name)


@pytest.mark.extension("container_stateless_copy")
@pytest.mark.extension("container_only_migration")
def test_a_running_container_is_copied_without_its_processes(pair: tuple[Daemon, Daemon]) -> None:
    one, other = pair
    one.lxc("launch", "bb", "runs")
    one.lxc("snapshot", "runs", "left")
    mark(one, "runs", "while it ran")
    with pytest.raises(AssertionError, match="CRIU isn't installed on the source server"):
        one.lxc("copy", "this:runs", "other:runs")
    one.lxc("copy", "this:runs", "other:runs", "--stateless", "--instance-only")
    assert read(other, "runs")[0] == "while it ran"
    assert other.get("/1.0/containers/runs/snapshots") == []
    assert one.get("/1.0/containers/runs")["status"] == "Running"
    assert other.get("/1.0/containers/runs")["status"] == "Stopped"
    other.lxc("delete", "runs")
    one.lxc("delete", "--force", "runs")


def test_a_snapshot_becomes_a_container_elsewhere(pair: tuple[Daemon, Daemon]) -> None:
    one, other = pair
    one.lxc("init", "bb", "from")
    mark(one, "from", "then")
    one.lxc("snapshot", "from", "s")
    mark(one, "from", "now")
    one.lxc("copy", "this:from/s", "other:became")
    assert read(other, "became")[0] == "then"
    other.lxc("delete", "became")
    one.lxc("delete", "from")


@pytest.mark.extension("migration_progress")
def test_both_ends_tell_how_far_the_files_are(pair: tuple[Daemon, Daemon]) -> None:
    one, other = pair
    one.lxc("init", "bb", "far")
    with (one.directory / "storage-pools/default/containers/far/rootfs/root/zeros").open("wb") as file:
        file.truncate(30_000_000)

    def poke(server: Daemon) -> None:
        server.post("/1.0/containers", {"name": "poke", "source": {"type": "none"}})
        server.delete("/1.0/containers/poke")

    watching = (Monitor(server, "operation", partial(poke, server)) for server in pair)
    with next(watching) as here, next(watching) as there:
        one.lxc("copy", "this:far", "other:far")
        for heard in (here, there):
            told = [(event["metadata"] or {}).get("fs_progress", "") for event in heard.heard()]
            assert any(re.fullmatch(r"far: 3\d\.\d\dMB \(\d+\.\d\d[MG]B/s\)", text) for text in told), told
    other.lxc("delete", "far")
    one.lxc("delete", "far")


def test_a_moved_container_is_here_no_more(pair: tuple[Daemon, Daemon]) -> None:
    one, other = pair
    one.lxc("init", "bb", "moves")
    address = one.get("/1.0/containers/moves")["config"]["volatile.eth0.hwaddr"]
    one.lxc("move", "this:moves", "other:moved")
    assert other.get("/1.0/containers/moved")["config"]["volatile.eth0.hwaddr"] == address
    with pytest.raises(ApiError, match="not found"):
        one.get("/1.0/containers/moves")
    other.lxc("delete", "moved")


def test_what_breaks_leaves_nothing(pair: tuple[Daemon, Daemon]) -> None:
    one, other = pair
    one.lxc("init", "bb", "breaks")
    sent = json.loads(
        one.request("POST", "/1.0/containers/breaks", {"name": "breaks", "migration": True, "live": False})[2]
    )["metadata"]
    secrets = sent["metadata"]
    assert sorted(secrets) == ["control", "fs"] and sent["class"] == "websocket"
    source = {
        "type": "migration",
        "mode": "pull",
        "operation": f"https://{one.address}/1.0/operations/{sent['id']}",
        "secrets": secrets,
        "certificate": (other.directory / "server.crt").read_text(),
    }
    wanted = {"name": "breaks", "architecture": "x86_64", "source": source}
    with pytest.raises(ApiError, match="it shows the certificate"):
        other.post("/1.0/containers", wanted)
    source["certificate"] = "nonsense"
    with pytest.raises(ApiError, match="Invalid certificate"):
        other.post("/1.0/containers", wanted)
    source["certificate"] = (one.directory / "server.crt").read_text()
    source["secrets"] = {"control": "0" * 64, "fs": "0" * 64}
    with pytest.raises(ApiError, match="refuses the websocket"):
        other.post("/1.0/containers", wanted)
    source["secrets"] = {"control": secrets["control"]}
    with pytest.raises(ApiError, match="Missing fs secret"):
        other.post("/1.0/containers", wanted)
    within(5, "nothing is left", lambda: other.get("/1.0/containers") == [])
    assert not (other.directory / "storage-pools/default/containers/breaks").exists()
    source["secrets"] = secrets
    other.post("/1.0/containers", wanted)  # The source still waits.
    one.delete("/1.0/containers/breaks")
    other.delete("/1.0/containers/breaks")


def test_a_container_that_waits_for_its_data_can_be_deleted(pair: tuple[Daemon, Daemon]) -> None:
    _one, other = pair
    source = {"type": "migration", "mode": "push"}
    wanted = {"name": "waits", "architecture": "x86_64", "source": source}
    status, _headers, data = other.request("POST", "/1.0/containers", wanted)
    operation = json.loads(data)["metadata"]["id"]
    assert status == 202
    assert other.get("/1.0/containers/waits")["status"] == "Stopped"
    other.delete("/1.0/containers/waits")
    assert other.get("/1.0/containers") == []
    assert other.get(f"/1.0/operations/{operation}")["err"] == "The container was deleted before its data came"


def test_a_container_whose_source_says_no_more_can_be_deleted(pair: tuple[Daemon, Daemon]) -> None:
    _one, other = pair
    wanted = {"name": "stalls", "architecture": "x86_64", "source": {"type": "migration", "mode": "push"}}
    made = json.loads(other.request("POST", "/1.0/containers", wanted)[2])["metadata"]

    async def stall() -> None:
        async with AsyncExitStack() as streams, trio.open_nursery() as nursery:
            sockets = {}
            for name, secret in made["metadata"].items():
                stream: Any = await streams.enter_async_context(await trio.open_unix_socket(str(other.socket)))
                path = f"/1.0/operations/{made['id']}/websocket?secret={secret}"
                sockets[name] = await wrap_client_stream(nursery, stream, "lxd", path)
            await sockets["control"].send_message(encode_header(Header()))
            await sockets["control"].get_message()  # Now it waits for files.
            await trio.to_thread.run_sync(other.delete, "/1.0/containers/stalls")
            nursery.cancel_scope.cancel()

    trio.run(stall)
    assert other.get("/1.0/containers") == []
    assert not (other.directory / "storage-pools/default/containers/stalls").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"source": {"type": "migration", "mode": "nosuch"}}, "Mode 'nosuch' not implemented"),
        ({"source": {"type": "migration", "mode": "push"}, "architecture": ""}, "Architecture isn't supported"),
        ({"source": {"type": "migration", "mode": "push"}, "profiles": ["nosuch"]}, "profile 'nosuch' doesn't exist"),
        ({"source": {"type": "migration", "mode": "push", "live": True}}, "CRIU isn't installed on the destination"),
    ],
)
def test_a_wrong_request_is_refused_at_once(pair: tuple[Daemon, Daemon], body: dict[str, object], words: str) -> None:
    status, _headers, data = pair[1].request(
        "POST", "/1.0/containers", {"name": "wrong", "architecture": "x86_64", **body}
    )
    assert status >= 400 and words in json.loads(data)["error"]


@pytest.mark.extension("storage_api_remote_volume_handling")
@pytest.mark.parametrize("mode", ["pull", "push", "relay"])
def test_a_custom_volume_goes_to_another_server(pair: tuple[Daemon, Daemon], mode: str) -> None:
    one, other = pair
    if mode == "pull":
        one.lxc("storage", "volume", "create", "default", "data")
        (one.directory / "storage-pools/default/custom/data/file").write_text("content")
    one.lxc("storage", "volume", "copy", "this:default/data", f"other:default/{mode}", "--mode", mode)
    assert (other.directory / f"storage-pools/default/custom/{mode}/file").read_text() == "content"
    other.lxc("storage", "volume", "delete", "default", mode)
    assert one.get("/1.0/storage-pools/default/volumes/custom/data")["name"] == "data"


def test_a_volume_that_did_not_come_is_not_there(pair: tuple[Daemon, Daemon]) -> None:
    one, other = pair
    source = {
        "type": "migration",
        "mode": "pull",
        "operation": f"https://{one.address}/1.0/operations/nosuch",
        "secrets": {"control": "0", "fs": "0"},
        "certificate": (one.directory / "server.crt").read_text(),
    }
    with pytest.raises(ApiError, match="refuses the websocket"):
        other.post("/1.0/storage-pools/default/volumes/custom", {"name": "half", "source": source})
    assert "/1.0/storage-pools/default/volumes/custom/half" not in other.get(
        "/1.0/storage-pools/default/volumes/custom"
    )
