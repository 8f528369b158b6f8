"""The certificates of servers and cluster, replaced while everything runs, and those that have expired."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.node import keypair
from lxdnode.node.fingerprint import fingerprint_of_pem
from lxdnode.node.keypair import KeyPair, make
from tests.cluster.conftest import POOL, host_of
from tests.harness.certificates import pair_until
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within

pytestmark = pytest.mark.slow

_SHOWN = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], 8443), timeout=5), end='')"


@pytest.fixture(scope="module")
def three(directory: Path) -> Iterator[Cluster]:
    """A cluster of three."""
    made = Cluster(directory / "t", 3, f"lxdk{os.getpid() % 1000}", "10.102.0")
    try:
        made.start().form(storage_pools=[POOL])
        within(15, "three vote", lambda: all(one["database"] for one in members(made[1])))
        yield made
    finally:
        made.stop()


def members(member: Daemon) -> list[dict[str, object]]:
    found: list[dict[str, object]] = member.get("/1.0/cluster/members?recursion=1")
    return found


def shown(member: Daemon) -> str:
    """The fingerprint of what a member shows to a client."""
    argv = [*host_of(member).enter, sys.executable, "-c", _SHOWN, member.address.removesuffix(":8443")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    return fingerprint_of_pem(done.stdout) if done.returncode == 0 else done.stderr


def kept(directory: Path, pair: KeyPair) -> list[str]:
    """The paths of certificate and key in a directory."""
    keypair.save(directory, "given", pair)
    return [str(directory / "given.crt"), str(directory / "given.key")]


def body(pair: KeyPair) -> dict[str, str]:
    return {"cluster_certificate": pair.certificate, "cluster_certificate_key": pair.key}


def all_show(cluster: Cluster, fingerprint: str) -> None:
    """Waits until every member shows a certificate, and says so."""
    for member in cluster.members:
        within(10, f"{member.name} shows it", lambda member=member: shown(member) == fingerprint)
        assert member.get("/1.0")["environment"]["certificate_fingerprint"] == fingerprint
        assert (member.directory / "cluster.key").stat().st_mode & 0o077 == 0


def all_write(cluster: Cluster, name: str) -> None:
    """Waits until each member can write, and sees what the others wrote."""
    for member in cluster.members:
        profile = {"name": f"{name}-{member.name}"}
        within(15, f"{member.name} writes", lambda member=member, profile=profile: write(member, profile))
    wanted = {f"/1.0/profiles/{name}-{member.name}" for member in cluster.members}
    for member in cluster.members:
        assert wanted <= set(member.get("/1.0/profiles"))


def write(member: Daemon, profile: dict[str, str]) -> bool:
    """Whether the profile is there now."""
    return member.request("POST", "/1.0/profiles", profile)[0] in (201, 409)


@pytest.mark.extension("clustering_update_cert")
def test_the_clusters_certificate_is_replaced_while_its_leader_is_away(three: Cluster, tmp_path: Path) -> None:
    away = three.leader()
    here = [member for member in three.members if member is not away]
    away.kill()
    pair = make()
    within(10, "there is another leader", lambda: here[0].get("/internal/cluster/status")["leader"] != away.name)
    here[0].lxc("cluster", "update-certificate", *kept(tmp_path, pair))
    within(5, "the other one shows it", lambda: shown(here[1]) == pair.fingerprint)
    assert here[1].get(f"/1.0/cluster/members/{here[0].name}")["status"] == "Online"
    away.start().wait_ready(30)
    all_show(three, pair.fingerprint)
    all_write(three, "after-lxc")


def test_a_member_that_lost_its_store_too_comes_back(three: Cluster, tmp_path: Path) -> None:
    lost = three[3] if three.leader() is not three[3] else three[2]
    lost.kill()
    shutil.rmtree(lost.directory / "raft")
    pair = make()
    said = three[1].command("cluster", "certificate", *kept(tmp_path, pair)).stdout.decode()
    assert said == "The cluster's certificate was replaced\n"
    lost.start().wait_ready(30)
    all_show(three, pair.fingerprint)
    all_write(three, "after-loss")
    for argv in (["store", "dump"], ["history", "--diff", "--since", "0"]):
        said = three[1].command(*argv).stdout.decode()
        assert pair.certificate.splitlines()[1] in said
        assert pair.key.splitlines()[1] not in said


@pytest.mark.parametrize("delay", [0.01, 0.03])
def test_a_member_that_dies_while_it_replaces_the_clusters_certificate_agrees(three: Cluster, delay: float) -> None:
    dying, pair = three[2], make()
    before = shown(three[1])
    die_during(dying, "/1.0/cluster/certificate", body(pair), delay)
    dying.start().wait_ready(30)
    agreed = within(10, "they agree", lambda: len(found := {shown(one) for one in three.members}) == 1 and found).pop()
    assert agreed in (before, pair.fingerprint)
    all_show(three, agreed)
    all_write(three, f"after-{delay}")


def die_during(member: Daemon, path: str, body: object, delay: float) -> None:
    """kill -9 so many seconds after a request was sent."""

    def ask() -> None:
        try:
            member.put(path, body)
        except (ApiError, OSError, ValueError):
            return

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(delay)
    member.kill()
    thread.join()


def bad_pairs() -> list[tuple[KeyPair, str]]:
    good, other = make(), make()
    return [
        (KeyPair("nonsense", good.key), "Certificate must be base64 encoded PEM certificate"),
        (KeyPair("", ""), "Certificate must be base64 encoded PEM certificate"),
        (KeyPair(good.certificate, "nonsense"), "Private key must be base64 encoded PEM key"),
        (KeyPair(good.certificate, other.key), "The private key does not belong to the certificate"),
        (pair_until(-2), "and not now"),
        (pair_until(1000), "and not now"),
        (pair_until(100, weak=True), "TLS cannot use this certificate"),
    ]


def test_a_pair_that_no_server_can_show_changes_nothing(three: Cluster) -> None:
    before, own = shown(three[1]), (three[2].directory / "server.crt").read_text()
    for pair, words in bad_pairs():
        for path, wanted in (
            ("/1.0/cluster/certificate", body(pair)),
            ("/internal/certificate?target=m2", {"certificate": pair.certificate, "key": pair.key}),
        ):
            with pytest.raises(ApiError, match=words) as refused:
                three[1].put(path, wanted)
            assert refused.value.code == 400
    all_show(three, before)
    assert (three[2].directory / "server.crt").read_text() == own


def test_a_members_own_key_is_replaced_through_another_member(three: Cluster, tmp_path: Path) -> None:
    member, shared, pair = three[2], shown(three[1]), make()
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(member.directory / "server.crt", old)
    shutil.copy(member.directory / "server.key", old)
    assert reads_as(three[1], old) == "200"
    three[1].command("certificate", "--member", "m2", *kept(tmp_path, pair))
    assert keypair.load(member.directory, "server") == pair
    assert reads_as(three[1], old) == "403"
    assert reads_as(three[1], member.directory) == "200"
    all_show(three, shared)
    all_write(three, "after-own")
    member.kill()
    member.start().wait_ready(30)
    all_write(three, "after-own-restart")


def reads_as(member: Daemon, keys: Path) -> str:
    """The status of a request for trusted callers, made with the key pair `server` of a directory."""
    pair = ["--cert", f"{keys}/server.crt", "--key", f"{keys}/server.key"]
    argv = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *pair, f"https://{member.address}/1.0/profiles"]
    return subprocess.run([*host_of(member).enter, *argv], capture_output=True, text=True, timeout=20).stdout


def test_a_members_own_key_stays_while_another_member_is_away(three: Cluster) -> None:
    pair, before = make(), (three[2].directory / "server.crt").read_text()
    three[3].kill()
    away = "Nothing was changed: m3 must know the new key before it is used"
    wanted = {"certificate": pair.certificate, "key": pair.key}
    within(10, "it is refused", lambda: away in three[2].request("PUT", "/internal/certificate", wanted)[2].decode())
    assert (three[2].directory / "server.crt").read_text() == before
    three[3].start().wait_ready(30)
    all_write(three, "after-away")


def test_a_members_own_key_stays_while_another_member_hangs(three: Cluster) -> None:
    pair, before = make(), (three[2].directory / "server.crt").read_text()
    leader = three[2].get("/internal/cluster/status")["leader"]
    hangs = three[1] if leader == "m3" else three[3]
    hangs.signal(signal.SIGSTOP)
    try:
        wanted = {"certificate": pair.certificate, "key": pair.key}
        status, _headers, data = three[2].request("PUT", "/internal/certificate", wanted)
    finally:
        hangs.signal(signal.SIGCONT)
    assert status == 503 and hangs.name in json.loads(data)["error"]
    assert (three[2].directory / "server.crt").read_text() == before
    dumped = three[2].command("store", "dump").stdout.decode()
    assert pair.fingerprint not in dumped and '"next_fingerprint"' in dumped
    all_write(three, "after-hang")


@pytest.mark.parametrize("delay", [0.01, 0.04])
def test_a_member_that_dies_while_it_takes_a_key_goes_on_with_one_of_the_two(three: Cluster, delay: float) -> None:
    member, pair = three[2], make()
    before = keypair.load(member.directory, "server")
    die_during(member, "/internal/certificate", {"certificate": pair.certificate, "key": pair.key}, delay)
    member.start().wait_ready(30)
    assert keypair.load(member.directory, "server") in (before, pair)
    all_write(three, f"after-own-{delay}")
    three[1].put("/internal/certificate?target=m2", {"certificate": pair.certificate, "key": pair.key})
    assert keypair.load(member.directory, "server") == pair


def test_expired_certificates_warn_and_stop_nothing(directory: Path) -> None:
    made = Cluster(directory / "old", 2, f"lxde{os.getpid() % 1000}", "10.104.0")
    first, second = made.members
    for member, days in ((first, -1.5), (second, 9.5)):
        member.directory.mkdir(parents=True)
        keypair.save(member.directory, "server", pair_until(days))
    try:
        made.start().form(storage_pools=[POOL])
        for member in made.members:
            status = member.get("/internal/cluster/status")
            assert status["certificate"] == "expired"
            assert [one["certificate"] for one in status["members"]] == ["expired", "expires in 9 days"]
            assert "the cluster's certificate: expired" in member.command("cluster", "status").stdout.decode()
            assert "a certificate must be replaced" in member.log()
        first.kill()
        first.start().wait_ready(30)
        all_write(made, "old")
        good = make()
        second.put("/1.0/cluster/certificate", body(good))
        all_show(made, good.fingerprint)
        assert first.get("/internal/cluster/status")["certificate"] == "valid"
    finally:
        made.stop()


def test_a_server_in_no_cluster_shows_its_own_and_who_joins_later_the_clusters(directory: Path, tmp_path: Path) -> None:
    made = Cluster(directory / "late", 2, f"lxdl{os.getpid() % 1000}", "10.105.0")
    try:
        first, joiner = made.start().members
        first.patch("/1.0", {"config": {"core.https_address": first.address, "core.trust_password": PASSWORD}})
        own, pair = make(), make()
        with pytest.raises(ApiError, match="lxd-node certificate replaces its own"):
            first.put("/1.0/cluster/certificate", body(pair))
        first.command("certificate", *kept(tmp_path, own))
        assert shown(first) == own.fingerprint
        assert first.get("/1.0")["environment"]["certificate"] == own.certificate
        first.kill()
        first.start().wait_ready()
        assert shown(first) == own.fingerprint
        first.post("/1.0/storage-pools", POOL)
        first.put("/1.0/cluster", {"enabled": True, "server_name": "m1"})
        first.put("/1.0/cluster/certificate", body(pair))
        made.join(joiner)
        all_show(made, pair.fingerprint)
        all_write(made, "late")
    finally:
        made.stop()


_HANG_UP = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(sys.argv[2] + "/server.crt", sys.argv[2] + "/server.key")
context.set_alpn_protocols(["lxd-node-raft/1"])
for hello in (b"", b"", b"\\xff" * 9, bytes.fromhex("0000001a82a474797065a568656c6c6fa7636c7573746572a56f74686572")):
    with context.wrap_socket(socket.create_connection((sys.argv[1], 8443), 5)) as stream:
        stream.sendall(hello)
        while len(hello) > 9 and stream.recv(4096):
            pass
"""


def test_a_member_that_hangs_up_or_says_something_else_ends_nobody(three: Cluster) -> None:
    enter = host_of(three[2]).enter
    address = three[1].address.removesuffix(":8443")
    subprocess.run([*enter, sys.executable, "-c", _HANG_UP, address, str(three[2].directory)], check=True, timeout=30)
    refused = "the other end says cluster other"
    within(5, "the last hello was refused", lambda: refused in three[1].log())
    all_write(three, "after-hang-up")
