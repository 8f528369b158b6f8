"""Where a member listens, for clients and for the other members, changed while everything runs."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import POOL, host_of
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, within
from tests.harness.namespaces import run

pytestmark = pytest.mark.slow


def inner(member: Daemon) -> str:
    """host:port of a member on the network that the members have for themselves."""
    return f"10.101.1.{member.name[1:]}:7443"


@pytest.fixture
def two(directory: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Two servers with a second network between them; the first is a cluster that uses it for its members."""
    made = Cluster(directory / tmp_path.name[-8:], 2, f"lxda{os.getpid() % 1000}", "10.101.0")
    try:
        made.start()
        for member in made.members:
            address = inner(member).removesuffix(":7443")
            run("ip", "-n", host_of(member).namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        wanted = {
            "config": {
                "core.https_address": made[1].address,
                "cluster.https_address": inner(made[1]),
                "core.trust_password": PASSWORD,
            },
            "cluster": {"enabled": True, "server_name": "m1"},
            "storage_pools": [POOL],
        }
        made[1].command("init", "--preseed", stdin=json.dumps(wanted).encode())
        yield made
    finally:
        made.stop()


def join(two: Cluster) -> None:
    """Lets the second server join through the first one's address for members, with such an address of its own."""
    wanted = {
        "config": {"core.https_address": two[2].address, "cluster.https_address": inner(two[2])},
        "cluster": {
            "enabled": True,
            "server_name": "m2",
            "server_address": inner(two[2]),
            "cluster_address": inner(two[1]),
            "cluster_certificate": (two[1].directory / "cluster.crt").read_text(),
            "cluster_password": PASSWORD,
            "member_config": [{"entity": "storage-pool", "name": "default", "key": "source", "value": ""}],
        },
    }
    two[2].command("init", "--preseed", stdin=json.dumps(wanted).encode())


def answers(member: Daemon, address: str) -> bool:
    """Whether a client is served at an address."""
    argv = [*host_of(member).enter, "curl", "-sk", "--max-time", "5", f"https://{address}/1.0"]
    return subprocess.run(argv, capture_output=True, timeout=10).returncode == 0


def urls(member: Daemon) -> list[str]:
    return [one["url"] for one in member.get("/1.0/cluster/members?recursion=1")]


def links(member: Daemon) -> str:
    """The established TCP connections in a member's namespace."""
    return run("nsenter", f"--net=/run/netns/{host_of(member).namespace}", "ss", "-tnH", "state", "established")


def test_members_use_an_address_of_their_own_and_clients_either(two: Cluster) -> None:
    join(two)
    for member in two.members:
        assert urls(member) == [f"https://{inner(two[1])}", f"https://{inner(two[2])}"]
        config = member.get("/1.0")["config"]
        assert (config["core.https_address"], config["cluster.https_address"]) == (member.address, inner(member))
        for other in two.members:
            assert answers(member, other.address)
            assert answers(member, inner(other))
    assert ":7443" in links(two[1])
    assert ":8443" not in links(two[1])
    # Killed before it could know that its join was committed, and back before the clients' network is there.
    two[2].kill()
    address = ["10.101.0.2/24", "dev", "eth0"]
    run("ip", "-n", host_of(two[2]).namespace, "addr", "del", *address)
    two[2].start().wait_ready(30)
    within(5, "the other address is listened on", lambda: answers(two[1], inner(two[2])))
    assert not answers(two[1], two[2].address)
    run("ip", "-n", host_of(two[2]).namespace, "addr", "add", *address)
    within(10, "the address that came late is listened on", lambda: answers(two[1], two[2].address))


def test_the_address_for_members_moves_live_through_the_other_member(two: Cluster) -> None:
    join(two)
    moved = inner(two[2]).replace(":7443", ":7444")
    two[1].patch("/1.0?target=m2", {"config": {"cluster.https_address": moved}})
    assert urls(two[1])[1] == f"https://{moved}"
    assert answers(two[1], moved) and not answers(two[1], inner(two[2]))
    assert two[1].get("/1.0?target=m2")["config"]["cluster.https_address"] == moved
    assert two[1].get("/1.0")["config"]["cluster.https_address"] == inner(two[1])
    two[2].post("/1.0/profiles", {"name": "moved"})
    # Without one of its own the members use the API's; then the API's may go, as long as there is one for them.
    two[2].patch("/1.0", {"config": {"cluster.https_address": ""}})
    assert urls(two[1])[1] == f"https://{two[2].address}"
    assert not answers(two[1], moved)
    two[2].patch("/1.0", {"config": {"core.https_address": "", "cluster.https_address": moved}})
    assert urls(two[1])[1] == f"https://{moved}"
    assert answers(two[1], moved) and not answers(two[1], two[2].address)
    two[1].kill()
    two[1].start().wait_ready(30)
    profile = {"name": "and-back"}
    within(10, "they are linked again", lambda: two[2].request("POST", "/1.0/profiles", profile)[0] == 201)
    assert "/1.0/profiles/and-back" in two[1].get("/1.0/profiles")


REFUSED = [
    ({"cluster.https_address": "10.101.1.2:22"}, "cannot listen on https socket: Address already in use"),
    ({"cluster.https_address": "10.101.1.2:99999"}, "cannot listen on https socket: Invalid address"),
    ({"cluster.https_address": "0.0.0.0:7443"}, "Wildcard addresses aren't allowed"),
    ({"cluster.https_address": "", "core.https_address": "[::]:8443"}, "other members cannot reach"),
    ({"cluster.https_address": "", "core.https_address": ""}, "no core.https_address config is set"),
    ({"cluster.https_address": "10.101.1.2:7444", "core.https_address": "192.0.2.9:8443"}, "cannot listen on https"),
]
_OCCUPY = "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2]))); sys.stdin.read()"


def test_a_bad_address_changes_nothing(two: Cluster) -> None:
    join(two)
    member, enter = two[2], host_of(two[2]).enter
    before = member.get("/1.0")["config"]
    with subprocess.Popen([*enter, "python3", "-c", _OCCUPY, "10.101.1.2", "22"], stdin=subprocess.PIPE) as occupier:
        within(5, "the port is taken", lambda: "10.101.1.2:22 " in run(*enter, "ss", "-tlnH"))
        for config, words in REFUSED:
            with pytest.raises(ApiError, match=words):
                member.patch("/1.0", {"config": config})
        occupier.communicate()
    assert member.get("/1.0")["config"] == before
    assert urls(two[1]) == [f"https://{inner(two[1])}", f"https://{inner(member)}"]
    assert answers(two[1], member.address) and answers(two[1], inner(member))
    assert not answers(two[1], "10.101.1.2:7444")


def test_a_wildcard_is_joined_with_the_address_that_members_use(two: Cluster) -> None:
    joiner = two[2]
    joiner.patch("/1.0", {"config": {"core.https_address": "[::]:8443"}})
    wanted = {
        "enabled": True,
        "server_name": "m2",
        "server_address": joiner.address,
        "cluster_address": two[1].address,
        "cluster_certificate": (two[1].directory / "cluster.crt").read_text(),
        "cluster_password": PASSWORD,
        "member_config": [{"entity": "storage-pool", "name": "default", "key": "source", "value": ""}],
    }
    with pytest.raises(ApiError, match="^A different core.https_address is already set on this node$"):
        joiner.put("/1.0/cluster", {**wanted, "server_address": inner(joiner)})
    joiner.put("/1.0/cluster", wanted)
    config = joiner.get("/1.0")["config"]
    assert (config["core.https_address"], config["cluster.https_address"]) == ("[::]:8443", joiner.address)
    assert urls(two[1])[1] == f"https://{joiner.address}"
