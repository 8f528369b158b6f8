"""Devices of containers, from their start on and while they run, through a member that does not hold the container."""

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.boxes import Box, Make
from tests.harness.daemons import ApiError, Cluster, Daemon, within
from tests.harness.groups import groups_of, limits_of

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(cluster: Cluster) -> Iterator[Path]:
    """A directory of the first member's host, whose files are world readable."""
    path = cluster[1].directory / "shared dir"
    path.mkdir(mode=0o755)
    (path / "word").write_text("here\n")
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


def test_a_directory_is_plugged_changed_and_unplugged(either: Box, shared: Path) -> None:
    disk = {"type": "disk", "source": str(shared), "path": "/mnt/a b"}
    either.plug(data=disk)
    assert either.run("cat", "/mnt/a b/word") == "here\n"
    (shared / "open").mkdir(mode=0o777)
    (shared / "open").chmod(0o777)
    either.run("touch", "/mnt/a b/open/f")
    either.plug(data=disk | {"readonly": "true"})
    assert either.fails("touch", "/mnt/a b/open/g")
    either.restart()
    assert either.run("cat", "/mnt/a b/word") == "here\n" and either.fails("touch", "/mnt/a b/open/g")
    either.unplug("data")
    assert not either.sees("/mnt/a b/word")
    assert "/mnt" not in either.run("cat", "/proc/mounts")


def test_a_file_is_plugged_over_one_that_is_there(make: Make, shared: Path) -> None:
    box = make()
    before = box.run("cat", "/etc/passwd")
    box.plug(one={"type": "disk", "source": str(shared / "word"), "path": "/etc/passwd"})
    assert box.run("cat", "/etc/passwd") == "here\n"
    box.unplug("one")
    assert box.run("cat", "/etc/passwd") == before


def test_a_link_of_the_container_never_leads_a_mount_out_of_it(make: Make, shared: Path) -> None:
    box = make()
    box.run("ln", "-s", "/../../../../tmp", "/root/out")
    box.plug(one={"type": "disk", "source": str(shared), "path": "/root/out/target-of-dev"})
    assert box.run("cat", "/tmp/target-of-dev/word") == "here\n"
    assert not Path("/tmp/target-of-dev").exists()


_PROXY = {"type": "proxy", "listen": "unix:@keys", "connect": "tcp:127.0.0.1:80"}
_NIC = {"type": "nic", "nictype": "bridged", "parent": "lxdbr0"}
_NODE = {"type": "unix-char", "source": "/dev/zero", "path": "/dev/zz"}


def test_a_value_that_the_host_cannot_take_is_that_devices_failure_and_changes_nothing(make: Make) -> None:
    box = make()
    before = box.api.get(box.url)
    for entry, words in (
        (_NIC | {"mtu": "abc"}, "Invalid mtu 'abc' of nic 'd.1'"),
        (_NIC | {"hwaddr": "zz"}, "Invalid hwaddr 'zz' of nic 'd.1'"),
        (_NIC | {"nictype": "macvlan", "vlan": "99999"}, "Invalid vlan '99999' of nic 'd.1'"),
        (_NODE | {"mode": "7" * 30}, f"Bad mode {'7' * 30} in device /dev/zz"),
        (_NODE | {"mode": "-7"}, "Bad mode -7 in device /dev/zz"),
        (_NODE | {"uid": "-1"}, "Bad uid -1 in device /dev/zz"),
        (_NODE | {"major": "9" * 20, "minor": "1"}, f"Bad major {'9' * 20} in device /dev/zz"),
        (_NODE | {"path": "/dev/" + "x" * 300}, "Device 'd.1' cannot be added: [Errno 36] File name too long: "),
        (_PROXY | {"listen": "unix:/x", "mode": "abc"}, "Bad mode abc in device unix:/x"),
        ({"type": "disk", "source": "/tmp", "path": "/a\0b"}, "Device 'd.1' cannot be added: embedded null byte"),
    ):
        with pytest.raises(ApiError, match=f"^{re.escape(words)}"):
            box.plug(**{"d.1": entry})
        shown = box.api.get(box.url)
        assert (shown["devices"], shown["config"]) == (before["devices"], before["config"]), words
    assert sorted(path.name for path in (box.holder.directory / "devices" / box.name).glob("*.*")) == []


def test_a_device_whose_name_begins_like_anothers_goes_alone(make: Make) -> None:
    box = make()
    box.plug(**{"web": _PROXY | {"listen": "unix:@web"}, "web.two": _PROXY | {"listen": "unix:@web2"}})
    files = box.holder.directory / "devices" / box.name
    (other,) = files.glob("proxy.web%2Etwo.pid")
    pid = int(other.read_text().split()[0])
    box.unplug("web")
    os.kill(pid, 0)  # It forwards on.
    assert [path.name for path in files.glob("proxy.*")] == [other.name]


def test_a_source_that_is_missing_changes_nothing_unless_it_is_optional(make: Make) -> None:
    box = make()
    disk = {"type": "disk", "source": "/no/such", "path": "/mnt/x"}
    with pytest.raises(ApiError, match=r"^Missing source '/no/such' for disk 'one'$"):
        box.plug(one=disk)
    assert "one" not in box.api.get(box.url)["devices"]
    box.plug(one=disk | {"optional": "true"})
    box.restart()


def test_a_volume_is_plugged_with_the_containers_owners(either: Box) -> None:
    holder = either.holder
    holder.post("/1.0/storage-pools/default/volumes/custom?target=m1", {"name": "vol"})
    try:
        either.plug(vol={"type": "disk", "pool": "default", "source": "vol", "path": "/mnt/vol"})
        either.run("sh", "-c", "echo kept > /mnt/vol/f && chown 0:0 /mnt/vol/f")
        either.restart()
        assert either.run("sh", "-c", "cat /mnt/vol/f; stat -c %u /mnt/vol/f") == "kept\n0\n"
        either.unplug("vol")
        assert not either.sees("/mnt/vol/f")
    finally:
        either.api.lxc("stop", "--force", either.name)
        either.unplug("vol")
        holder.delete("/1.0/storage-pools/default/volumes/custom/vol")


def test_mounts_below_a_source_come_along_only_when_asked(make: Make, cluster: Cluster, shared: Path) -> None:
    box = make()
    below = shared / "below"
    below.mkdir()
    in_holder = ["nsenter", "--mount", "--target", str(holder_pid(cluster[1])), "--"]
    subprocess.run([*in_holder, "mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        subprocess.run([*in_holder, "touch", below / "inner"], check=True)
        disk = {"type": "disk", "source": str(shared), "path": "/mnt/r"}
        box.plug(one=disk)
        assert not box.sees("/mnt/r/below/inner")
        box.plug(one=disk | {"recursive": "true"})
        assert box.sees("/mnt/r/below/inner")
        box.unplug("one")
    finally:
        subprocess.run([*in_holder, "umount", "-l", below], check=True)


@pytest.mark.extension("container_mount_propagation")
@pytest.mark.parametrize("plugged", [True, False], ids=["plugged", "from the start"])
def test_a_mount_made_on_the_host_is_seen_where_propagation_is_shared(
    make: Make, cluster: Cluster, shared: Path, plugged: bool
) -> None:
    box = make()
    in_holder = ["nsenter", "--mount", "--target", str(holder_pid(cluster[1])), "--"]
    subprocess.run([*in_holder, "mount", "--bind", shared, shared], check=True)
    subprocess.run([*in_holder, "mount", "--make-shared", shared], check=True)
    (shared / "later").mkdir()
    try:
        disk = {"type": "disk", "source": str(shared), "recursive": "true"}
        box.plug(open=disk | {"path": "/mnt/shared", "propagation": "rshared"}, closed=disk | {"path": "/mnt/private"})
        if not plugged:
            box.restart()
        subprocess.run([*in_holder, "mount", "-t", "tmpfs", "tmpfs", shared / "later"], check=True)
        subprocess.run([*in_holder, "touch", shared / "later" / "seen"], check=True)
        assert box.sees("/mnt/shared/later/seen") and not box.sees("/mnt/private/later/seen")
        with pytest.raises(ApiError, match=r"^Invalid propagation mode 'wide'$"):
            box.plug(open=disk | {"path": "/mnt/shared", "propagation": "wide"})
        box.unplug("open", "closed")
    finally:
        subprocess.run([*in_holder, "umount", "-R", "-l", shared], check=True)


def holder_pid(member: Daemon) -> int:
    """The pid of a daemon, whose mount namespace the harness made."""
    pid: int = member.get("/1.0")["environment"]["server_pid"]
    return pid


@pytest.mark.extension("container_mount_propagation")
def test_a_mount_is_plugged_as_unbindable(make: Make, shared: Path) -> None:
    box = make()
    box.plug(d={"type": "disk", "source": str(shared), "path": "/mnt/d", "propagation": "unbindable"})
    (line,) = [line for line in box.run("cat", "/proc/self/mountinfo").splitlines() if " /mnt/d " in line]
    assert line.split()[6] == "unbindable"


@pytest.mark.extension("unix_device_rename")
def test_a_device_of_the_host_bears_another_name_inside(either: Box) -> None:
    device = {"type": "unix-char", "source": "/dev/zero", "path": "/dev/zz", "uid": "5", "gid": "6", "mode": "0640"}
    either.plug(zz=device)
    for _ in ("plugged", "from the start"):
        assert either.run("head", "-c", "4", "/dev/zz") == "\0\0\0\0"
        assert either.run("stat", "-c", "%F %u %g %a %t %T", "/dev/zz").strip() == "character special file 5 6 640 1 5"
        either.restart()
    either.unplug("zz")
    assert not either.sees("/dev/zz")
    either.plug(ff={"type": "unix-char", "path": "/dev/ff", "major": "1", "minor": "7"})  # full
    assert either.fails("sh", "-c", "echo x > /dev/ff") and either.sees("/dev/ff")
    either.unplug("ff")


@pytest.mark.extension("unix_device_rename")
def test_wrong_device_nodes_are_refused(make: Make) -> None:
    box = make()
    for device, words in [
        ({}, 'Unix device entry is missing the required "source" or "path" property.'),
        (
            {"source": "/dev/nothing"},
            "The device path doesn't exist on the host and major/minor wasn't specified.",
        ),
        ({"path": "/dev/x", "major": "1"}, "Both major and minor must be supplied for device: /dev/x"),
        ({"source": "/dev/vda"}, "Path specified for unix-char device is a block device."),
    ]:
        with pytest.raises(ApiError) as refused:
            box.plug(one={"type": "unix-char", **device})
        assert str(refused.value) == words


@pytest.mark.extension("unix_device_hotplug")
def test_a_device_comes_and_goes_with_the_hosts(make: Make, shared: Path) -> None:
    box = make()
    node = shared / "new" / "null"
    device = {"type": "unix-char", "source": str(node), "path": "/dev/late", "required": "false"}
    box.plug(late=device)
    assert not box.sees("/dev/late")
    node.parent.mkdir()
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    within(5, "the device", lambda: box.sees("/dev/late"))
    node.unlink()
    within(5, "no device", lambda: not box.sees("/dev/late"))
    box.restart()
    assert not box.sees("/dev/late")
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    within(5, "the device", lambda: box.sees("/dev/late"))
    box.unplug("late")
    assert not box.sees("/dev/late")


def test_a_device_that_cannot_come_keeps_no_other_from_coming(make: Make, shared: Path) -> None:
    box, node = make(), shared / "node"
    optional = {"type": "unix-char", "source": str(node), "required": "false"}
    box.plug(bad=optional | {"path": "/dev/a", "mode": "9"})
    other = make(devices={"good": optional | {"path": "/dev/b"}})
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    within(10, "the good one", lambda: other.sees("/dev/b"))
    assert not box.sees("/dev/a")
    node.unlink()
    within(10, "it goes", lambda: not other.sees("/dev/b"))


def test_hardware_that_is_not_there_is_no_failure_unless_it_is_a_card(make: Make) -> None:
    box = make(devices={"stick": {"type": "usb", "vendorid": "ffff", "required": "true"}})
    assert not box.sees("/dev/bus/usb")
    with pytest.raises(ApiError, match="^Failed to detect requested GPU device$"):
        box.plug(card={"type": "gpu", "vendorid": "0000"})
    assert "card" not in box.api.get(box.url)["devices"]


def test_a_node_that_goes_leaves_what_others_may_do_with_its_numbers(make: Make) -> None:
    box = make(config={"security.privileged": "true"})
    log = {"type": "unix-char", "source": "/dev/kmsg"}
    box.plug(zero=_NODE, one=log | {"path": "/dev/one"}, two=log | {"path": "/dev/two"})
    box.unplug("zero", "one")
    for path in ("/dev/zero", "/dev/two"):
        assert box.run("sh", "-c", f"head -c 1 {path} | wc -c").strip() == "1"
    box.unplug("two")
    assert box.fails("sh", "-c", "mknod /dev/three c 1 11 && head -c 1 /dev/three")


def test_none_hides_a_profiles_device_from_a_running_container(make: Make) -> None:
    box = make()
    assert "eth0" in box.network()
    box.plug(eth0={"type": "none"})
    assert box.network().keys() == {"lo"}
    box.unplug("eth0")
    assert "eth0" in box.network()


def test_the_rates_of_a_disk_are_limited_from_the_start_and_in_place(make: Make) -> None:
    root = {"type": "disk", "path": "/", "pool": "default"}
    box = make(devices={"root": root | {"limits.read": "10MB", "limits.write": "20iops"}})

    def throttle(file: str) -> list[str]:
        text = groups_of(box.api, box.name).read("blkio", f"blkio.throttle.{file}")
        return [line.split()[1] for line in (text or "").splitlines()]

    if not Path("/sys/fs/cgroup/blkio").exists():
        pytest.skip("this host has control groups of version 2 alone")
    assert throttle("read_bps_device") == ["10000000"] and throttle("write_iops_device") == ["20"]
    box.plug(root=root | {"limits.max": "5MB"})
    assert throttle("read_bps_device") == ["5000000"] and throttle("write_bps_device") == ["5000000"]
    assert throttle("write_iops_device") == []
    box.plug(root=root)
    assert throttle("read_bps_device") == []


def test_what_changed_while_no_daemon_was_there_is_in_force_with_the_next(make: Make, cluster: Cluster) -> None:
    first = {"config": {"limits.processes": "80", "limits.memory": "128MiB"}}
    cluster[1].post("/1.0/profiles", {"name": "away"} | first)
    box = make(profiles=["default", "away"])

    before = limits_of(box.api, box.name)
    assert before["pids.max"] == "80" and str(128 << 20) in before.values()
    cluster[1].kill()
    zero = {"type": "unix-char", "source": "/dev/zero", "path": "/dev/zz"}
    cluster[2].put("/1.0/profiles/away", {"config": {"limits.processes": "90"}, "devices": {"zz": zero}})
    cluster[1].start().wait_ready()
    within(20, "the new limit", lambda: limits_of(box.api, box.name)["pids.max"] == "90")
    assert str(128 << 20) not in limits_of(box.api, box.name).values()
    within(10, "the device", lambda: box.sees("/dev/zz"))
    box.api.lxc("delete", "--force", box.name)
    cluster[2].delete("/1.0/profiles/away")


def test_plugged_devices_are_known_to_the_next_daemon(make: Make, cluster: Cluster, shared: Path) -> None:
    box = make()
    box.plug(
        data={"type": "disk", "source": str(shared), "path": "/mnt/d"},
        p2p={"type": "nic", "nictype": "p2p", "name": "pp0"},
        zz={"type": "unix-char", "source": "/dev/zero", "path": "/dev/zz"},
    )
    cluster[1].kill()
    cluster[1].start().wait_ready()
    within(10, "an answer", lambda: box.sees("/mnt/d/word"))
    box.unplug("data", "p2p", "zz")
    assert not box.sees("/mnt/d/word") and not box.sees("/dev/zz") and "pp0" not in box.network()
