"""Storage pools and custom volumes through real daemons (spec/rest.md 9, spec/storage.md)."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow

POOLS = "/1.0/storage-pools"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({}, 400, "No name provided"),
        ({"name": "a/b", "driver": "dir"}, 400, "Storage pool names may not contain slashes"),
        ({"name": "p"}, 400, "No driver provided"),
        ({"name": "p", "driver": "ext4"}, 500, "Invalid value: ext4 (not one of [btrfs ceph dir lvm zfs])"),
        ({"name": "p", "driver": "ceph"}, 500, 'The "ceph" storage driver is not served by this version'),
        ({"name": "default", "driver": "dir"}, 500, "The storage pool already exists"),
        ({"name": "p", "driver": "dir", "config": {"x": "y"}}, 500, "Invalid storage pool configuration key: x"),
        (
            {"name": "p", "driver": "dir", "config": {"size": "1GB"}},
            500,
            "the key size cannot be used with DIR storage pools",
        ),
        ({"name": "p", "driver": "dir", "config": {"source": "x"}}, 500, 'invalid "source" property'),
    ],
)
def test_a_wrong_pool_is_refused_with_lxds_words(server: Daemon, body: object, code: int, words: str) -> None:
    with pytest.raises(ApiError, match=r".") as refused:
        server.post(POOLS, body)
    assert (refused.value.code, str(refused.value)[: len(words)]) == (code, words)
    assert server.get(POOLS) == [f"{POOLS}/default"]


def test_a_pool_lives_in_a_directory_of_the_client(server: Daemon, directory: Path) -> None:
    source = directory / "elsewhere"
    server.post(POOLS, {"name": "p1", "driver": "dir", "config": {"source": str(source)}})
    assert server.get(f"{POOLS}/p1")["config"] == {"source": str(source), "volatile.initial_source": str(source)}
    server.post(f"{POOLS}/p1/volumes/custom", {"name": "v1"})
    assert (source / "custom/v1").is_dir()
    resources = server.get(f"{POOLS}/p1/resources")
    assert resources["space"]["total"] > resources["space"]["used"] > 0
    with pytest.raises(ApiError, match='storage pool "p1" has volumes attached to it'):
        server.delete(f"{POOLS}/p1")
    server.delete(f"{POOLS}/p1/volumes/custom/v1")
    server.delete(f"{POOLS}/p1")
    assert not source.exists()


def test_a_pool_elsewhere_is_in_use_again_after_a_restart(server: Daemon, directory: Path) -> None:
    source = directory / "remounted"
    server.post(POOLS, {"name": "p5", "driver": "dir", "config": {"source": str(source)}})
    server.post(f"{POOLS}/p5/volumes/custom", {"name": "v1"})
    server.kill()  # with the daemon goes its mount namespace, and the pool's bind mount
    server.start().wait_ready()
    server.post(f"{POOLS}/p5/volumes/custom", {"name": "v2"})
    assert {path.name for path in (source / "custom").iterdir()} == {"v1", "v2"}
    for name in ("v1", "v2"):
        server.delete(f"{POOLS}/p5/volumes/custom/{name}")
    server.delete(f"{POOLS}/p5")


def test_a_directory_with_data_is_neither_taken_nor_removed(server: Daemon, directory: Path) -> None:
    source = directory / "precious"
    source.mkdir()
    (source / "file").write_text("x")
    with pytest.raises(ApiError, match="The provided directory is not empty"):
        server.post(POOLS, {"name": "p2", "driver": "dir", "config": {"source": str(source)}})
    within(5, "nothing of the pool is left", lambda: server.get(POOLS) == [f"{POOLS}/default"])
    assert (source / "file").read_text() == "x"


def test_only_what_may_change_changes(server: Daemon) -> None:
    status, headers, _body = server.request("GET", f"{POOLS}/default")
    assert status == 200
    server.patch(f"{POOLS}/default", {"config": {"rsync.bwlimit": "100", "user.note": "x"}})
    shown = server.get(f"{POOLS}/default")
    assert shown["config"]["rsync.bwlimit"] == "100" and shown["config"]["source"]
    stale = {"If-Match": headers["etag"]}
    assert server.request("PUT", f"{POOLS}/default", {"config": shown["config"]}, stale)[0] == 412
    with pytest.raises(ApiError, match=r'The \[source\] properties cannot be changed for "dir" storage pools'):
        server.put(f"{POOLS}/default", {"config": {}})
    server.put(f"{POOLS}/default", {"config": {"source": shown["config"]["source"]}, "description": "d"})
    assert server.get(f"{POOLS}/default")["description"] == "d"
    assert "user.note" not in server.get(f"{POOLS}/default")["config"]


@pytest.mark.extension("storage_rsync_bwlimit")
def test_the_rate_of_copies_follows_the_pools_limit(server: Daemon) -> None:
    devices = {"root": {"type": "disk", "path": "/", "pool": "slow"}}
    server.post(POOLS, {"name": "slow", "driver": "dir", "config": {"rsync.bwlimit": "1MB"}})
    server.post("/1.0/containers", {"name": "big", "source": {"type": "none"}, "devices": devices})
    server.ask("POST", "/1.0/containers/big/files?path=/noise", os.urandom(3_000_000))

    def seconds(change: Callable[[], object]) -> float:
        began = time.monotonic()
        change()
        return time.monotonic() - began

    def copy(name: str) -> Callable[[], object]:
        return lambda: server.post("/1.0/containers", {"name": name, "source": {"type": "copy", "source": "big"}})

    try:
        assert seconds(copy("one")) > 2
        assert seconds(lambda: server.post("/1.0/containers/big/snapshots", {"name": "s"})) > 2
        server.patch(f"{POOLS}/slow", {"config": {"rsync.bwlimit": "0"}})
        assert seconds(copy("two")) < 2
    finally:
        for name in ("big", "one", "two"):
            server.lxc("delete", name, check=False)
        server.delete(f"{POOLS}/slow")


def test_a_pool_that_a_profile_names_stays(server: Daemon) -> None:
    server.post(POOLS, {"name": "p3", "driver": "dir"})
    disk = {"type": "disk", "path": "/mnt", "source": "v", "pool": "p3"}
    server.post("/1.0/profiles", {"name": "uses-p3", "devices": {"data": disk}})
    with pytest.raises(ApiError, match='Storage pool "p3" has profiles using it:\nuses-p3'):
        server.delete(f"{POOLS}/p3")
    assert server.get(f"{POOLS}/p3")["used_by"] == ["/1.0/profiles/uses-p3"]
    server.delete("/1.0/profiles/uses-p3")
    server.delete(f"{POOLS}/p3")


def test_a_volume_is_made_copied_renamed_and_removed(server: Daemon) -> None:
    volumes = f"{POOLS}/default/volumes"
    server.post(f"{volumes}/custom", {"name": "v1", "description": "first", "config": {"user.a": "b"}})
    with pytest.raises(ApiError, match="a storage volume of type custom does already exist"):
        server.post(volumes, {"name": "v1", "type": "custom"})
    path = server.directory / "storage-pools/default/custom"
    (path / "v1/file").write_text("x")
    server.post(volumes, {"name": "v2", "type": "custom", "source": {"type": "copy", "name": "v1", "pool": "default"}})
    server.post(f"{volumes}/custom/v2", {"name": "v3"})
    assert (path / "v3/file").read_text() == "x"
    shown = server.get(f"{volumes}?recursion=1")
    assert [(volume["name"], volume["location"]) for volume in shown] == [("v1", "none"), ("v3", "none")]
    assert server.get(f"{volumes}/custom/v1")["config"] == {"user.a": "b"}
    server.patch(f"{volumes}/custom/v1?target=none", {"config": {"user.a": "", "user.c": "d"}})
    assert server.get(f"{volumes}/custom/v1")["config"] == {"user.c": "d"}
    assert server.get(f"{volumes}/custom/v1")["description"] == "first"
    for name in ("v1", "v3"):
        server.delete(f"{volumes}/custom/{name}")
    assert server.get(volumes) == [] and not list(path.iterdir())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "custom"}, "No name provided"),
        ({"name": "a/b", "type": "custom"}, "Storage volume names may not contain slashes"),
        ({"name": "v"}, "You must provide a storage volume type of the storage volume"),
        ({"name": "v", "type": "image"}, "Currently not allowed to create storage volumes of type image"),
        ({"name": "v", "type": "custom", "source": {"type": "magic"}}, "unknown source type magic"),
        ({"name": "v", "type": "custom", "config": {"size": "1GB"}}, "the key size cannot be used with dir"),
    ],
)
def test_a_wrong_volume_is_refused_with_lxds_words(server: Daemon, body: object, words: str) -> None:
    with pytest.raises(ApiError, match=words):
        server.post(f"{POOLS}/default/volumes", body)
    assert server.get(f"{POOLS}/default/volumes") == []


def test_data_that_no_document_speaks_of_is_listed_and_kept(server: Daemon) -> None:
    server.post(f"{POOLS}/default/volumes/custom", {"name": "known"})
    stray = server.directory / "storage-pools/default/custom/stray"
    stray.mkdir()
    (stray / "file").write_text("x")
    (server.directory / "images").mkdir(exist_ok=True)
    lost = server.directory / "images" / ("0" * 64)
    lost.write_text("x")
    assert f"unknown data, adopt or remove by hand: {stray}" in server.command("cluster", "status").stdout.decode()
    assert server.get("/internal/cluster/status")["unknown"] == [str(stray), str(lost)]
    server.kill()
    server.start().wait_ready()
    with pytest.raises(ApiError, match="exists already; it is not taken over"):
        server.post(f"{POOLS}/default/volumes/custom", {"name": "stray"})
    assert (stray / "file").read_text() == "x" and lost.exists()
    shutil.rmtree(stray)
    lost.unlink()
    server.delete(f"{POOLS}/default/volumes/custom/known")
    assert server.get("/internal/cluster/status")["unknown"] == []


def test_a_volume_in_use_stays(server: Daemon) -> None:
    server.post(f"{POOLS}/default/volumes/custom", {"name": "used"})
    disk = {"type": "disk", "path": "/mnt", "source": "custom/used", "pool": "default"}
    server.post("/1.0/profiles", {"name": "uses", "devices": {"data": disk}})
    with pytest.raises(ApiError, match="The storage volume is still in use by containers or profiles"):
        server.delete(f"{POOLS}/default/volumes/custom/used")
    server.post(f"{POOLS}/default/volumes/custom/used", {"name": "renamed"})
    assert server.get("/1.0/profiles/uses")["devices"]["data"] == {**disk, "source": "custom/renamed"}
    server.delete("/1.0/profiles/uses")
    server.delete(f"{POOLS}/default/volumes/custom/renamed")


def test_the_client_drives_pools_and_volumes(server: Daemon) -> None:
    server.lxc("storage", "create", "p4", "dir", "user.a=b")
    server.lxc("storage", "volume", "create", "p4", "v1")
    assert b"v1" in server.lxc("storage", "volume", "list", "p4").stdout
    server.lxc("storage", "volume", "set", "p4", "v1", "user.x", "y")
    assert server.lxc("storage", "volume", "get", "p4", "v1", "user.x").stdout.strip() == b"y"
    server.lxc("storage", "volume", "copy", "p4/v1", "p4/v2")
    server.lxc("storage", "volume", "rename", "p4", "v2", "v3")
    server.lxc("storage", "volume", "move", "p4/v3", "default/v4")
    server.lxc("storage", "volume", "delete", "default", "v4")
    server.lxc("storage", "volume", "delete", "p4", "v1")
    server.lxc("storage", "delete", "p4")


# In a cluster.


def test_a_pool_is_made_on_every_member_in_one_step(cluster: Cluster) -> None:
    cluster[2].post(POOLS, {"name": "one", "driver": "dir"})
    for member in cluster.members:
        assert (member.directory / "storage-pools/one").is_dir()
        shown = member.get(f"{POOLS}/one")
        assert (shown["status"], shown["locations"], shown["config"]) == ("Created", ["m1", "m2", "m3"], {})
        own = member.get(f"{POOLS}/one?target={member.name}")["config"]
        assert own == {"source": str(member.directory / "storage-pools/one")}
    with pytest.raises(ApiError, match="node-specific config key source can't be changed"):
        cluster[1].patch(f"{POOLS}/one", {"config": {"source": "/x"}})
    cluster[3].patch(f"{POOLS}/one", {"config": {"rsync.bwlimit": "10"}})
    assert cluster[1].get(f"{POOLS}/one")["config"] == {"rsync.bwlimit": "10"}
    cluster[3].delete(f"{POOLS}/one")
    assert not any((member.directory / "storage-pools/one").exists() for member in cluster.members)


@pytest.mark.extension("storage_volatile_initial_source")
def test_a_pool_is_defined_member_by_member_and_then_made(cluster: Cluster, directory: Path) -> None:
    def define(target: str, **config: str) -> None:
        cluster[1].post(f"{POOLS}?target={target}", {"name": "two", "driver": "dir", "config": config})

    with pytest.raises(ApiError, match="Config key 'rsync.bwlimit' may not be used as node-specific key"):
        define("m1", **{"rsync.bwlimit": "1"})
    with pytest.raises(ApiError, match="not found") as missing:
        define("m9")
    assert missing.value.code == 404
    define("m1")
    define("m2", source=str(directory / "two-on-m2"))
    with pytest.raises(ApiError, match="The storage pool already defined on node m2"):
        define("m2")
    shown = cluster[3].get(f"{POOLS}/two")
    assert (shown["status"], shown["locations"]) == ("Pending", ["m1", "m2"])
    with pytest.raises(ApiError, match="Pool not defined on nodes: m3"):
        cluster[1].post(POOLS, {"name": "two", "driver": "dir"})
    define("m3")
    with pytest.raises(ApiError, match="Config key 'source' is node-specific"):
        cluster[1].post(POOLS, {"name": "two", "driver": "dir", "config": {"source": "/x"}})
    cluster[3].post(POOLS, {"name": "two", "driver": "dir", "description": "d"})
    own = cluster[1].get(f"{POOLS}/two?target=m2")["config"]
    assert own["source"] == own["volatile.initial_source"] == str(directory / "two-on-m2")
    assert cluster[1].get(f"{POOLS}/two")["status"] == "Created"
    with pytest.raises(ApiError, match="pool is not in pending state"):
        define("m1")
    cluster[1].delete(f"{POOLS}/two")
    assert not (directory / "two-on-m2").exists()


def test_a_member_that_fails_is_named_and_nothing_stays(cluster: Cluster) -> None:
    blocked = cluster[2].directory / "storage-pools/three"
    blocked.mkdir(parents=True)
    (blocked / "file").write_text("x")
    with pytest.raises(ApiError, match="member m2: The provided directory is not empty"):
        cluster[1].post(POOLS, {"name": "three", "driver": "dir"})
    assert f"{POOLS}/three" not in cluster[3].get(POOLS)
    within(5, "m1 and m3 have removed theirs", lambda: not _on(cluster, "three", 1) and not _on(cluster, "three", 3))
    assert (blocked / "file").read_text() == "x"
    (blocked / "file").unlink()
    cluster[1].post(POOLS, {"name": "three", "driver": "dir"})
    cluster[1].delete(f"{POOLS}/three")


def _on(cluster: Cluster, pool: str, number: int) -> bool:
    return (cluster[number].directory / "storage-pools" / pool).exists()


@pytest.mark.extension("storage_api_local_volume_handling")
def test_a_volume_is_copied_and_moved_between_pools(cluster: Cluster) -> None:
    cluster[1].post(POOLS, {"name": "far", "driver": "dir"})
    volumes, far = f"{POOLS}/default/volumes", f"{POOLS}/far/volumes"
    cluster[1].post(f"{volumes}/custom?target=m2", {"name": "data", "description": "d"})
    (cluster[2].directory / "storage-pools/default/custom/data/file").write_text("x")
    source = {"type": "copy", "name": "data", "pool": "default"}
    cluster[3].post(f"{far}/custom?target=m2", {"name": "copied", "source": source})
    assert (cluster[2].directory / "storage-pools/far/custom/copied/file").read_text() == "x"
    disk = {"type": "disk", "path": "/mnt", "source": "custom/data", "pool": "default"}
    cluster[1].post("/1.0/profiles", {"name": "moves", "devices": {"data": disk}})
    cluster[3].post(f"{volumes}/custom/data", {"name": "moved", "pool": "far"})
    assert (cluster[2].directory / "storage-pools/far/custom/moved/file").read_text() == "x"
    assert cluster[1].get(volumes) == []
    assert cluster[1].get(f"{far}/custom/moved")["used_by"] == ["/1.0/profiles/moves"]
    assert cluster[1].get("/1.0/profiles/moves")["devices"]["data"]["pool"] == "far"
    cluster[1].delete("/1.0/profiles/moves")
    for name in ("copied", "moved"):
        cluster[1].delete(f"{far}/custom/{name}")
    cluster[1].delete(f"{POOLS}/far")


@pytest.mark.extension("storage_api_volume_rename")
def test_volumes_belong_to_members(cluster: Cluster) -> None:
    volumes = f"{POOLS}/default/volumes"
    cluster[1].post(f"{volumes}/custom?target=m2", {"name": "v1"})
    assert (cluster[2].directory / "storage-pools/default/custom/v1").is_dir()
    assert cluster[3].get(f"{volumes}/custom/v1")["location"] == "m2"
    assert cluster[1].get(f"{volumes}/custom") == []
    assert cluster[1].get(volumes) == [f"{volumes}/custom/v1"]
    cluster[1].post(f"{volumes}/custom", {"name": "v1"})
    with pytest.raises(ApiError, match="more than one node has a volume named v1"):
        cluster[3].get(f"{volumes}/custom/v1")
    cluster[3].post(f"{volumes}/custom/v1?target=m2", {"name": "v2"})
    assert cluster[1].get(f"{volumes}/custom/v2")["location"] == "m2"
    for member, name in ((1, "v1"), (3, "v2")):
        cluster[member].delete(f"{volumes}/custom/{quote(name)}")


def test_a_member_that_was_away_has_what_was_made_and_loses_what_was_deleted(cluster: Cluster) -> None:
    cluster[1].post(POOLS, {"name": "old", "driver": "dir"})
    cluster[3].kill()
    within(10, "m3 is missed", lambda: cluster[1].post(POOLS, {"name": "new", "driver": "dir"}) is None)
    cluster[1].delete(f"{POOLS}/old")
    assert cluster[2].get(f"{POOLS}/new")["status"] == "Created"
    assert f"{POOLS}/old" not in cluster[2].get(POOLS)
    cluster[1].post(POOLS, {"name": "old", "driver": "dir"})
    cluster[3].start().wait_ready()
    within(10, "m3 has the new pool", lambda: _on(cluster, "new", 3))
    within(10, "all have the second old", lambda: cluster[3].get(f"{POOLS}/old?target=m3")["config"].get("source"))
    for name in ("old", "new"):
        cluster[2].delete(f"{POOLS}/{name}")
    assert not _on(cluster, "old", 3) and not _on(cluster, "new", 3)


@pytest.mark.extension("storage")
def test_a_volume_is_mounted_in_containers(cluster: Cluster, image: bytes) -> None:
    fingerprint = cluster[1].ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    volumes = f"{POOLS}/default/volumes/custom"
    cluster[1].post(f"{volumes}?target=m2", {"name": "shared"})
    disk = {"type": "disk", "path": "/srv", "source": "shared", "pool": "default"}
    source = {"type": "image", "fingerprint": fingerprint}
    for name in ("v1", "v2"):
        body = {"name": name, "source": source, "devices": {"data": disk}}
        cluster[1].post("/1.0/containers?target=m2", body)
        cluster[1].put(f"/1.0/containers/{name}/state", {"action": "start"})
    cluster[3].lxc("exec", "v1", "--", "sh", "-c", "echo hello >/srv/file")
    assert cluster[1].lxc("exec", "v2", "--", "cat", "/srv/file").stdout == b"hello\n"
    assert (cluster[2].directory / "storage-pools/default/custom/shared/file").read_text() == "hello\n"
    shown = cluster[3].get(f"{volumes}/shared")
    assert shown["used_by"] == ["/1.0/containers/v1", "/1.0/containers/v2"]
    with pytest.raises(ApiError, match="The storage volume is still in use by containers or profiles"):
        cluster[1].delete(f"{volumes}/shared")
    for name in ("v1", "v2"):
        cluster[1].put(f"/1.0/containers/{name}/state", {"action": "stop", "force": True})
        cluster[1].delete(f"/1.0/containers/{name}")
    cluster[1].delete(f"{volumes}/shared")
    cluster[1].delete(f"/1.0/images/{fingerprint}")


@pytest.mark.slow
def test_what_a_dead_member_had_begun_is_finished(cluster: Cluster) -> None:
    within(10, "all three vote", lambda: _voters(cluster) == 3)
    cluster[3].signal(signal.SIGSTOP)
    asked = threading.Thread(target=_ask_in_vain, args=(cluster[2],))
    asked.start()
    within(5, "the pool is begun", lambda: _on(cluster, "begun", 1))
    cluster[2].kill()
    cluster[3].signal(signal.SIGCONT)
    asked.join()
    within(10, "there is a leader again", lambda: cluster[1].get(POOLS))
    assert cluster[1].get(f"{POOLS}/begun")["status"] == "Pending"
    within(45, "the leader's member has ended it", lambda: cluster[1].get(f"{POOLS}/begun")["status"] == "Created")
    cluster[2].start().wait_ready()
    within(10, "m2 has it", lambda: _on(cluster, "begun", 2))
    cluster[1].delete(f"{POOLS}/begun")


def _voters(cluster: Cluster) -> int:
    members = cluster[1].get("/internal/cluster/status")["members"]
    return sum(member["role"] != "spare" for member in members)


def _ask_in_vain(member: Daemon) -> None:
    with pytest.raises(OSError, match=r".*"):
        member.post(POOLS, {"name": "begun", "driver": "dir"})
