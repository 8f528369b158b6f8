"""Containers under repetition, at once, and with a daemon that is killed in the middle: nothing is left behind."""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import host_of
from tests.harness.daemons import ApiError, Daemon, within

pytestmark = pytest.mark.slow


def create(server: Daemon, name: str, fingerprint: str, **fields: object) -> None:
    source = {"type": "image", "fingerprint": fingerprint}
    server.post("/1.0/containers", {"name": name, "source": source} | fields)


def traces(server: Daemon, name: str) -> set[str]:
    """What a container that does not run must not have on this host: processes, groups, mounts, nodes, interfaces."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if words.startswith(b"[lxc monitor]") and f"{server.directory}/containers {name}".encode() in words:
            found.add(f"process {path.parent.name}")
    found |= {f"group {path}" for path in Path("/sys/fs/cgroup").glob(f"*/lxd-node.*.{name}.*")}
    pid = server.get("/1.0")["environment"]["server_pid"]
    mounts = Path(f"/proc/{pid}/mounts").read_text().splitlines()
    found |= {f"mount {line}" for line in mounts if f"/devices/{name}/" in line}
    found |= {f"node {path}" for path in (server.directory / "devices" / name).glob("*.*")}
    links = subprocess.run([*host_of(server).enter, "ip", "-o", "link"], capture_output=True, text=True, check=True)
    if "vethkilled" in links.stdout:
        found.add("interface")
    return found


def is_clean(server: Daemon, name: str) -> bool:
    """Whether there are none; AssertionError naming those that there are."""
    found = traces(server, name)
    assert not found, found
    return True


@pytest.fixture
def device_box(server: Daemon, fingerprint: str) -> Iterator[str]:
    """A stopped container with a device of each kind that the host must have something for; gone afterwards."""
    (server.directory / "shared").mkdir(exist_ok=True)
    create(
        server,
        "killed-one",
        fingerprint,
        devices={
            "eth0": {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "host_name": "vethkilled"},
            "zz": {"type": "unix-char", "source": "/dev/zero", "path": "/dev/zz"},
            "dir": {"type": "disk", "source": str(server.directory / "shared"), "path": "/mnt/d"},
            "px": {"type": "proxy", "listen": "tcp:127.0.0.1:8099", "connect": "tcp:127.0.0.1:80"},
        },
        config={"limits.memory": "100MB", "boot.autostart": "false"},
    )
    yield "killed-one"
    server.lxc("delete", "--force", "killed-one", check=False)
    assert traces(server, "killed-one") == set()


@pytest.mark.slow
@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_daemon_killed_within_a_transition_leaves_a_container_whole_or_stopped(
    server: Daemon, device_box: str, action: str
) -> None:
    url = f"/1.0/containers/{device_box}"
    for delay in (0.0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.2, 0.3):
        if action == "stop":
            server.put(f"{url}/state", {"action": "start"})
        assert server.request("PUT", f"{url}/state", {"action": action, "force": True})[0] == 202
        time.sleep(delay)  # The moment of the kill is what is varied.
        server.kill()
        server.start().wait_ready()
        status = settled(server, url)
        if status == "Running":
            assert server.lxc("exec", "-T", device_box, "--", "cat", "/dev/null").returncode == 0
            server.put(f"{url}/state", {"action": "stop", "force": True})
        within(10, f"no trace after {delay} s", lambda: is_clean(server, device_box))
        server.put(f"{url}/state", {"action": "start"})
        assert {"eth0", "lo"} == server.get(f"{url}/state")["network"].keys()
        assert server.lxc("exec", "-T", device_box, "--", "test", "-c", "/dev/zz").returncode == 0
        server.put(f"{url}/state", {"action": "stop", "force": True})


def settled(server: Daemon, url: str) -> str:
    """The status of a container, once it and the host say the same."""

    def same() -> str | None:
        shown, real = (server.get(path)["status"] for path in (url, f"{url}/state"))
        return str(shown) if shown == real else None

    found: str = within(10, "one status", same)
    return found


@pytest.mark.slow
def test_thirty_two_containers_start_at_once(server: Daemon, fingerprint: str) -> None:
    names = [f"many-{number}" for number in range(32)]
    try:
        for name in names:
            create(server, name, fingerprint)
        asked = [server.request("PUT", f"/1.0/containers/{name}/state", {"action": "start"}) for name in names]
        for _, headers, _ in asked:
            assert server.get(f"{headers['location']}/wait")["err"] == ""
        listed = server.get("/1.0/containers?recursion=1")
        assert {one["status"] for one in listed if one["name"] in names} == {"Running"}
        addresses = {one["config"]["volatile.eth0.hwaddr"] for one in listed if one["name"] in names}
        assert len(addresses) == 32
    finally:
        asked = [
            server.request("PUT", f"/1.0/containers/{name}/state", {"action": "stop", "force": True}) for name in names
        ]
        for _, headers, _ in asked:
            server.get(f"{headers['location']}/wait")
        for name in names:
            server.delete(f"/1.0/containers/{name}")


@pytest.mark.slow
def test_a_gibibyte_goes_through_a_command_with_bounded_memory(server: Daemon, fingerprint: str) -> None:
    create(server, "pipe", fingerprint)
    server.put("/1.0/containers/pipe/state", {"action": "start"})
    pid, block, count = server.get("/1.0")["environment"]["server_pid"], os.urandom(1 << 20), 1024
    before, most = resident(pid), 0
    client = subprocess.Popen(
        [*host_of(server).enter, "lxc", "exec", "-T", "pipe", "--", "cat"],
        env=server.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin is not None and client.stdout is not None

    def feed() -> None:
        assert client.stdin is not None
        for _ in range(count):
            client.stdin.write(block)
        client.stdin.close()

    feeding = threading.Thread(target=feed)
    try:
        feeding.start()
        received, digest = 0, hashlib.blake2b()
        while data := client.stdout.read(1 << 20):
            received += len(data)
            digest.update(data)
            most = max(most, resident(pid)) if received % (16 << 20) < (1 << 20) else most
        feeding.join(10)
        assert client.wait(10) == 0
        expected = hashlib.blake2b()
        for _ in range(count):
            expected.update(block)
        assert received == count << 20 and digest.digest() == expected.digest()
        assert most - before < 32 << 20
    finally:
        client.kill()
        client.stdout.close()
        client.wait(10)
        server.lxc("delete", "--force", "pipe")


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_fifty_lives_of_a_container_leave_no_descriptor(server: Daemon, fingerprint: str) -> None:
    pid = server.get("/1.0")["environment"]["server_pid"]

    def descriptors() -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    def live() -> None:
        create(server, "lives", fingerprint, devices={"zz": {"type": "unix-char", "source": "/dev/zero", "path": "/z"}})
        server.put("/1.0/containers/lives/state", {"action": "start"})
        assert server.post("/1.0/containers/lives/exec", {"command": ["true"]})["metadata"]["return"] == 0
        server.put("/1.0/containers/lives/state", {"action": "stop", "force": True})
        server.delete("/1.0/containers/lives")

    for _ in range(3):
        live()
    before = descriptors()
    for _ in range(50):
        live()
    within(5, "closed descriptors", lambda: descriptors() <= before)
    assert traces(server, "lives") == set()
    assert "not as wanted yet" not in server.log()  # Nobody tries for ever to bring a container right that is gone.
    with pytest.raises(ApiError, match="^not found$"):
        server.get("/1.0/containers/lives")
