"""Commands in containers: exit statuses, signals, environment, terminals; and what a container uses."""

import os
import signal

import pytest
import trio

from lxdnode.drivers.host.idmap import host_range
from lxdnode.drivers.runtime import state
from lxdnode.drivers.runtime.terminal import open_terminal, resize

from .conftest import RuntimeHost, within


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("false",), 1),
        (("sh", "-c", "exit 42"), 42),
        (("no-such-command",), 127),
        (("/etc",), 126),
        (("/etc/passwd",), 126),
        (("sh", "-c", "kill -TERM $$"), 143),
    ],
)
async def test_exit_statuses_are_a_shells(runtime: RuntimeHost, command: tuple[str, ...], status: int) -> None:
    await runtime.start(runtime.configure())
    assert (await runtime.run("c1", *command))[0] == status


async def test_a_command_gets_the_environment_given_and_nothing_else(runtime: RuntimeHost) -> None:
    await runtime.start(runtime.configure())
    given = {"PATH": "/bin:/usr/bin", "WORD": "a b=c\nd"}
    status, output = await runtime.run("c1", "sh", "-c", 'env | sort; pwd; echo "$WORD"', environment=given)
    assert status == 0
    assert "WORD=a b=c" in output and output.endswith("/root\na b=c\nd\n")
    assert {line.partition("=")[0] for line in output.splitlines() if "=" in line} <= {
        *("PATH", "WORD", "container", "PWD", "SHLVL", "OLDPWD", "a b"),
    }


async def test_a_command_has_the_containers_resource_limits(runtime: RuntimeHost) -> None:
    await runtime.start(runtime.configure(kernel_limits={"nofile": "300:400"}))
    assert await runtime.run("c1", "sh", "-c", "ulimit -Sn; ulimit -Hn") == (0, "300\n400\n")


async def test_a_signal_reaches_the_command(runtime: RuntimeHost) -> None:
    await runtime.start(runtime.configure())
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with await runtime.attach("c1", "sleep", "60", streams=(null, null, null)) as command:
            command.signal(signal.SIGTERM)
            with trio.fail_after(5):
                assert await command.wait() == 143
            command.signal(signal.SIGTERM)  # It has ended: nothing happens.
    finally:
        os.close(null)


async def test_a_terminal_is_the_commands_own(runtime: RuntimeHost) -> None:
    running = await runtime.start(runtime.configure())
    host = host_range()
    assert host is not None
    master, slave = open_terminal(running.init.pid, host.base, host.base)
    resize(master, 100, 30)
    script = "tty; stty size; trap 'echo int; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    async with trio.lowlevel.FdStream(master) as terminal:
        command = await runtime.attach("c1", "sh", "-c", script, streams=(slave, slave, slave))
        os.close(slave)
        with command, trio.fail_after(10):
            output = b""
            while b"ready" not in output:
                output += await terminal.receive_some()
            assert output.startswith(b"/dev/pts/") and output.split()[1:] == [b"30", b"100", b"ready"]
            await terminal.send_all(b"\x03")
            assert await command.wait() == 7


async def test_a_container_shows_what_it_uses(runtime: RuntimeHost) -> None:
    running = await runtime.start(runtime.configure())
    await runtime.run("c1", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    usage = await trio.to_thread.run_sync(state.read, running, runtime.containers.layout)
    assert usage.cpu > 1_000_000
    assert usage.memory > 0 and usage.memory_peak >= usage.memory
    assert 1 <= usage.processes < 10
    loopback = next(interface for interface in usage.interfaces if interface.name == "lo")
    assert (loopback.type, loopback.mtu, loopback.hwaddr) == ("loopback", 65536, "")
    await within(5, lambda: _loopback_address(running, runtime) == ("inet", "127.0.0.1", "8", "local"))


def _loopback_address(running, runtime) -> tuple[str, str, str, str] | None:  # type: ignore[no-untyped-def]
    usage = state.read(running, runtime.containers.layout)
    addresses = [address for one in usage.interfaces for address in one.addresses if address.family == "inet"]
    return (addresses[0].family, addresses[0].address, addresses[0].netmask, addresses[0].scope) if addresses else None
