"""What containers learn about themselves through /dev/lxd/sock, and that they learn of nobody else."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import guest
from tests.harness.daemons import Cluster, Daemon, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fingerprint(cluster: Cluster, image: bytes) -> str:
    """The busybox image, which the third member alone has."""
    found: str = cluster[3].ask("POST", "/1.0/images", image)["metadata"]["fingerprint"]
    return found


class Box:
    """A container on the first member that is changed through the second one."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.api: Daemon = cluster[2]
        self.name = name
        self.url = f"/1.0/containers/{name}"

    @property
    def pid(self) -> int:
        found: int = self.api.get(f"{self.url}/state")["pid"]
        return found

    @property
    def root(self) -> int:
        """The host's id of the container's root."""
        return int(Path(f"/proc/{self.pid}/uid_map").read_text().split()[1])

    def ask(self, path: str, uid: int = 0) -> tuple[int, bytes]:
        """Status and body, asked as the container's user `uid`."""
        return guest.ask(self.pid, path, self.root + uid)

    def read(self, path: str) -> Any:
        status, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def configure(self, **config: str) -> None:
        self.api.patch(self.url, {"config": {key.replace("_", "."): value for key, value in config.items()}})

    def has_socket(self) -> bool:
        return Path(f"/proc/{self.pid}/root/dev/lxd/sock").exists()


Make = Callable[..., Box]


@pytest.fixture
def make(cluster: Cluster, fingerprint: str) -> Iterator[Make]:
    """Makes running containers, which are gone afterwards."""
    made: list[Box] = []

    def create(**config: str) -> Box:
        box = Box(cluster, f"guest-{len(made)}")
        made.append(box)
        body = {"name": box.name, "source": {"type": "image", "fingerprint": fingerprint}}
        config = {key.replace("_", "."): value for key, value in config.items()}
        box.api.post("/1.0/containers?target=m1", body | {"config": config})
        box.api.put(f"{box.url}/state", {"action": "start"})
        return box

    yield create
    for box in made:
        box.api.lxc("delete", "--force", box.name, check=False)


@pytest.mark.parametrize("privileged", ["false", "true"], ids=["unprivileged", "privileged"])
def test_a_container_reads_its_own_keys(make: Make, privileged: str) -> None:
    box = make(user_a="1", user_b="two words", **{"user_meta-data": "extra: yes", "security_privileged": privileged})
    assert box.read("/") == ["/1.0"]
    assert box.read("/1.0") == {"api_version": "1.0"}
    assert box.read("/1.0/config") == ["/1.0/config/user.a", "/1.0/config/user.b", "/1.0/config/user.meta-data"]
    assert box.ask("/1.0/config/user.b") == (200, b"two words")
    expected = f"#cloud-config\ninstance-id: {box.name}\nlocal-hostname: {box.name}\nextra: yes"
    assert box.ask("/1.0/meta-data") == (200, expected.encode())
    assert box.ask("/1.0/config/user.none") == (404, b"not found\n")
    assert box.ask("/1.0/config/volatile.idmap.base") == (403, b"not authorized\n")
    assert box.ask("/1.0/containers") == (404, b"not found\n")


@pytest.mark.extension("restrict_devlxd")
def test_only_root_asks_and_only_about_its_own_container(make: Make) -> None:
    one, other = make(user_a="one"), make(user_a="other")
    assert one.ask("/1.0/config/user.a") == (200, b"one") and other.ask("/1.0/config/user.a") == (200, b"other")
    assert one.ask("/1.0", uid=1000) == (401, b"Access denied for non-root user\n")
    # The host's root is nobody's root, and no path leads from one container to the socket of another one.
    assert guest.ask(one.pid, "/1.0", 0)[0] == 401
    assert one.api.lxc("exec", "-T", one.name, "--", "ls", "/dev/lxd").stdout == b"sock\n"
    assert one.api.lxc("exec", "-T", one.name, "--", "rm", "/dev/lxd/sock", check=False).returncode != 0


def test_others_cannot_keep_root_out(make: Make) -> None:
    box = make(user_a="1")
    with guest.hold(box.pid, box.root + 1000, 100):
        assert box.ask("/1.0/config/user.a") == (200, b"1")
    assert box.ask("/1.0", uid=1000)[0] == 401


@pytest.mark.extension("restrict_devlxd")
def test_the_socket_comes_and_goes_with_its_key(make: Make) -> None:
    box = make()
    assert box.has_socket()
    box.configure(security_devlxd="false")
    assert not box.has_socket() and not Path(f"/proc/{box.pid}/root/dev/lxd").exists()
    box.api.put(f"{box.url}/state", {"action": "restart", "force": True})
    assert not box.has_socket()
    box.configure(security_devlxd="true")
    assert box.read("/1.0") == {"api_version": "1.0"}


def test_the_socket_answers_again_after_the_daemons_restart(make: Make, cluster: Cluster) -> None:
    box = make(user_a="1")
    cluster[1].kill()
    cluster[1].start().wait_ready()
    within(10, "an answer", lambda: box.ask("/1.0/config/user.a") == (200, b"1"))


@pytest.mark.extension("devlxd_events")
def test_changes_of_keys_and_devices_are_told(make: Make) -> None:
    box = make(user_a="1")
    with guest.listen(box.pid, box.root) as events, guest.listen(box.pid, box.root, "?type=device") as devices:
        box.configure(user_a="2", limits_processes="100")
        event = next(events)
        assert event["type"] == "config" and "T" in event["timestamp"]
        assert event["metadata"] == {"key": "user.a", "old_value": "1", "value": "2"}
        zero = {"type": "unix-char", "source": "/dev/zero", "path": "/dev/zz"}
        box.api.patch(box.url, {"devices": {"zz": zero}})
        nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "name": "eth0"}
        box.api.patch(box.url, {"devices": {"zz": {"type": "none"}, "eth0": nic | {"limits.ingress": "1Mbit"}}})
        for listener in (events, devices):
            found = [next(listener)["metadata"] for _ in range(3)]
            assert found[0] == {"action": "added", "name": "zz", "config": zero}
            assert ("removed", "zz") in {(one["action"], one["name"]) for one in found}
            updated = next(one for one in found if one["action"] == "updated")
            assert updated["name"] == "eth0" and updated["config"]["limits.ingress"] == "1Mbit"


def test_a_change_of_a_profile_is_told(make: Make, cluster: Cluster) -> None:
    box = make()
    shown = cluster[3].get("/1.0/profiles/default")
    body = {key: shown[key] for key in ("config", "devices", "description")}
    try:
        with guest.listen(box.pid, box.root) as events:
            cluster[3].put("/1.0/profiles/default", body | {"config": {"user.p": "x"}})
            assert next(events)["metadata"] == {"key": "user.p", "old_value": "", "value": "x"}
    finally:
        cluster[3].put("/1.0/profiles/default", body)


@pytest.mark.extension("devlxd_images")
def test_public_images_can_be_exported_where_it_is_allowed(make: Make, cluster: Cluster, fingerprint: str) -> None:
    box = make()
    path = f"/1.0/images/{fingerprint}/export"
    assert box.ask(path) == (403, b"not authorized\n")
    box.configure(security_devlxd_images="true")
    assert box.ask(path) == (404, b"not found\n")
    shown = cluster[2].get(f"/1.0/images/{fingerprint}")
    cluster[2].put(f"/1.0/images/{fingerprint}", {"public": True, "properties": shown["properties"]})
    status, body = box.ask(path)
    assert status == 200 and hashlib.sha256(body).hexdigest() == fingerprint
    assert box.ask(f"/1.0/images/{fingerprint[:12]}/export")[0] == 404
