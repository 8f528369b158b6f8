"""Keys of containers that act at a start, seen from inside, through a member that does not hold the container."""

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tests.harness.daemons import ApiError, Cluster, Daemon
from tests.harness.groups import limits_of

pytestmark = pytest.mark.slow


class Box:
    """A container on the first member that is asked through the second one."""

    def __init__(self, cluster: Cluster, fingerprint: str, name: str) -> None:
        self.api: Daemon = cluster[2]
        self._fingerprint = fingerprint
        self.name = name
        self.url = f"/1.0/containers/{name}"

    def create(self, *, start: bool = True, **fields: Any) -> "Box":
        """Makes it, and starts it unless told otherwise."""
        body = {"name": self.name, "source": {"type": "image", "fingerprint": self._fingerprint}}
        self.api.post("/1.0/containers?target=m1", body | fields)
        if start:
            self.start()
        return self

    def start(self) -> None:
        self.api.put(f"{self.url}/state", {"action": "start"})

    def stop(self) -> None:
        self.api.put(f"{self.url}/state", {"action": "stop", "force": True})

    def config(self) -> dict[str, str]:
        found: dict[str, str] = self.api.get(self.url)["config"]
        return found

    def run(self, *command: str) -> str:
        """What a command writes."""
        return self.api.lxc("exec", "-T", self.name, "--", *command).stdout.decode()

    def status(self, *command: str) -> int:
        """The exit status of a command."""
        return self.api.lxc("exec", "-T", self.name, "--", *command, check=False).returncode


@pytest.fixture
def boxes(cluster: Cluster, cluster_fingerprint: str) -> Iterator[Any]:
    """Makes containers, which are gone afterwards."""
    made: list[Box] = []

    def make(**fields: Any) -> Box:
        box = Box(cluster, cluster_fingerprint, f"keys-{len(made)}")
        made.append(box)
        return box.create(**fields)

    yield make
    for box in made:
        cluster[1].lxc("delete", "--force", box.name, check=False)


@pytest.mark.extension("kernel_limits")
def test_a_kernel_limit_is_in_force_for_all_processes(boxes: Any) -> None:
    box = boxes(config={"limits.kernel.nofile": "3000:3100"})
    for pid in ("1", "self"):
        limits = box.run("cat", f"/proc/{pid}/limits").splitlines()
        assert next(line for line in limits if line.startswith("Max open files")).split()[3:5] == ["3000", "3100"]


def test_a_command_has_the_environment_of_now_and_init_that_of_its_start(boxes: Any) -> None:
    box = boxes(config={"environment.GONE": "start", "environment.KEPT": "start"})
    kept = {key: value for key, value in box.config().items() if key != "environment.GONE"}
    shown = box.api.get(box.url)
    fields = {key: shown[key] for key in ("devices", "profiles", "ephemeral", "description")}
    box.api.put(box.url, fields | {"config": kept | {"environment.KEPT": "now", "environment.NEW": "now"}})
    assert box.run("sh", "-c", "echo ${GONE-none} $KEPT $NEW $HOME").split() == ["none", "now", "now", "/root"]
    first = box.run("sh", "-c", "tr '\\0' '\\n' </proc/1/environ").splitlines()
    assert "GONE=start" in first and "KEPT=start" in first


@pytest.mark.extension("container_syscall_filtering")
def test_system_calls_are_filtered(boxes: Any) -> None:
    box = boxes(config={"security.syscalls.blacklist": "mkdir errno 1\nmkdirat errno 1"})
    assert box.status("mkdir", "/root/d") != 0
    assert "Seccomp:\t2" in box.run("cat", "/proc/1/status")
    box.stop()
    box.api.patch(box.url, {"config": {"security.syscalls.blacklist": ""}})
    box.start()
    assert box.status("mkdir", "/root/d") == 0
    assert "Seccomp:\t2" in box.run("cat", "/proc/1/status")  # The default list is in force on its own.
    box.stop()
    box.api.patch(box.url, {"config": {"security.syscalls.blacklist_default": "false"}})
    box.start()
    assert "Seccomp:\t0" in box.run("cat", "/proc/1/status")


@pytest.mark.extension("container_protection_delete")
def test_a_protected_container_stays_until_the_key_is_off(boxes: Any) -> None:
    box = boxes(start=False, config={"security.protection.delete": "true"})
    with pytest.raises(ApiError, match=r"^Container is protected$"):
        box.api.delete(box.url)
    box.api.patch(box.url, {"config": {"security.protection.delete": "false"}})
    box.api.delete(box.url)
    assert box.api.request("GET", box.url)[0] == 404


@pytest.mark.extension("id_map")
def test_isolated_containers_share_no_id(boxes: Any) -> None:
    one = boxes(config={"security.idmap.isolated": "true"})
    other = boxes(config={"security.idmap.isolated": "true", "security.idmap.size": "131072"})
    maps = [box.run("cat", "/proc/self/uid_map").split() for box in (one, other)]
    assert [words[2] for words in maps] == ["65536", "131072"]
    ranges = [set(range(int(words[1]), int(words[1]) + int(words[2]), 65536)) for words in maps]
    assert not ranges[0] & ranges[1]
    bases = [box.config()["volatile.idmap.base"] for box in (one, other)]
    assert bases == [words[1] for words in maps]


@pytest.mark.extension("id_map")
def test_a_raw_map_hands_one_id_of_the_host_in(boxes: Any) -> None:
    # An id that /etc/subuid grants to root: newuidmap refuses all others, as it does to LXD.
    box = boxes(config={"security.idmap.isolated": "true", "raw.idmap": "both 9000000 1000"})
    assert ["1000", "9000000", "1"] in [line.split() for line in box.run("cat", "/proc/self/uid_map").splitlines()]
    assert box.status("sh", "-c", "echo x >/root/f && chown 1000:1000 /root/f") == 0
    for line, words in {
        "both 1000": "invalid raw.idmap line both 1000",
        "all 1 1": "invalid raw.idmap type all 1 1",
        "uid a 1": "invalid raw.idmap range a",
        "uid 1-2 1": "idmap ranges of different sizes uid 1-2 1",
        f"uid {box.config()['volatile.idmap.base']} 5": "Host id is in the range of subids",
    }.items():
        with pytest.raises(ApiError, match=f"^{words}$"):
            box.api.patch(box.url, {"config": {"raw.idmap": line}})


@pytest.mark.extension("id_map_base")
def test_the_base_of_an_isolated_map_can_be_set(boxes: Any) -> None:
    box = boxes(config={"security.idmap.isolated": "true", "security.idmap.base": "500000"})
    assert box.run("cat", "/proc/self/uid_map").split() == ["0", "500000", "65536"]
    assert box.config()["volatile.idmap.base"] == "500000"


@pytest.mark.extension("id_map_base")
def test_no_map_is_drawn_over_one_whose_base_was_set(boxes: Any) -> None:
    isolated = {"security.idmap.isolated": "true"}
    found = [boxes(start=False, config=isolated)]
    first = int(found[0].config()["volatile.idmap.base"])
    found.append(boxes(start=False, config=isolated | {"security.idmap.base": str(first + 100_000)}))
    found += [boxes(start=False, config=isolated) for _ in range(2)]
    bases = sorted(int(box.config()["volatile.idmap.base"]) for box in found)
    assert all(other - one >= 65536 for one, other in pairwise(bases)), bases


def test_what_a_client_says_about_the_owners_of_new_files_does_not_count(boxes: Any) -> None:
    shifted = '[{"Isuid":true,"Isgid":true,"Hostid":5,"Nsid":0,"Maprange":10}]'
    for told in ("nonsense", shifted):
        box = boxes(config={"volatile.last_state.idmap": told})
        assert box.run("stat", "-c", "%u:%g", "/bin/busybox", "/root").split() == ["0:0", "0:0"]


@pytest.mark.extension("id_map")
def test_an_update_that_is_taken_back_leaves_the_ids_where_they_were(boxes: Any) -> None:
    isolated = {"security.idmap.isolated": "true"}
    one = boxes(config=isolated)
    before = one.config()
    nic = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0", "mtu": "abc"}
    with pytest.raises(ApiError, match=r"^Invalid mtu 'abc' of nic 'bad'$"):
        one.api.patch(one.url, {"config": {"security.idmap.isolated": "false"}, "devices": {"bad": nic}})
    other = boxes(start=False, config=isolated)
    assert one.config() == before
    assert other.config()["volatile.idmap.base"] != before["volatile.idmap.base"]


def test_a_profile_that_its_containers_cannot_take_is_kept_and_names_each_of_them(boxes: Any, cluster: Cluster) -> None:
    cluster[1].post("/1.0/profiles", {"name": "wrong"})
    try:
        box = boxes(profiles=["default", "wrong"], config={"security.syscalls.blacklist": "mkdir"})
        off = boxes(profiles=["default", "wrong"], start=False)
        volume = {"type": "disk", "path": "/mnt", "source": "v", "pool": "nobody"}
        both, on = (off.name, box.name), (box.name,)
        for content, words, names in (
            ({"config": {"raw.lxc": "lxc.no.such = 1"}}, "Failed to load raw.lxc", both),
            ({"config": {"raw.idmap": "both 1"}}, "invalid raw.idmap line both 1", both),
            ({"devices": {"d": volume}}, 'The "nobody" storage pool doesn\'t exist.', both),
            ({"config": {"raw.seccomp": "2"}}, "raw.seccomp is mutually exclusive with security.syscalls*", on),
            ({"config": {"linux.kernel_modules": "no_such"}}, "Failed to load kernel module 'no_such': ", on),
        ):
            with pytest.raises(ApiError) as caught:
                cluster[3].put("/1.0/profiles/wrong", content)
            first, *lines = str(caught.value).splitlines()
            assert first == "The following containers failed to update (profile change still saved):"
            assert [line[: len(f" - {name}: {words}")] for line, name in zip(lines, sorted(names), strict=True)] == [
                f" - {name}: {words}" for name in sorted(names)
            ]
            kept = cluster[1].get("/1.0/profiles/wrong")
            assert content.items() <= kept.items()
    finally:
        for name in ("keys-0", "keys-1"):
            cluster[1].lxc("delete", "--force", name, check=False)
        cluster[1].delete("/1.0/profiles/wrong")


LIMITS = {
    "limits.cpu": "0-0",
    "limits.cpu.allowance": "20ms/50ms",
    "limits.cpu.priority": "3",
    "limits.disk.priority": "3",
    "limits.memory": "64MiB",
    "limits.memory.swap": "false",
    "limits.network.priority": "3",
    "limits.processes": "60",
}


@pytest.mark.parametrize("enforce", ["hard", "soft"])
def test_limits_are_the_same_at_once_as_from_a_start_and_go_with_their_keys(boxes: Any, enforce: str) -> None:
    box = boxes()

    def read() -> dict[str, str]:
        return limits_of(box.api, box.name)

    before, shown = read(), box.api.get(box.url)
    box.api.patch(box.url, {"config": LIMITS | {"limits.memory.enforce": enforce}})
    at_once = read()
    assert at_once["pids.max"] == "60"
    assert len([file for file in before if at_once[file] != before[file]]) >= 5
    box.stop()
    box.start()
    assert read() == at_once
    box.api.put(box.url, {key: shown[key] for key in ("config", "devices", "profiles", "ephemeral", "description")})
    assert read() == before


def test_processors_are_shared_out_anew_when_containers_come_and_go(boxes: Any) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor is not shared out")
    first, second = boxes(config={"limits.cpu": "1"}), boxes(config={"limits.cpu": "1"})

    def cpus(box: Any) -> str:
        line = next(line for line in box.run("cat", "/proc/self/status").splitlines() if "Cpus_allowed_list" in line)
        return line.split()[1]

    own = cpus(first)
    assert cpus(second) != own
    second.api.patch(second.url, {"config": {"limits.cpu": f"{own}-{own}"}})
    assert cpus(second) == own != cpus(first)
    second.api.patch(second.url, {"config": {"limits.cpu": f"{cpus(first)}-{cpus(first)}"}})
    assert cpus(first) == own
    second.stop()
    first.api.patch(first.url, {"config": {"limits.cpu": ""}})
    assert cpus(first) not in ("0", "1")


def test_a_map_that_a_profile_changes_is_that_of_the_next_start(boxes: Any, cluster: Cluster) -> None:
    cluster[1].post("/1.0/profiles", {"name": "mapped"})
    try:
        box = boxes(profiles=["default", "mapped"])
        assert box.run("cat", "/proc/self/uid_map").split()[1] == "100000"
        cluster[3].put("/1.0/profiles/mapped", {"config": {"security.privileged": "true"}})
        box.stop()
        box.start()
        assert box.run("cat", "/proc/self/uid_map").split()[:2] == ["0", "0"]
        assert box.run("stat", "-c", "%u", "/bin/busybox").strip() == "0"
        assert box.config()["volatile.idmap.next"] == "[]"
        box.api.lxc("delete", "--force", box.name)
    finally:
        cluster[1].delete("/1.0/profiles/mapped")


@pytest.mark.extension("resource_limits")
@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        ("c1-m1", {"limits.cpu": "1", "limits.memory": "1024MB"}),
        ("c0.5-m0.2", {"limits.cpu": "1", "limits.cpu.allowance": "50%", "limits.memory": "204MB"}),
        ("m0.5-c1.5", {"limits.cpu": "2", "limits.cpu.allowance": "75%", "limits.memory": "512MB"}),
        ("aws:t2.micro", {"limits.cpu": "1", "limits.memory": "1024MB"}),
        ("t2.micro", {"limits.cpu": "1", "limits.memory": "1024MB"}),
    ],
)
def test_an_instance_type_sets_limits(boxes: Any, asked: str, limits: dict[str, str]) -> None:
    config = boxes(start=False, instance_type=asked, config={"user.a": "b"}).config()
    assert {key: value for key, value in config.items() if key.startswith("limits.")} == limits


@pytest.mark.extension("resource_limits")
def test_given_limits_win_over_those_of_an_instance_type_which_are_in_force(boxes: Any) -> None:
    box = boxes(instance_type="c1-m0.1", config={"limits.processes": "40", "limits.memory": "90MB"})
    assert box.config()["limits.memory"] == "90MB"
    assert box.run("nproc").strip() == "1"
    with pytest.raises(ApiError, match=r"^Provided instance type doesn't exist: aws:t9.huge$"):
        boxes(start=False, instance_type="aws:t9.huge")
