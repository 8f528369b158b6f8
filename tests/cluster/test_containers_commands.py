"""Commands in containers through the real client and through bare requests."""

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from tests.harness.daemons import ApiError, Daemon, within


@pytest.fixture(scope="module")
def container(server: Daemon, image: bytes) -> Iterator[str]:
    """A container that runs."""
    done = server.ask("POST", "/1.0/images", image)
    source = {"type": "image", "fingerprint": done["metadata"]["fingerprint"]}
    server.post("/1.0/containers", {"name": "c1", "source": source, "config": {"environment.COLOUR": "blue"}})
    server.put("/1.0/containers/c1/state", {"action": "start"})
    yield "c1"
    server.lxc("delete", "--force", "c1")


@pytest.mark.parametrize(
    ("command", "status"),
    [(("true",), 0), (("sh", "-c", "exit 42"), 42), (("/etc/passwd",), 126), (("no-such",), 127)],
    ids=["0", "42", "126", "127"],
)
@pytest.mark.parametrize("terminal", ["-t", "-T"])
def test_the_client_exits_as_the_command_did(
    server: Daemon, container: str, terminal: str, command: tuple[str, ...], status: int
) -> None:
    done = server.lxc("exec", terminal, container, "--", *command, check=False)
    assert done.returncode == status


def test_input_output_and_errors_go_their_own_ways(server: Daemon, container: str) -> None:
    big = os.urandom(3 << 20)
    done = server.lxc("exec", "-T", container, "--", "sh", "-c", "cat; echo done >&2", stdin=big)
    assert done.stdout == big and done.stderr == b"done\n"


def test_a_background_process_does_not_hold_the_client(server: Daemon, container: str) -> None:
    started = time.monotonic()
    done = server.lxc("exec", "-T", container, "--", "sh", "-c", "echo now; sleep 30 &")
    assert done.stdout == b"now\n"
    assert time.monotonic() - started < 10


def test_the_environment_is_the_containers_the_requests_and_defaults(server: Daemon, container: str) -> None:
    done = server.lxc("exec", "-T", container, "--env", "SHAPE=round", "--", "sh", "-c", "env; pwd")
    lines = done.stdout.decode().splitlines()
    assert {"COLOUR=blue", "SHAPE=round", "HOME=/root", "USER=root", "LANG=C.UTF-8"} <= set(lines)
    assert lines[-1] == "/root"


def test_a_new_container_shows_nothing_of_an_old_one_of_its_name(server: Daemon, container: str) -> None:
    image = server.get("/1.0/images")[0].rpartition("/")[2]
    wanted = {"name": "again", "source": {"type": "image", "fingerprint": image}}
    server.post("/1.0/containers", wanted)
    server.lxc("start", "again")
    assert "/1.0/containers/again/logs/lxc.conf" in server.get("/1.0/containers/again/logs")
    server.lxc("delete", "--force", "again")
    assert (server.directory / "logs" / "again" / "lxc.conf").exists()
    server.post("/1.0/containers", wanted)
    assert server.get("/1.0/containers/again/logs") == []
    with pytest.raises(ApiError, match="it never ran"):
        server.get("/1.0/containers/again/console")
    server.lxc("delete", "again")


@pytest.mark.extension("container_exec_signal_handling")
def test_signals_to_the_client_reach_the_command(server: Daemon, container: str) -> None:
    script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [*_enter(server), "lxc", "exec", "-T", container, "--", "sh", "-c", script],
        env=server.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"told\n"
        assert process.wait(10) == 7


def test_ctrl_c_in_a_terminal_ends_with_130(server: Daemon, container: str) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*_enter(server), "lxc", "exec", "-t", container, "--", "sh", "-c", "tty; sleep 60"],
        env=server.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    while b"/dev/pts/" not in output or not output.endswith(b"\n"):
        output += os.read(ours, 1000)
    os.write(ours, b"\x03")
    assert process.wait(10) == 130
    os.close(ours)


@pytest.mark.parametrize("terminal", ["-t", "-T"])
def test_a_client_that_dies_takes_its_command_along(server: Daemon, container: str, terminal: str) -> None:
    command = [*_enter(server), "lxc", "exec", terminal, container, "--", "sh", "-c", "echo ready; exec sleep 4711"]
    process = subprocess.Popen(
        command, env=server.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline().strip() == b"ready"
        os.killpg(process.pid, signal.SIGKILL)
    count = ["exec", "-T", container, "--", "sh", "-c", "ps | grep -c '[s]leep 4711'"]
    within(10, "the command's end", lambda: server.lxc(*count, check=False).stdout == b"0\n")


def _enter(server: Daemon) -> list[str]:
    return server.host.enter if server.host else []


@pytest.mark.extension("container_exec_recording")
def test_output_can_be_recorded_and_is_deleted_by_its_url(server: Daemon, container: str) -> None:
    body = {"command": ["sh", "-c", "echo out; echo err >&2; exit 3"], "record-output": True}
    done = server.post(f"/1.0/containers/{container}/exec", body)
    assert done["metadata"]["return"] == 3
    out, err = (done["metadata"]["output"][number] for number in ("1", "2"))
    assert server.request("GET", out)[2] == b"out\n"
    assert server.request("GET", err)[2] == b"err\n"
    assert out in server.get(f"/1.0/containers/{container}/logs")
    server.delete(out)
    assert server.request("GET", out)[0] == 500
    for name in ("lxc.log", "lxc.conf"):
        assert server.request("GET", f"/1.0/containers/{container}/logs/{name}")[0] == 200
        with pytest.raises(ApiError, match=r"^lxc.log and lxc.conf may not be deleted$"):
            server.delete(f"/1.0/containers/{container}/logs/{name}")
    with pytest.raises(ApiError, match="^log file name console.log not valid$"):
        server.delete(f"/1.0/containers/{container}/logs/console.log")


def test_a_command_needs_a_container_that_runs(server: Daemon, container: str) -> None:
    server.post("/1.0/containers", {"name": "idle", "source": {"type": "none"}})
    with pytest.raises(ApiError, match=r"^Container is not running\.$"):
        server.post("/1.0/containers/idle/exec", {"command": ["true"]})
    server.delete("/1.0/containers/idle")
    with pytest.raises(ApiError, match=r"^not found$"):
        server.post("/1.0/containers/nobody/exec", {"command": ["true"]})


def test_eight_at_once_all_end_well(server: Daemon, container: str) -> None:
    urls = []
    for number in range(8):
        body = {"command": ["sh", "-c", f"sleep 0.1; exit {number}"]}
        status, headers, _ = server.request("POST", f"/1.0/containers/{container}/exec", body)
        assert status == 202
        urls.append(headers["location"])
    found = [server.get(f"{url}/wait")["metadata"]["return"] for url in urls]
    assert found == list(range(8))


NONSENSE = [
    *("{", "[]", "null", "[" * 100_000, '{"command":"dance"}'),
    *(f'{{"command":"signal","signal":{number}}}' for number in ("999", "-1", "1e999", "9" * 30, '"x"')),
    *(f'{{"command":"window-resize","args":{{"width":"{size}","height":"1"}}}}' for size in ("70000", "-1", "x")),
    '{"command":"window-resize","args":null}',
]


@pytest.mark.parametrize("interactive", [False, True])
def test_what_makes_no_sense_on_the_control_socket_is_ignored(
    server: Daemon, container: str, interactive: bool
) -> None:
    script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    command = Begun(server, container, script, interactive=interactive, width=70000, height=24)

    async def talk(sockets: dict[str, WebSocketConnection]) -> None:
        output = sockets["0" if interactive else "1"]
        assert (await output.get_message()).split() == [b"ready"]
        for text in (*NONSENSE, '{"command":"signal","signal":15}'):
            await sockets["control"].send_message(text)
        with trio.fail_after(20):
            assert (await output.get_message()).split() == [b"told"]

    command.connect(command.secrets, talk)
    assert command.end() == 7


class Begun:
    """A script that waits for its websockets."""

    def __init__(self, server: Daemon, container: str, script: str, **fields: object) -> None:
        body = {"command": ["sh", "-c", script], "wait-for-websocket": True} | fields
        made = json.loads(server.request("POST", f"/1.0/containers/{container}/exec", body)[2])["metadata"]
        self.secrets: dict[str, str] = made["metadata"]["fds"]
        self._server = server
        self._url = f"/1.0/operations/{made['id']}"

    def connect(self, names: Iterable[str], talk: Callable[[dict[str, WebSocketConnection]], Awaitable[None]]) -> None:
        """Connects some of them, and breaks their connections after the talk."""

        async def run() -> None:
            async with AsyncExitStack() as streams, trio.open_nursery() as nursery:
                sockets = {}
                for name in names:
                    stream = await streams.enter_async_context(await trio.open_unix_socket(str(self._server.socket)))
                    path = f"{self._url}/websocket?secret={self.secrets[name]}"
                    sockets[name] = await wrap_client_stream(nursery, stream, "lxd", path)
                await talk(sockets)
                nursery.cancel_scope.cancel()

        trio.run(run)

    def end(self) -> int:
        """Its exit status."""
        status: int = self._server.get(f"{self._url}/wait?timeout=20")["metadata"]["return"]
        return status


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "goodbye", "status"),
    [
        (("0", "1", "2", "control"), ("control",), 5),  # Who says goodbye leaves the command to itself.
        (("0", "1", "2", "control"), ("0", "1", "2", "control"), 5),
        (("0", "1", "2", "control"), (), 137),
        (("0", "1", "2"), ("0", "1", "2"), 5),
        (("0", "1", "2"), (), 137),
        (("0", "1", "2"), ("2",), 5),
    ],
)
def test_a_command_ends_with_a_client_that_died_only(
    server: Daemon, container: str, names: tuple[str, ...], goodbye: tuple[str, ...], status: int
) -> None:
    command = Begun(server, container, "echo ready; sleep 1; exit 5")

    async def talk(sockets: dict[str, WebSocketConnection]) -> None:
        assert await sockets["1"].get_message() == b"ready\n"
        for name in goodbye:
            await sockets[name].aclose()
        if goodbye and names[-1] == "control":
            assert await trio.to_thread.run_sync(command.end) == status

    command.connect(names, talk)
    assert command.end() == status


@pytest.mark.slow
def test_commands_leave_no_descriptor_behind(server: Daemon, container: str) -> None:
    assert server.process is not None
    folder = Path(f"/proc/{_daemon_pid(server)}/fd")
    server.lxc("exec", "-T", container, "--", "true")

    def held() -> int:  # Files of the log are opened when they are first written.
        return sum(not one.readlink().is_relative_to(server.directory) for one in folder.iterdir())

    before = within(5, "its descriptors", held)
    for _ in range(5):
        server.lxc("exec", "-T", container, "--", "sh", "-c", "echo x; exit 1", check=False)
        server.lxc("exec", "-t", container, "--", "true")
    server.patch(f"/1.0/containers/{container}", {"config": {"limits.processes": "1"}})
    for terminal in ("-t", "-T"):  # They cannot even begin.
        assert server.lxc("exec", terminal, container, "--", "true", check=False).returncode == 1
    server.patch(f"/1.0/containers/{container}", {"config": {"limits.processes": ""}})
    within(5, "closed descriptors", lambda: held() <= before)


def _daemon_pid(server: Daemon) -> int:
    pid: int = server.get("/1.0")["environment"]["server_pid"]
    return pid
