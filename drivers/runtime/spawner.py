"""The spawner: a small process of one thread with liblxc loaded, which forks a child for each request.

Owns every call of liblxc; refuses to wait for anything: a request that hangs hangs in its own child. Runs `main`
with a seqpacket socket as standard input, and is ended by its EOF.

A message on the socket carries no data but file descriptors: first a stream socket (the *channel*) with one dictionary
as the request (marshal: both ends are the same Python), ended by a shutdown, then those that the request is about.
Answers are lines on it, `NAME VALUE`.

It imports as little as it can, the modules in C below `lxc`, `signal` and `socket`: what a process has imported, each
of its forks copies, and a command takes four of them (1.3 ms of CPU each with those three and json, 0.5 without)."""

from __future__ import annotations

import _signal as signal
import _socket as socket
import ctypes
import gc
import marshal
import os
import select
import sys

import _lxc as lxc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Request = dict[str, Any]
    Answer = Callable[..., None]

MOST_DESCRIPTORS = 4
"""The channel, and standard input, output and error."""

PATIENCE = 5
"""Seconds that a child which has run a command waits for another one."""

_TAKEN, _WAITS, _GONE = b"t", b"w", b"g"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_CLONE3, _CLONE_INTO_CGROUP = 435, 1 << 33
_libc = ctypes.CDLL(None)


def main() -> None:
    """Keeps a child that waits for the next request, until the daemon has gone.

    Forked beforehand, since a fork takes a third of a command's time; it takes a request by itself and says so."""
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)  # No child may hand our socket on.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel reaps our children: we never wait.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the daemon's terminal is the daemon's affair.
    gc.freeze()  # A collection in a child would write to, and so copy, every page that it shares with us.
    own = os.getpid()
    poll = select.poll()
    waits: dict[int, bool] = {}  # by the pipe of each child
    while True:
        if not any(waits.values()):
            reading, writing = os.pipe()
            if os.fork() == 0:
                _work(requests, writing, own)
            os.close(writing)
            waits[reading] = True
            poll.register(reading, select.POLLIN)
        for reading, _ in poll.poll():
            said = os.read(reading, 1)
            if said == _GONE:
                return
            waits[reading] = said == _WAITS
            if not said:
                del waits[reading]
                poll.unregister(reading)
                os.close(reading)


def _work(requests: socket.socket, report: int, spawner: int) -> None:
    """Serves requests in a child that ends with the spawner, unless it has one, and with a request that leaves more
    behind than a command does. Else it waits a while for another one: what it has copied is not copied again."""
    while True:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != spawner:  # The spawner ended before the line above.
            os._exit(1)
        data, ancillary, _, _ = requests.recvmsg(1, socket.CMSG_SPACE(4 * MOST_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC)
        signal.alarm(0)
        _libc.prctl(_PR_SET_PDEATHSIG, 0)
        os.write(report, _TAKEN if data else _GONE)
        if not data or not _serve([fd for _, _, rights in ancillary for fd in memoryview(rights).cast("i")]):
            os._exit(0)
        signal.alarm(PATIENCE)  # Its end takes no request along: one that nobody read is sent again.
        os.write(report, _WAITS)


def _serve(descriptors: Sequence[int]) -> bool:
    """One request; returns whether this process can serve another one: liblxc has not been at work in it."""
    channel = socket.socket(fileno=descriptors[0])

    def answer(name: str, value: object = "", *passed: int) -> None:
        line = f"{name} {value}".replace("\n", " ").encode() + b"\n"
        rights = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in passed)
        channel.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if passed else [])

    try:
        # Python ignores these two, and every container's init and every command would inherit it.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        with open(descriptors[0], "rb", closefd=False) as file:
            request = marshal.load(file) | {"channel": descriptors[0]}
        _ACTIONS[request["action"]](request, descriptors[1:], answer)
    except BaseException as error:  # Whatever it is, the daemon waits for an answer.
        answer("error", f"{type(error).__name__}: {error}")
        return False
    channel.close()
    return bool(request["action"] == "attach")


def _container(request: Request) -> Any:
    return lxc.Container(request["name"], request["path"])


def _start(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    """Starts a container from its configuration file and answers init's pid; its reasons are in its log."""
    container = _container(request)
    if not container.load_config(request["configuration"]):
        answer("error", f"liblxc refuses the configuration {request['configuration']}")
    elif not container.start():
        answer("error", "liblxc did not start it")
    else:
        answer("pid", container.init_pid)


def _check(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    """Reads lines of a configuration, which no container gets."""
    if not lxc.Container("check", "/nowhere").load_config(f"/proc/self/fd/{descriptors[0]}"):
        answer("error", "liblxc refuses them")
    else:
        answer("done")


def _attach(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    """Runs a command in a container: answers its pid with a pidfd, and its wait status when it ends.

    A child of ours is in the container's groups and starts it; with that child's end the command becomes ours."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    reading, writing = os.pipe()
    child, inside = _fork_into(request["leaf"])
    if child == 0:
        _begin(request, descriptors, writing, inside)
    for descriptor in (writing, *descriptors):
        os.close(descriptor)  # Else the daemon would never see the end of what the command writes.
    begun = os.read(reading, 4096).decode()
    os.close(reading)
    os.waitpid(child, 0)
    if not begun.isdigit():
        answer("error", begun or "the process that should start the command was killed")
        return
    pidfd = os.pidfd_open(int(begun))
    answer("pid", begun, pidfd)
    os.close(pidfd)
    answer("status", os.waitpid(int(begun), 0)[1])


def _fork_into(leaf: str | None) -> tuple[int, bool]:
    """Forks, and gives the child's pid (0 in the child) and whether it was born in the group `leaf` of version 2.

    Moving it there would cost the kernel a grace period, in which all else that moves waits too: 5 to 20 ms."""
    if leaf is None:
        return os.fork(), True
    try:
        group = os.open(leaf, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.fork(), False  # liblxc makes it, for the container's first command.
    arguments = (ctypes.c_uint64 * 11)(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
    child = _libc.syscall(_CLONE3, arguments, ctypes.sizeof(arguments))
    os.close(group)
    return (child, True) if child >= 0 else (os.fork(), False)


def _begin(request: Request, descriptors: Sequence[int], report: int, inside: bool) -> None:
    """Starts the command in a child, and writes its pid or why there is none to `report`. Never returns."""
    try:
        os.write(report, b"%d" % _start_command(request, descriptors, inside))
    except Exception as error:
        os.write(report, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def _start_command(request: Request, descriptors: Sequence[int], inside: bool) -> int:
    """The pid of the command, which inherits the groups that we are in. liblxc moves it where we are not `inside`.

    Streams that are a terminal become the controlling one of a new session: liblxc sees to that itself."""
    flags = lxc.LXC_ATTACH_DEFAULT
    if inside:
        flags &= ~lxc.LXC_ATTACH_MOVE_TO_CGROUP
        for tasks in request["tasks"]:
            file = os.open(tasks, os.O_WRONLY | os.O_CLOEXEC)
            os.write(file, b"0")  # Who moves itself alone needs no grace period; `cgroup.procs` would.
            os.close(file)
    container = _container(request)
    container.load_config(request["configuration"])  # For the resource limits; a command works without them too.
    container.clear_config_item("lxc.environment")  # That of the start: a command has what is wanted now.
    stdin, stdout, stderr = descriptors
    pid: int = container.attach(
        lxc.attach_run_command,
        (request["command"][0], request["command"]),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        attach_flags=flags,
        env_policy=lxc.LXC_ATTACH_CLEAR_ENV,
        extra_env_vars=[f"{name}={value}" for name, value in request["environment"].items()],
        initial_cwd=request["directory"],
        uid=0,
        gid=0,
    )
    if pid < 0:
        raise ChildProcessError("liblxc did not attach")
    return pid


def _console(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    """Opens the console of init and answers with its terminal, which lives until the channel is closed."""
    container = _container(request)
    if not container.running:
        answer("error", "Container is not running")
        return
    try:
        master = container.console_getfd(0)
    except ValueError:
        answer("error", "The console cannot be opened: somebody else has it open")
        return
    answer("terminal", "", master)
    poll = select.poll()
    poll.register(request["channel"], 0)  # Nothing but a hang-up: of the request's end we know already.
    poll.poll()


def _group(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    """Writes a file of a running container's control group, or what stands for it in version 2."""
    if not _container(request).set_cgroup_item(request["file"], request["value"]):
        answer("error", f"liblxc did not set {request['file']} to {request['value']}")
    else:
        answer("done")


def _dump(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    from lxdnode.drivers.runtime import criu  # Here, as no other request needs what it imports.

    criu.dump(request["arguments"], request["socket"], descriptors[0], lambda: answer("dumped"))
    answer("done")


def _restore(request: Request, descriptors: Sequence[int], answer: Answer) -> None:
    from lxdnode.drivers.runtime import criu

    criu.restore(request["arguments"], request["state"], request["folder"], request["console"], request["owner"])
    answer("pid", _container(request).init_pid)


_ACTIONS: dict[str, Callable[[Request, Sequence[int], Answer], None]] = {
    "start": _start,
    "check": _check,
    "attach": _attach,
    "console": _console,
    "group": _group,
    "dump": _dump,
    "restore": _restore,
}
