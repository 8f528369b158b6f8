"""Containers of one server from creation to deletion, through the API and the real client."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemons import ApiError, Daemon, within


@pytest.fixture(scope="module")
def fingerprint(server: Daemon, image: bytes) -> str:
    """The busybox image on the server, named `bb`."""
    done = server.ask("POST", "/1.0/images", image)
    found: str = done["metadata"]["fingerprint"]
    server.post("/1.0/images/aliases", {"name": "bb", "target": found})
    return found


@pytest.fixture
def name(server: Daemon, fingerprint: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a container that the test makes; it is gone afterwards."""
    made = request.node.name.removeprefix("test_").partition("[")[0].replace("_", "-")[:50].rstrip("-")
    yield made
    server.lxc("delete", "--force", made, check=False)


def create(server: Daemon, name: str, **fields: Any) -> dict[str, Any]:
    """Makes a container of the image `bb` and returns it."""
    source = {"type": "image", "alias": "bb"}
    server.post("/1.0/containers", {"name": name, "source": source} | fields)
    shown: dict[str, Any] = server.get(f"/1.0/containers/{name}")
    return shown


def change(server: Daemon, name: str, action: str, **fields: Any) -> Any:
    """A transition."""
    return server.put(f"/1.0/containers/{name}/state", {"action": action} | fields)


def run(server: Daemon, name: str, *command: str) -> int:
    """The exit status of a command."""
    done = server.post(f"/1.0/containers/{name}/exec", {"command": list(command)})
    status: int = done["metadata"]["return"]
    return status


def test_a_container_is_launched_with_a_lease_listed_and_deleted(server: Daemon, name: str) -> None:
    server.lxc("launch", "bb", name)
    within(15, "a lease", lambda: "10.95.0." in server.lxc("list", name).stdout.decode())
    listed = server.lxc("list", name, "--format", "csv", "-c", "ns4").stdout.decode()
    assert listed.startswith(f"{name},RUNNING,10.95.0.")
    assert "Status: RUNNING" in server.lxc("info", name).stdout.decode()
    assert server.lxc("exec", name, "--", "hostname").stdout.decode().strip() == name
    server.lxc("stop", name)
    assert server.get(f"/1.0/containers/{name}")["status"] == "Stopped"
    server.lxc("delete", name)
    assert server.lxc("info", name, check=False).returncode == 1


@pytest.mark.extension("container_image_properties")
def test_an_images_properties_become_keys_of_its_containers(server: Daemon, name: str, fingerprint: str) -> None:
    config = create(server, name)["config"]
    properties = server.get(f"/1.0/images/{fingerprint}")["properties"]
    assert properties
    assert {key: value for key, value in config.items() if key.startswith("image.")} == {
        f"image.{key}": value for key, value in properties.items()
    }
    assert config["volatile.base_image"] == fingerprint
    with pytest.raises(ApiError, match="Image keys can only be set on containers"):
        server.post("/1.0/profiles", {"name": "images", "config": {"image.os": "x"}})


@pytest.mark.extension("container_last_used_at")
def test_last_used_at_is_the_time_of_the_last_start(server: Daemon, name: str) -> None:
    assert create(server, name)["last_used_at"] == "1970-01-01T00:00:00Z"
    before = time.time()
    change(server, name, "start")
    shown = server.get(f"/1.0/containers/{name}")["last_used_at"]
    used = time.mktime(time.strptime(shown[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 1 <= used <= time.time() + 1


@pytest.mark.extension("container_cpu_time")
def test_the_state_shows_the_cpu_time_used(server: Daemon, name: str) -> None:
    create(server, name)
    assert server.get(f"/1.0/containers/{name}/state")["cpu"] == {"usage": 0}
    change(server, name, "start")
    first = server.get(f"/1.0/containers/{name}/state")["cpu"]["usage"]
    run(server, name, "sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done")
    second = server.get(f"/1.0/containers/{name}/state")["cpu"]["usage"]
    assert second - first > 10_000_000  # ns


def test_the_state_of_a_running_and_of_a_stopped_container(server: Daemon, name: str) -> None:
    create(server, name)
    stopped = server.get(f"/1.0/containers/{name}/state")
    assert (stopped["status"], stopped["network"], stopped["disk"], stopped["pid"]) == ("Stopped", None, None, 0)
    change(server, name, "start")
    running = server.get(f"/1.0/containers/{name}/state")
    assert running["pid"] > 1 and running["processes"] >= 1 and running["memory"]["usage"] > 0
    nic = running["network"]["eth0"]
    assert nic["type"] == "broadcast" and nic["host_name"].startswith("veth")
    assert nic["hwaddr"] == server.get(f"/1.0/containers/{name}")["config"]["volatile.eth0.hwaddr"]


def test_a_container_is_frozen_and_thawed(server: Daemon, name: str) -> None:
    create(server, name)
    change(server, name, "start")
    for action, status in (("freeze", "Frozen"), ("unfreeze", "Running"), ("freeze", "Frozen")):
        change(server, name, action)
        assert server.get(f"/1.0/containers/{name}")["status"] == status
    change(server, name, "stop", force=True)


def test_a_clean_stop_that_takes_too_long_fails_and_a_forced_one_joins_it(server: Daemon, name: str) -> None:
    create(server, name)
    change(server, name, "start")
    init = server.get(f"/1.0/containers/{name}/state")["pid"]
    subprocess.run(["kill", "-STOP", str(init)], check=True)
    change(server, name, "freeze")
    with pytest.raises(ApiError, match="^shutting down the container failed$"):
        change(server, name, "stop", timeout=1)
    assert server.get(f"/1.0/containers/{name}")["status"] == "Running"  # It was thawed for that.
    waiting = server.request("PUT", f"/1.0/containers/{name}/state", {"action": "stop", "timeout": -1})
    assert waiting[0] == 202
    with pytest.raises(ApiError, match="^Container is busy running a stop operation$"):
        change(server, name, "freeze")
    change(server, name, "stop", force=True)
    assert server.get(f"/1.0/containers/{name}")["status"] == "Stopped"


def test_a_stop_from_inside_is_seen_and_a_reboot_comes_back(server: Daemon, name: str) -> None:
    create(server, name)
    change(server, name, "start")
    first = server.get(f"/1.0/containers/{name}/state")["pid"]
    run(server, name, "reboot", "-f")
    within(10, "another init", lambda: server.get(f"/1.0/containers/{name}/state")["pid"] not in (0, first))
    run(server, name, "poweroff", "-f")
    within(10, "stopped", lambda: server.get(f"/1.0/containers/{name}")["status"] == "Stopped")
    power = server.get(f"/1.0/containers/{name}")["config"]["volatile.last_state.power"]
    assert power == "STOPPED"


def test_an_ephemeral_container_goes_with_its_stop_and_survives_a_restart(server: Daemon, name: str) -> None:
    create(server, name, ephemeral=True)
    change(server, name, "start")
    change(server, name, "restart", timeout=10)
    assert server.get(f"/1.0/containers/{name}")["status"] == "Running"
    server.patch(f"/1.0/containers/{name}", {"config": {"security.protection.delete": "true"}})
    change(server, name, "stop", force=True)
    assert server.get(f"/1.0/containers/{name}")["status"] == "Stopped"  # It is protected.
    server.patch(f"/1.0/containers/{name}", {"config": {"security.protection.delete": "false"}})
    change(server, name, "start")
    change(server, name, "stop", force=True)
    with pytest.raises(ApiError, match="^not found$"):
        server.get(f"/1.0/containers/{name}")


def test_limits_are_in_force_at_once_and_a_wrong_one_changes_nothing(server: Daemon, name: str) -> None:
    create(server, name, config={"limits.memory": "64MB"})
    change(server, name, "start")
    server.patch(f"/1.0/containers/{name}", {"config": {"limits.processes": "50", "limits.memory": "96MiB"}})
    groups = list(Path("/sys/fs/cgroup").glob(f"*/lxd-node.payload.{name}.*"))
    assert groups
    limits = [group / "pids.max" for group in groups if (group / "pids.max").exists()]
    assert {path.read_text().strip() for path in limits} == {"50"}
    with pytest.raises(ApiError, match="^Invalid value: lots$"):
        server.patch(f"/1.0/containers/{name}", {"config": {"limits.memory": "lots"}})
    memory = {"limits.memory": "4kB"}  # Less than it uses: the kernel refuses.
    with pytest.raises(ApiError, match="^Failed to set memory"):
        server.patch(f"/1.0/containers/{name}", {"config": memory})
    assert server.get(f"/1.0/containers/{name}")["config"]["limits.memory"] == "96MiB"
    sizes = [group / "memory.limit_in_bytes" for group in groups if (group / "memory.limit_in_bytes").exists()]
    assert {path.read_text().strip() for path in sizes} <= {str(96 << 20)}


def test_a_change_is_whole_or_not_at_all(server: Daemon, name: str) -> None:
    before = create(server, name, config={"user.a": "1"}, description="first")
    server.patch(f"/1.0/containers/{name}", {"config": {"user.b": "2"}})
    after = server.get(f"/1.0/containers/{name}")
    assert after["config"]["user.a"] == "1" and after["config"]["user.b"] == "2"
    assert after["description"] == "first"
    put = {key: before[key] for key in ("config", "devices", "profiles", "ephemeral")}
    server.put(f"/1.0/containers/{name}", put | {"description": "second"})
    assert server.get(f"/1.0/containers/{name}")["config"] == before["config"]
    for fields, words in [
        ({"profiles": ["nobody"]}, "Profile doesn't exist: nobody"),
        ({"profiles": []}, r"No root device could be found\."),
        ({"devices": {"root": {"type": "disk", "path": "/", "pool": "other"}}}, r'The "other" storage pool doesn'),
    ]:
        with pytest.raises(ApiError, match=words):
            server.put(f"/1.0/containers/{name}", put | fields)
    assert server.get(f"/1.0/containers/{name}")["profiles"] == ["default"]


def test_a_renamed_container_keeps_its_files(server: Daemon, name: str) -> None:
    create(server, name)
    server.request("POST", f"/1.0/containers/{name}/files?path=/root/mark", b"here")
    server.post(f"/1.0/containers/{name}", {"name": f"{name}-new"})
    assert server.request("GET", f"/1.0/containers/{name}-new/files?path=/root/mark")[2] == b"here"
    with pytest.raises(ApiError, match=f"^Name '{name}-new' already in use$"):
        server.post(f"/1.0/containers/{name}-new", {"name": f"{name}-new"})
    server.delete(f"/1.0/containers/{name}-new")


def test_a_copy_has_the_files_and_addresses_of_its_own(server: Daemon, name: str) -> None:
    first = create(server, name, config={"user.a": "1"})
    server.request("POST", f"/1.0/containers/{name}/files?path=/root/mark", b"here")
    server.lxc("copy", name, f"{name}-copy")
    copy = server.get(f"/1.0/containers/{name}-copy")
    assert copy["config"]["user.a"] == "1"
    assert copy["config"]["volatile.eth0.hwaddr"] != first["config"]["volatile.eth0.hwaddr"]
    assert server.request("GET", f"/1.0/containers/{name}-copy/files?path=/root/mark")[2] == b"here"
    server.delete(f"/1.0/containers/{name}-copy")


def test_a_protected_container_stays(server: Daemon, name: str) -> None:
    create(server, name, config={"security.protection.delete": "true"})
    with pytest.raises(ApiError, match="^Container is protected$"):
        server.delete(f"/1.0/containers/{name}")
    server.patch(f"/1.0/containers/{name}", {"config": {"security.protection.delete": "false"}})


@pytest.mark.parametrize(
    ("config", "inside"),
    [
        ({"security.privileged": "true"}, "0 0 4294967295"),
        ({"security.idmap.isolated": "true"}, "65536"),
        ({}, "0 100000"),
    ],
    ids=["privileged", "isolated", "shared"],
)
def test_id_maps(server: Daemon, name: str, config: dict[str, str], inside: str) -> None:
    create(server, name, config=config)
    change(server, name, "start")
    done = server.lxc("exec", name, "--", "cat", "/proc/self/uid_map").stdout.decode()
    assert inside in " ".join(done.split())
    assert run(server, name, "sh", "-c", "echo x > /root/new && chown 1000 /root/new") == 0


@pytest.mark.slow
def test_containers_run_on_while_the_daemon_restarts(server: Daemon, name: str) -> None:
    create(server, name)
    change(server, name, "start")
    pid = server.get(f"/1.0/containers/{name}/state")["pid"]
    server.kill()
    server.start().wait_ready()
    state = server.get(f"/1.0/containers/{name}/state")
    assert (state["pid"], state["status"]) == (pid, "Running")
    assert run(server, name, "true") == 0
    server.signal(signal.SIGTERM)
    assert server.process is not None
    server.process.wait(10)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    server.start().wait_ready()
    # It ran when the daemon last knew: it starts again with it.
    within(10, "started again", lambda: server.get(f"/1.0/containers/{name}/state")["pid"] not in (0, pid))


@pytest.mark.slow
def test_a_process_in_a_container_passes_for_no_monitor(server: Daemon, name: str) -> None:
    create(server, name)
    change(server, name, "start")
    create(server, f"{name}-2")
    pid = server.get(f"/1.0/containers/{name}/state")["pid"]
    monitor = f"[lxc monitor] {server.directory}/containers {name}-2"
    script = f"sleep 1000 & echo ready; exec -a '{monitor}' cat"
    command = ["nsenter", "-t", str(pid), "--pid", "--", "bash", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        server.end()
        server.start().wait_ready()
        status = server.get(f"/1.0/containers/{name}-2/state")["status"]
        change(server, name, "stop", force=True)  # And all its processes.
    assert status == "Stopped"
    server.delete(f"/1.0/containers/{name}-2")


@pytest.mark.slow
def test_bytes_that_are_no_text_harm_nobody(server: Daemon, name: str) -> None:
    """A container names its processes, control groups, interfaces and files as it likes."""
    create(server, name)
    change(server, name, "start")
    pid = server.get(f"/1.0/containers/{name}/state")["pid"]
    odd = "$(printf 'a\\377b')"
    for script in (
        f"touch /root/{odd}; ln -s {odd} /root/link",
        f"ip link set eth0 down; ip link set eth0 name {odd}",
        f"echo {odd} >/proc/self/comm; exec 0<&- 1>&- 2>&-; while :; do sleep 1; done",
    ):
        server.request("POST", f"/1.0/containers/{name}/exec", {"command": ["sh", "-c", script]})

    def names() -> list[str]:
        return list(server.get(f"/1.0/containers/{name}/state")["network"])

    within(10, "an odd interface", lambda: "a\ufffdb" in names())
    assert "a\ufffdb" in server.get(f"/1.0/containers/{name}/files?path=/root")
    assert server.request("GET", f"/1.0/containers/{name}/files?path=/root/link")[2] == b"a\xffb\n"
    within(10, "an odd command", lambda: any(b"a\xffb" in comm for comm in _commands()))
    server.end()
    server.start().wait_ready()
    assert server.get(f"/1.0/containers/{name}/state")["pid"] == pid
    change(server, name, "stop", timeout=30)
    assert server.get(f"/1.0/containers/{name}")["status"] == "Stopped"


def _commands() -> Iterator[bytes]:
    """The names of all processes of this host."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            yield path.read_bytes()
