"""Containers under their AppArmor profiles, on a kernel that has AppArmor (scripts/lab)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lxdnode.drivers.host import apparmor
from tests.harness.daemons import ApiError, Daemon, within

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(apparmor.detect() is None, reason="this kernel has no AppArmor"),
]
PROFILES = Path("/sys/kernel/security/apparmor/profiles")


class Box:
    """A container."""

    def __init__(self, server: Daemon, name: str) -> None:
        self.api = server
        self.url = f"/1.0/containers/{name}"
        self.names = apparmor.names(name, server.directory)
        self.file = server.directory / "security/apparmor/profiles" / f"lxd-{name}"

    def change(self, action: str, **fields: Any) -> None:
        self.api.put(f"{self.url}/state", {"action": action} | fields)

    def configure(self, **config: str) -> None:
        """Changes keys, given with `_` for their dots."""
        self.api.patch(self.url, {"config": {key.replace("_", "."): value for key, value in config.items()}})

    def config(self) -> dict[str, str]:
        found: dict[str, str] = self.api.get(self.url)["config"]
        return found

    @property
    def init(self) -> int:
        pid: int = self.api.get(f"{self.url}/state")["pid"]
        return pid

    def run(self, line: str) -> int:
        """The exit status of a shell line inside."""
        done = self.api.post(f"{self.url}/exec", {"command": ["sh", "-c", line]})
        status: int = done["metadata"]["return"]
        return status

    def is_loaded(self) -> bool:
        return f"{self.names.profile} (enforce)" in PROFILES.read_text().splitlines()


@pytest.fixture
def box(server: Daemon, fingerprint: str, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A running container; the test's parameter is its configuration."""
    name = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].rstrip("-")
    source = {"type": "image", "fingerprint": fingerprint}
    server.post("/1.0/containers", {"name": name, "source": source, "config": getattr(request, "param", {})})
    made = Box(server, name)
    made.change("start")
    yield made
    if server.get(f"{made.url}")["status"] != "Stopped":
        made.change("stop", force=True)
    server.delete(made.url)
    assert not made.file.exists() and not list(made.file.parents[1].glob(f"cache/*/lxd-{name}"))


def test_a_container_is_confined_while_it_runs(box: Box) -> None:
    label = Path(f"/proc/{box.init}/attr/current").read_text()
    assert label.startswith(f"{box.names.profile}//&:{box.names.namespace}:unconfined")
    assert box.is_loaded()
    box.change("stop", force=True)
    assert not box.is_loaded()
    assert not (PROFILES.parent / "policy/namespaces" / box.names.namespace).exists()


CONFIGURATIONS = [{}, {"security.privileged": "true"}, {"security.privileged": "true", "security.nesting": "true"}]


@pytest.mark.parametrize("box", CONFIGURATIONS, indirect=True)
def test_processes_do_what_concerns_the_container_alone(box: Box) -> None:
    assert box.run("sleep 60 & cat /proc/$!/environ >/dev/null && kill $!") == 0
    assert box.run("hostname other") == 0
    assert (
        box.run("mkdir -p /tmp/a /tmp/b && mount -t tmpfs x /tmp/a && mount -o bind /tmp/a /tmp/b && umount /tmp/b")
        == 0
    )
    assert box.run("echo 1 > /proc/sys/net/ipv4/ip_forward && ip link set lo down && ip link set lo up") == 0


@pytest.mark.parametrize("box", CONFIGURATIONS[1:], indirect=True)
def test_files_of_the_hosts_kernel_are_not_written(box: Box) -> None:
    mounts = "mkdir -p /tmp/proc /tmp/sys && mount -t proc proc /tmp/proc && mount -t sysfs sysfs /tmp/sys"
    assert box.run(f"{mounts} && exec 3>>/tmp/proc/sys/net/ipv4/ip_forward") == 0  # Else read-only mounts protect it.
    for file in ("proc/sys/vm/swappiness", "proc/sys/kernel/printk", "sys/kernel/mm/ksm/run", "proc/sysrq-trigger"):
        assert box.run(f"test -e /tmp/{file}") == 0
        assert box.run(f"exec 3>>/tmp/{file}") != 0, file


@pytest.mark.parametrize("box", CONFIGURATIONS[1:], indirect=True)
def test_nesting_says_whether_trees_of_the_kernel_are_mounted_elsewhere(box: Box) -> None:
    nested = box.config().get("security.nesting") == "true"
    for line in ("mount -t proc proc /tmp/m", "mount -o bind /proc /tmp/m", "mount -t sysfs sysfs /tmp/m"):
        assert (box.run(f"mkdir -p /tmp/m && {line} && umount /tmp/m") == 0) == nested, line
    box.configure(security_nesting="false" if nested else "true")
    assert (box.run("mount -t proc proc /tmp/m && umount /tmp/m") == 0) != nested


def test_raw_lines_are_in_force_at_once_and_refused_as_a_whole(box: Box) -> None:
    assert box.run("cat /etc/passwd") == 0
    box.configure(raw_apparmor="deny /etc/passwd r,")
    assert box.run("cat /etc/passwd") != 0
    for state in ("running", "stopped"):
        with pytest.raises(ApiError, match="(?s)The AppArmor profile is refused: .*syntax error"):
            box.configure(raw_apparmor="no rule at all", user_a=state)
        assert box.config()["raw.apparmor"] == "deny /etc/passwd r,"
        assert "user.a" not in box.config()
        if state == "running":
            assert box.run("cat /etc/passwd") != 0
            box.change("stop", force=True)
    box.change("start")
    assert box.run("cat /etc/passwd") != 0
    box.configure(raw_apparmor="")
    assert box.run("cat /etc/passwd") == 0


def test_lines_of_a_profile_that_do_not_parse_are_told_for_containers_that_run_or_not(box: Box) -> None:
    before = box.api.get("/1.0/profiles/default")
    name = box.url.rpartition("/")[2]
    words = f"(?s)profile change still saved.:\n - {name}: The AppArmor profile is refused: .*syntax error"
    try:
        for _ in ("running", "stopped"):
            with pytest.raises(ApiError, match=words):
                box.api.patch("/1.0/profiles/default", {"config": {"raw.apparmor": "no rule at all"}})
            if box.api.get(box.url)["status"] == "Running":
                box.change("stop", force=True)
    finally:
        box.api.put("/1.0/profiles/default", before)


def test_a_container_loads_policy_of_its_own(box: Box) -> None:
    policy = subprocess.run(
        ["apparmor_parser", "--stdout", "--skip-kernel-load", "--skip-cache"],
        input=b"profile inner { file, }",
        capture_output=True,
        check=True,
    ).stdout
    box.api.ask("POST", f"{box.url}/files?path=/root/policy", policy, {"X-LXD-mode": "0600"})
    kernel = "/sys/kernel/security/apparmor"
    assert box.run(f"cat /root/policy > {kernel}/.replace && grep -q '^inner ' {kernel}/profiles") == 0
    assert "inner (enforce)" not in PROFILES.read_text().splitlines()


@pytest.mark.parametrize("box", [{"boot.autostart": "false"}], indirect=True)
def test_what_ended_without_a_daemon_is_unloaded_by_the_next(box: Box, server: Daemon) -> None:
    init = box.init
    server.kill()
    subprocess.run(["kill", "-9", str(init)], check=True)
    within(30, "init has ended", lambda: not Path(f"/proc/{init}").exists())
    assert box.is_loaded()
    server.start().wait_ready(120)
    within(60, "its end is noticed", lambda: server.get(box.url)["status"] == "Stopped" and not box.is_loaded())
