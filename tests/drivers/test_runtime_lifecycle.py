"""Real containers start, are found again, freeze, stop, reboot and fail, without liblxc in this process."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.cgroup import Setting
from lxdnode.drivers.runtime.process import Process

from .conftest import RuntimeHost, left_groups, within


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def owner_of(path: Path) -> int:
    """The owner of a file on disk."""
    return path.stat().st_uid


def environment_of(pid: int) -> list[str]:
    """The environment of a process."""
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]


@pytest.mark.parametrize("privileged", [False, True], ids=["unprivileged", "privileged"])
async def test_a_container_starts_runs_commands_and_is_killed(runtime: RuntimeHost, privileged: bool) -> None:
    configuration = runtime.configure(privileged=privileged)
    running = await runtime.start(configuration)
    assert running.alive and not running.frozen
    assert await runtime.run("c1", "cat", "/proc/1/comm") == (0, "init\n")
    assert (status_of(running.init.pid)["Uid"].split()[0] == "0") == privileged
    assert owner_of(configuration.rootfs / "bin/busybox") == 0  # Nothing is shifted on disk.
    await running.kill()
    assert await running.ended() == "stop"
    assert left_groups(configuration) == []
    assert "lxc" not in sys.modules


async def test_init_ignores_no_signal_and_has_no_descriptor_of_ours(runtime: RuntimeHost) -> None:
    running = await runtime.start(runtime.configure())
    ignored = (await runtime.run("c1", "grep", "-h", "SigIgn", "/proc/self/status"))[1]
    assert int(ignored.split()[1], 16) == 0
    python_ignores = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert int(status_of(running.init.pid)["SigIgn"], 16) & python_ignores == 0
    assert not [path for path in open_files(running.init.pid) if path.startswith("socket:")]


async def test_a_clean_shutdown_ends_it(runtime: RuntimeHost) -> None:
    running = await runtime.start(runtime.configure())
    assert (await runtime.run("c1", "true"))[0] == 0
    await within(10, lambda: bool(int(status_of(running.init.pid)["SigCgt"], 16) & 1 << (signal.SIGPWR - 1)))
    running.shut_down()
    with trio.fail_after(10):
        assert await running.ended() == "stop"


async def test_a_reboot_from_inside_is_told_from_a_stop_and_starts_with_the_new_configuration(
    runtime: RuntimeHost,
) -> None:
    configuration = runtime.configure()
    running = await runtime.start(configuration)
    await runtime.run("c1", "reboot", "-f")
    with trio.fail_after(10):
        assert await running.ended() == "reboot"
    running = await runtime.start(replace(configuration, environment={"GREETING": "hello"}))
    assert "GREETING=hello" in environment_of(running.init.pid)


async def test_freeze_and_thaw_are_seen_in_its_control_group(runtime: RuntimeHost) -> None:
    running = await runtime.start(runtime.configure())
    await running.freeze(True)
    assert running.frozen
    await running.freeze(False)
    assert not running.frozen
    await running.freeze(True)
    await running.kill()
    assert not running.alive


async def test_it_is_found_again_by_a_scan(runtime: RuntimeHost) -> None:
    configuration = runtime.configure()
    running = await runtime.start(configuration)
    assert list(runtime.containers.scan()) == [("c1", running.init.pid)]
    found = runtime.containers.hold("c1", running.init.pid, configuration.stopped)
    assert found is not None and found.monitor.pid == running.monitor.pid
    assert found.groups.name == running.groups.name
    await running.kill()
    assert list(runtime.containers.scan()) == []
    assert runtime.containers.hold("c1", running.init.pid, configuration.stopped) is None


async def test_containers_and_requests_survive_the_spawner(runtime: RuntimeHost) -> None:
    running = await runtime.start(runtime.configure())
    os.kill(runtime.containers.spawner.pid, signal.SIGKILL)
    assert running.alive
    with trio.fail_after(10):
        assert await runtime.run("c1", "echo", "hello") == (0, "hello\n")


async def test_a_monitor_that_dies_alone_takes_its_container_along(runtime: RuntimeHost) -> None:
    configuration = runtime.configure()
    running = await runtime.start(configuration)
    running.monitor.signal(signal.SIGKILL)
    with trio.fail_after(10):
        assert await running.ended() == "stop"
    assert not running.alive
    assert (await runtime.start(configuration)).alive  # Its control groups stayed; the next start removes them.


async def test_a_start_that_fails_says_why_and_the_next_one_works(runtime: RuntimeHost) -> None:
    configuration = runtime.configure()
    with pytest.raises(DriverError, match=r"Container c1 cannot be started: .+"):
        await runtime.start(replace(configuration, raw="lxc.cgroup.pids.max = many\nlxc.cgroup2.pids.max = many"))
    with pytest.raises(DriverError, match="refuses the configuration"):
        await runtime.start(replace(configuration, raw="lxc.no.such.key = 1"))
    assert (await runtime.start(configuration)).alive


async def test_no_value_becomes_a_line_of_its_own(runtime: RuntimeHost) -> None:
    with pytest.raises(DriverError, match="LXC takes no line break in a value: 'lxc.environment"):
        await runtime.start(runtime.configure(environment={"A": "b\nlxc.rootfs.path = dir:/"}))


async def test_limits_are_in_force_from_the_start(runtime: RuntimeHost) -> None:
    if runtime.containers.layout.version("pids") is None:
        pytest.skip("this kernel has no pids controller")
    running = await runtime.start(runtime.configure(limits=(Setting("pids", "pids.max", "50"),)))
    assert running.groups.read("pids", "pids.max") == "50"
    running.groups.write([Setting("pids", "pids.max", "60")])
    assert running.groups.read("pids", "pids.max") == "60"
    with pytest.raises(DriverError, match=r"Failed to set pids.max to lots"):
        running.groups.write([Setting("pids", "pids.max", "lots")])


async def test_a_pid_that_was_used_again_is_not_taken_for_the_old_process() -> None:
    own = Process.open(os.getpid())
    assert own is not None and own.alive
    assert Process.open(os.getpid(), own.started + 1) is None
