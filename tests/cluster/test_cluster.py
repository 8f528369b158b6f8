"""Members of one cluster: forming it, answering for each other, losing and taking back members (spec/clustering.md)."""

import json
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from tests.cluster.conftest import POOL, host_of
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within


def roles(member: Daemon) -> dict[str, bool]:
    """name -> votes, as a member sees it."""
    return {one["server_name"]: one["database"] for one in member.get("/1.0/cluster/members?recursion=1")}


def profiles(member: Daemon) -> set[str]:
    return {url.rsplit("/", 1)[1] for url in member.get("/1.0/profiles")}


@pytest.mark.extension("clustering")
def test_every_member_shows_the_same_three_members(cluster: Cluster) -> None:
    for member in cluster.members:
        shown = member.get("/1.0/cluster/members?recursion=1")
        assert [one["server_name"] for one in shown] == ["m1", "m2", "m3"]
        assert {one["status"] for one in shown} == {"Online"}
        assert {one["message"] for one in shown} == {"fully operational"}
        assert [one["url"] for one in shown] == [f"https://{other.address}" for other in cluster.members]
        environment = member.get("/1.0")["environment"]
        assert (environment["server_clustered"], environment["server_name"]) == (True, member.name)
    within(10, "all three vote", lambda: all(roles(cluster[1]).values()))


@pytest.mark.extension("clustering_join")
def test_a_joining_member_is_asked_for_the_keys_that_each_has_for_itself(cluster: Cluster) -> None:
    shown = cluster[2].get("/1.0/cluster")
    assert (shown["server_name"], shown["enabled"]) == ("m2", True)
    source = {"entity": "storage-pool", "name": "default", "key": "source", "value": ""}
    assert source | {"description": '"source" property for storage pool "default"'} in shown["member_config"]


def test_what_is_written_through_one_member_is_read_through_all(cluster: Cluster) -> None:
    for number, member in enumerate(cluster.members):
        member.post("/1.0/profiles", {"name": f"seen{number}"})
        for other in cluster.members:
            assert f"seen{number}" in profiles(other)
    cluster[3].delete("/1.0/profiles/seen0")
    assert "seen0" not in profiles(cluster[1])


def test_of_two_writes_with_one_etag_through_two_members_one_is_refused(cluster: Cluster) -> None:
    cluster[1].post("/1.0/profiles", {"name": "raced"})
    _status, headers, _body = cluster[2].request("GET", "/1.0/profiles/raced")
    match = {"If-Match": headers["etag"]}
    cluster[1].ask("PUT", "/1.0/profiles/raced", {"config": {"user.by": "1"}}, match)
    with pytest.raises(ApiError, match="ETag doesn't match") as refused:
        cluster[3].ask("PUT", "/1.0/profiles/raced", {"config": {"user.by": "3"}}, match)
    assert refused.value.code == 412
    assert cluster[2].get("/1.0/profiles/raced")["config"] == {"user.by": "1"}


def test_a_change_repeated_under_its_transaction_id_is_done_once(cluster: Cluster) -> None:
    id = {"X-LXD-Node-Transaction": str(uuid.uuid4())}
    cluster[1].ask("POST", "/1.0/profiles", {"name": "once"}, id)
    cluster[2].ask("POST", "/1.0/profiles", {"name": "once"}, id)
    cluster[3].delete("/1.0/profiles/once")
    cluster[3].ask("POST", "/1.0/profiles", {"name": "once"}, id)
    assert "once" not in profiles(cluster[1])
    with pytest.raises(ApiError, match="uuid"):
        cluster[1].ask("POST", "/1.0/profiles", {"name": "x"}, {"X-LXD-Node-Transaction": "not one"})


def test_the_words_for_unknown_members_and_targets_are_lxds(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="^Node 'm9' not found$") as missing:
        cluster[1].get("/1.0/cluster/members/m9")
    assert missing.value.code == 404
    with pytest.raises(ApiError, match="already exists") as taken:
        cluster[1].post("/1.0/cluster/members/m2", {"server_name": "m3"})
    assert taken.value.code == 409
    with pytest.raises(ApiError, match="ServerName is required when enabling clustering"):
        cluster[1].put("/1.0/cluster", {"enabled": True})
    with pytest.raises(ApiError, match="inconsistent state: found leftover cluster certificate"):
        cluster[1].put("/1.0/cluster", {"enabled": True, "server_name": "again"})


def test_a_member_is_renamed_through_another_one(cluster: Cluster) -> None:
    cluster[1].post("/1.0/cluster/members/m2", {"server_name": "zwei"})
    assert "zwei" in roles(cluster[3])
    cluster[1].post("/1.0/cluster/members/zwei", {"server_name": "m2"})


def test_a_wrong_password_leaves_no_trace_and_the_join_can_be_repeated(cluster: Cluster, directory: Path) -> None:
    cluster.switch.up(4)
    joiner = Daemon(directory / "m4", cluster.switch.host(4), "m4").start().wait_ready()
    try:
        wanted = {
            "enabled": True,
            "server_name": "m4",
            "server_address": joiner.address,
            "cluster_address": cluster[2].address,
            "cluster_certificate": (cluster[1].directory / "cluster.crt").read_text(),
            "cluster_password": "wrong",
            "member_config": [{"entity": "storage-pool", "name": "default", "key": "source", "value": ""}],
        }
        with pytest.raises(ApiError, match="Failed to setup cluster trust.*not authorized"):
            joiner.put("/1.0/cluster", wanted)
        assert set(roles(cluster[1])) == {"m1", "m2", "m3"}
        assert joiner.get("/1.0/cluster")["enabled"] is False
        assert not (joiner.directory / "cluster.crt").exists()
        taken = wanted | {"cluster_password": PASSWORD, "server_name": "m3"}
        with pytest.raises(ApiError, match="failed to request to add node: cluster already has node with name m3"):
            joiner.put("/1.0/cluster", taken)
        joiner.put("/1.0/cluster", wanted | {"cluster_password": PASSWORD})
        assert set(roles(cluster[3])) == {"m1", "m2", "m3", "m4"}
        assert "/1.0/storage-pools/default" in joiner.get("/1.0/storage-pools")
        cluster[2].delete("/1.0/cluster/members/m4")
        assert set(roles(cluster[1])) == {"m1", "m2", "m3"}
        within(10, "the removed member is a server of its own", lambda: not joiner.get("/1.0/cluster")["enabled"])
        assert joiner.get("/1.0/storage-pools") == []
    finally:
        joiner.stop()


def test_a_server_with_containers_is_not_let_in(cluster: Cluster, directory: Path) -> None:
    cluster.switch.up(4)
    joiner = Daemon(directory / "m5", cluster.switch.host(4), "m5").start().wait_ready()
    try:
        joiner.post("/1.0/storage-pools", POOL)
        root = {"root": {"type": "disk", "path": "/", "pool": "default"}}
        joiner.post("/1.0/containers", {"name": "mine", "devices": root, "source": {"type": "none"}})
        with pytest.raises(ApiError, match="containers: mine"):
            joiner.put(
                "/1.0/cluster",
                {
                    "enabled": True,
                    "server_name": "m5",
                    "server_address": joiner.address,
                    "cluster_address": cluster[1].address,
                    "cluster_certificate": (cluster[1].directory / "cluster.crt").read_text(),
                    "cluster_password": PASSWORD,
                },
            )
        assert set(roles(cluster[1])) == {"m1", "m2", "m3"}
    finally:
        joiner.stop()


class Writer:
    """Creates profiles through one member, twenty a second, and remembers which were acknowledged."""

    def __init__(self, member: Daemon, prefix: str) -> None:
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self._member, self._prefix = member, prefix
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(0.05):
            name = f"{self._prefix}{number}"
            number += 1
            try:
                self._member.post("/1.0/profiles", {"name": name})
            except (ApiError, OSError) as error:
                self.failures.append(str(error))
            else:
                self.acknowledged.append(name)


def test_the_leader_is_killed_under_load_and_nothing_acknowledged_is_lost(cluster: Cluster) -> None:
    within(10, "all three vote", lambda: all(roles(cluster[1]).values()))
    leader = cluster.leader()
    other = next(member for member in cluster.members if member is not leader)
    with Writer(other, "load") as writer:
        within(10, "writes are acknowledged", lambda: len(writer.acknowledged) > 5)
        leader.kill()
        killed, before = time.monotonic(), len(writer.acknowledged)
        within(2, "a write through another member succeeds", lambda: len(writer.acknowledged) > before + 1)
        assert time.monotonic() - killed < 2
        within(10, "writes go on", lambda: len(writer.acknowledged) > before + 20)
    leader.start().wait_ready()
    within(10, "the killed member has caught up", lambda: set(writer.acknowledged) <= profiles(leader))
    for member in cluster.members:
        assert set(writer.acknowledged) <= profiles(member)


def test_with_one_member_off_definitions_change_and_it_has_them_when_it_is_back(cluster: Cluster) -> None:
    absent = next(member for member in cluster.members if member is not cluster.leader())
    others = [member for member in cluster.members if member is not absent]
    absent.kill()
    others[0].post("/1.0/profiles", {"name": "meanwhile"})
    others[1].delete("/1.0/profiles/meanwhile")
    others[0].post("/1.0/profiles", {"name": "stays"})
    absent.start().wait_ready()
    within(10, "the absent member has the change", lambda: "stays" in profiles(absent))
    assert "meanwhile" not in profiles(absent)


@pytest.mark.slow
def test_an_offline_member_is_seen_within_the_threshold(cluster: Cluster) -> None:
    cluster[1].patch("/1.0", {"config": {"cluster.offline_threshold": "5"}})
    gone = next(member for member in cluster.members if member is not cluster.leader())
    watcher = next(member for member in cluster.members if member is not gone)
    gone.kill()
    try:
        shown = within(
            8,
            "it is offline",
            lambda: [
                one
                for one in watcher.get("/1.0/cluster/members?recursion=1")
                if one["server_name"] == gone.name and one["status"] == "Offline"
            ],
        )
        assert shown[0]["message"].startswith("no heartbeat since ")
    finally:
        gone.start().wait_ready()
        watcher.patch("/1.0", {"config": {"cluster.offline_threshold": ""}})
    within(5, "it is online again", lambda: watcher.get(f"/1.0/cluster/members/{gone.name}")["status"] == "Online")


def test_without_a_quorum_reads_answer_stale_and_writes_fail_at_once(cluster: Cluster) -> None:
    first, *others = cluster.members
    for member in others:
        member.kill()
    try:
        started = time.monotonic()
        status, headers, body = within(10, "reads are stale", lambda: stale(first))
        assert status == 200 and json.loads(body)["stale"] == int(headers["x-lxd-node-stale"])
        started = time.monotonic()
        with pytest.raises(ApiError, match="No quorum") as refused:
            first.post("/1.0/profiles", {"name": "lost"})
        assert refused.value.code == 503
        assert time.monotonic() - started < 1
    finally:
        for member in others:
            member.start()
        for member in others:
            member.wait_ready()
    within(10, "writes succeed again", lambda: first.post("/1.0/profiles", {"name": "found"}) is None)
    assert "lost" not in profiles(first)


def stale(member: Daemon) -> tuple[int, dict[str, str], bytes] | None:
    """The answer of a list, once it says that it is stale."""
    answer = member.request("GET", "/1.0/profiles")
    return answer if "x-lxd-node-stale" in answer[1] else None


HALF_A_HELLO = """
import socket, ssl, sys
directory, host, port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(directory + "/server.crt", directory + "/server.key")
context.set_alpn_protocols(["lxd-node-raft/1"])
with context.wrap_socket(socket.create_connection((host, int(port)))) as stream:
    stream.sendall(b"\\0\\0")
"""


def test_a_stream_of_a_member_that_dies_in_its_first_words_harms_nobody(cluster: Cluster) -> None:
    first, second = cluster[1], cluster[2]
    enter, (address, port) = host_of(second).enter, first.address.split(":")
    script = [*enter, sys.executable, "-c", HALF_A_HELLO, str(second.directory), address, port]
    subprocess.run(script, check=True, timeout=20)
    within(5, "it is noticed", lambda: "a member's stream ended" in first.log())
    assert first.process is not None and first.process.poll() is None
    assert second.get("/1.0/cluster/members")
