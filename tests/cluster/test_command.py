"""The `lxd-node` command, as a person uses it: setting up, joining, looking, leaving (issue: "lxd-node")."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.daemons import PASSWORD, Cluster, Daemon, within


@pytest.fixture
def servers(directory: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Two servers that were never set up."""
    made = Cluster(directory / tmp_path.name[-8:], 2, f"lxdc{os.getpid() % 1000}", "10.97.0")
    try:
        yield made.start()
    finally:
        made.stop()


def out(member: Daemon, *argv: str, stdin: str = "") -> str:
    return member.command(*argv, stdin=stdin.encode()).stdout.decode()


@pytest.mark.slow
def test_two_servers_become_a_cluster_by_hand_and_part_again(servers: Cluster) -> None:
    first, second = servers.members
    answers = ["y", "alpha", first.address, "n", PASSWORD, PASSWORD]
    out(first, "init", stdin="\n".join(answers) + "\n")
    assert json.loads(out(first, "cluster", "list", "--format", "json"))[0]["name"] == "alpha"
    assert first.get("/1.0/networks/lxdbr0")["managed"]

    fingerprint = first.get("/1.0")["environment"]["certificate_fingerprint"]
    join = ["cluster", "join", first.address, "--name", "beta", "--address", second.address, "--password", PASSWORD]
    wrong = second.command(*join, "--fingerprint", "00" * 32, check=False)
    assert wrong.returncode == 1
    assert f"the server shows the certificate {fingerprint}" in wrong.stderr.decode()
    assert "beta is now a member" in out(second, *join, "--fingerprint", fingerprint)

    listed = out(second, "cluster", "list", "--format", "csv").splitlines()
    assert [line.split(",")[0] for line in listed] == ["alpha", "beta"]
    assert out(second, "cluster", "leader").strip() == "alpha"
    assert "leader alpha, term" in out(second, "cluster", "status")
    assert json.loads(out(first, "cluster", "show", "beta", "--format", "json"))[0]["role"] == "spare"

    assert "beta was removed" in out(first, "cluster", "remove", "beta")
    within(10, "beta is a server of its own", lambda: not second.get("/1.0/cluster")["enabled"])
    gone = first.command("cluster", "show", "beta", check=False)
    assert (gone.returncode, gone.stderr.decode().strip()) == (
        1,
        "Error: there is no member called beta; see lxd-node cluster list",
    )


def test_auto_sets_up_a_server_and_a_failing_preseed_leaves_nothing(servers: Cluster) -> None:
    first, second = servers.members
    out(first, "init", "--auto", "--address", first.address, "--trust-password", PASSWORD)
    shown = first.get("/1.0/profiles/default")["devices"]
    assert (shown["root"]["pool"], shown["eth0"]["parent"]) == ("default", "lxdbr0")
    assert first.get("/1.0")["config"]["core.https_address"] == first.address

    wanted = {
        "config": {"images.auto_update_interval": 9},
        "storage_pools": [{"name": "fast", "driver": "dir"}],
        "profiles": [{"name": "odd", "config": {"nope": "1"}}],
    }
    failed = second.command("init", "--preseed", stdin=json.dumps(wanted).encode(), check=False)
    assert (failed.returncode, failed.stderr.decode().strip()) == (1, "Error: Unknown configuration key: nope")
    assert second.get("/1.0")["config"] == {}
    assert second.get("/1.0/storage-pools") == []
    both = second.command("init", "--auto", "--preseed", check=False)
    assert both.returncode == 2


def test_the_daemon_is_waited_for_and_shut_down(servers: Cluster) -> None:
    member = servers[1]
    out(member, "waitready", "--timeout", "5")
    assert out(member, "version").startswith("lxd-node ")
    assert "_lxd_node_completion" in out(member, "completion", "bash")
    out(member, "shutdown", "--timeout", "20")
    assert member.process is not None
    assert member.process.wait(5) == 0
    assert not member.socket.exists()
    late = member.command("waitready", "--timeout", "0.3", check=False)
    assert late.returncode == 1
    assert "Is the daemon running?" in late.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_and_leaves_containers_running(
    servers: Cluster, image: bytes, number: signal.Signals
) -> None:
    member = servers[1]
    out(member, "init", "--auto")
    member.post("/1.0/images", image)
    fingerprint = member.get("/1.0/images")[0].rsplit("/", 1)[1]
    member.post("/1.0/containers", {"name": "stays", "source": {"type": "image", "fingerprint": fingerprint}})
    member.put("/1.0/containers/stays/state", {"action": "start"})
    pid = member.get("/1.0/containers/stays/state")["pid"]
    member.signal(number)
    assert member.process is not None
    assert member.process.wait(10) == 0
    assert Path(f"/proc/{pid}").exists()
    member.start().wait_ready()
    assert member.get("/1.0/containers/stays/state")["pid"] == pid
    member.signal(signal.SIGPWR)
    assert member.process.wait(40) == 0
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_help_is_there_for_every_command(servers: Cluster) -> None:
    for words in ([], ["daemon"], ["init"], ["cluster"], ["cluster", "join"], ["shutdown"], ["completion"]):
        assert out(servers[1], *words, "--help").startswith("Usage: lxd-node")
    unknown = servers[1].command("clutser", check=False)
    assert unknown.returncode == 2
    assert "clutser" in unknown.stderr.decode()
