"""Proxy devices between a host and its container, set through a member that does not hold it, with real clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import host_of
from tests.harness.daemons import ApiError, Cluster, within
from tests.harness.echo import serve, talk

pytestmark = pytest.mark.slow


class Box:
    """A running container on the first member: `inside` and `outside` enter its and its host's network."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.api = cluster[2]
        self.name = name
        self.url = f"/1.0/containers/{name}"
        self.outside = host_of(cluster[1]).enter
        self.directory = cluster[1].directory

    @property
    def pid(self) -> int:
        found: int = self.api.get(f"{self.url}/state")["pid"]
        return found

    @property
    def inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--"]

    @property
    def root(self) -> int:
        """The host's id of the container's root."""
        return int(Path(f"/proc/{self.pid}/uid_map").read_text().split()[1])

    def path(self, path: str) -> str:
        """A path of the container as the host reaches it."""
        return f"/proc/{self.pid}/root{path}"

    def plug(self, listen: str, connect: str, **more: str) -> None:
        more = {key.replace("_", "."): value for key, value in more.items()}
        device = {"type": "proxy", "listen": listen, "connect": connect}
        self.api.patch(self.url, {"devices": {"px": device | more}})

    def unplug(self) -> None:
        self.api.patch(self.url, {"devices": {"px": {"type": "none"}}})

    def processes(self) -> list[str]:
        return [path.name for path in (self.directory / "devices" / self.name).glob("proxy.*")]


@pytest.fixture(scope="module")
def shared_box(cluster: Cluster, image: bytes) -> Iterator[Box]:
    fingerprint = cluster[1].ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    body = {"name": "px", "source": {"type": "image", "fingerprint": fingerprint}}
    cluster[2].post("/1.0/containers?target=m1", body)
    cluster[2].put("/1.0/containers/px/state", {"action": "start"})
    yield Box(cluster, "px")
    cluster[2].lxc("delete", "--force", "px")


@pytest.fixture
def box(shared_box: Box) -> Iterator[Box]:
    """The container, without a proxy afterwards."""
    yield shared_box
    shared_box.unplug()
    assert shared_box.processes() == []


@pytest.mark.extension("proxy")
def test_a_port_of_the_host_leads_to_the_container_while_it_runs(box: Box) -> None:
    box.plug("tcp:127.0.0.1:8080", "tcp:127.0.0.1:80")
    with serve(box.inside, "tcp:127.0.0.1:80"):
        assert talk(box.outside, "tcp:127.0.0.1:8080", "hello") == "tcp:127.0.0.1:80 hello"
        box.plug("tcp:127.0.0.1:8081", "tcp:127.0.0.1:80")
        assert talk(box.outside, "tcp:127.0.0.1:8081", "again") == "tcp:127.0.0.1:80 again"
        with pytest.raises(AssertionError, match="refused"):
            talk(box.outside, "tcp:127.0.0.1:8080", "hello")
    box.api.put(f"{box.url}/state", {"action": "stop", "force": True})
    with pytest.raises(AssertionError, match="refused"):
        talk(box.outside, "tcp:127.0.0.1:8081", "hello")
    box.api.put(f"{box.url}/state", {"action": "start"})
    with serve(box.inside, "tcp:127.0.0.1:80"):
        assert talk(box.outside, "tcp:127.0.0.1:8081", "anew") == "tcp:127.0.0.1:80 anew"


@pytest.mark.extension("proxy")
def test_a_port_of_the_container_leads_to_the_host(box: Box) -> None:
    box.plug("tcp:127.0.0.1:8080", "tcp:127.0.0.1:8090", bind="container")
    with serve(box.outside, "tcp:127.0.0.1:8090"):
        assert talk(box.inside, "tcp:127.0.0.1:8080", "hello") == "tcp:127.0.0.1:8090 hello"


@pytest.mark.extension("proxy")
def test_a_taken_port_and_wrong_words_are_refused(box: Box) -> None:
    with serve(box.outside, "tcp:127.0.0.1:8099"):
        words = "^Error when starting proxy device 'px' for container px: .*Address already in use"
        with pytest.raises(ApiError, match=words):
            box.plug("tcp:127.0.0.1:8099", "tcp:127.0.0.1:80")
    for listen, connect, more, words in [
        ("", "tcp:1.1.1.1:1", {}, 'Proxy device entry is missing the required "listen" property.'),
        ("tcp:1.1.1.1:1", "", {}, 'Proxy device entry is missing the required "connect" property.'),
        ("sctp:1.1.1.1:1", "tcp:1.1.1.1:1", {}, "Unknown connection type 'sctp'"),
        ("tcp:1.1.1.1:1", "tcp:1.1.1.1:1-2", {}, "Cannot map a single port to multiple ports"),
        ("tcp:1.1.1.1:5-2", "tcp:1.1.1.1:1", {}, "Invalid port range 5-2"),
        (
            "tcp:1.1.1.1:1",
            "tcp:1.1.1.1:1",
            {"mode": "0700"},
            "Only proxy devices for non-abstract unix sockets can carry uid, gid, or mode properties",
        ),
        (
            "tcp:1.1.1.1:1",
            "tcp:1.1.1.1:1",
            {"bind": "moon"},
            'Invalid binding side given. Must be "host" or "container".',
        ),
    ]:
        with pytest.raises(ApiError) as refused:
            box.plug(listen, connect, **more)
        assert str(refused.value) == words


@pytest.mark.extension("proxy_tcp_udp_multi_port_handling")
def test_ports_lead_by_position_or_all_to_one(box: Box) -> None:
    box.plug("tcp:127.0.0.1:8000-8001,8005", "tcp:127.0.0.1:9000,9002-9003")
    for outer, inner in ((8000, 9000), (8001, 9002), (8005, 9003)):
        with serve(box.inside, f"tcp:127.0.0.1:{inner}"):
            assert talk(box.outside, f"tcp:127.0.0.1:{outer}", "x") == f"tcp:127.0.0.1:{inner} x"
    box.plug("tcp:127.0.0.1:8000-8002", "tcp:127.0.0.1:9000")
    with serve(box.inside, "tcp:127.0.0.1:9000"):
        assert {talk(box.outside, f"tcp:127.0.0.1:{port}", "x") for port in (8000, 8001, 8002)} == {
            "tcp:127.0.0.1:9000 x"
        }


@pytest.mark.extension("proxy_udp")
def test_datagrams_find_their_way_and_back(box: Box) -> None:
    box.plug("udp:127.0.0.1:8053", "udp:127.0.0.1:53")
    with serve(box.inside, "udp:127.0.0.1:53"):
        for words in ("one", "two"):
            assert talk(box.outside, "udp:127.0.0.1:8053", words) == f"udp:127.0.0.1:53 {words}"
        box.plug("tcp:127.0.0.1:8054", "udp:127.0.0.1:53")
        assert talk(box.outside, "tcp:127.0.0.1:8054", "three") == "udp:127.0.0.1:53 three"
    with pytest.raises(ApiError, match="Proxying from udp to non-udp protocol is not supported"):
        box.plug("udp:127.0.0.1:8053", "tcp:127.0.0.1:53")


@pytest.mark.extension("proxy_unix")
def test_unix_sockets_of_both_kinds_and_their_descriptors(box: Box, tmp_path: Path) -> None:
    listen = str(tmp_path / "s")
    box.plug(f"unix:{listen}", "tcp:127.0.0.1:80")
    with serve(box.inside, "tcp:127.0.0.1:80"):
        assert talk(box.outside, f"unix:{listen}", "x") == "tcp:127.0.0.1:80 x"
    box.plug("tcp:127.0.0.1:8080", "unix:/root/inner")
    with serve([], "unix:inner", user=box.root, directory=box.path("/root")):
        assert talk(box.outside, "tcp:127.0.0.1:8080", "x").endswith(" x")
        box.plug(f"unix:{listen}", "unix:/root/inner")
        hostname = Path("/etc/hostname").read_text()
        assert talk(box.outside, f"unix:{listen}", "FD").endswith(f"FD {hostname}")
    box.plug("unix:/root/outer", "unix:@proxied", bind="container")
    with serve(box.outside, "unix:@proxied"):
        assert talk(box.inside, f"unix:{box.path('/root/outer')}", "x").endswith(" x")
    box.unplug()
    assert not Path(listen).exists() and not Path(box.path("/root/outer")).exists()


@pytest.mark.extension("proxy_unix_dac_properties")
def test_a_socket_file_has_the_owner_and_mode_that_it_is_given(box: Box, tmp_path: Path) -> None:
    box.plug(f"unix:{tmp_path}/s", "tcp:127.0.0.1:80", uid="1000", gid="1001", mode="0640")
    found = (tmp_path / "s").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1000, 1001, 0o640)
    box.plug("unix:/tmp/s", "tcp:127.0.0.1:80", bind="container", uid="5", mode="0600")
    shown = box.api.lxc("exec", "-T", box.name, "--", "stat", "-c", "%u %g %a", "/tmp/s").stdout
    assert shown == b"5 0 600\n"


@pytest.mark.extension("unix_priv_drop")
def test_the_process_gives_up_its_rights(box: Box, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o111)
    target = f"unix:{tmp_path}/s"
    with serve(box.outside, target):
        box.plug("tcp:127.0.0.1:8080", target, bind="container", security_uid="1000", security_gid="1000")
        assert talk(box.inside, "tcp:127.0.0.1:8080", "x") == f"{target}<1000> x"


def test_a_proxy_goes_on_while_the_daemon_is_away_and_is_ended_by_the_next_one(box: Box, cluster: Cluster) -> None:
    box.plug("tcp:127.0.0.1:8080", "tcp:127.0.0.1:80")
    pid = box.pid
    cluster[1].kill()
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]
    with serve(inside, "tcp:127.0.0.1:80"):
        assert talk(box.outside, "tcp:127.0.0.1:8080", "alone") == "tcp:127.0.0.1:80 alone"
    cluster[1].start().wait_ready()
    within(10, "an answer", lambda: box.api.get(f"{box.url}/state")["pid"] == pid)
    box.unplug()
    with pytest.raises(AssertionError, match="refused"):
        talk(box.outside, "tcp:127.0.0.1:8080", "hello")
