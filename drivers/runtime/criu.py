"""What the spawner's child does for CRIU: runs liblxc's program, holds all processes still, and sees to the console.

Owns the terminal behind /dev/console of a container that was restored, and the process that keeps it (this file as a
program, with the standard library alone); refuses to know what a state is for."""

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_CHECKPOINT = "lxc-checkpoint"
"""liblxc's own program: the binding has no word for what it does."""

_TERMINAL = 60
"""The descriptor by which CRIU gets the terminal: high, as liblxc must not use it before."""
_LOG_SIZE = 128 * 2**10
_CRIU = """\
#!{python} -IS
import os, sys
words = [{mount!r} if word == "console:" else word for word in sys.argv]
os.execv({criu!r}, [*words, "--inherit-fd", {inherited!r}] if "restore" in words else words)
"""
"""What liblxc finds as `criu`: it names no console, since it makes that later, in the container that it starts."""


def dump(arguments: Sequence[str], hook: str, go: int, dumped: Callable[[], None]) -> None:
    """Writes the state of a container's processes. Calls `dumped` once it is written and they stand still; when the
    pipe `go` gives a byte it goes on to their end (or lets them run, without `-s`). When the pipe gives none, because
    the daemon has changed its mind or has gone, they run on. OSError when it failed.

    CRIU waits for its script, which waits on the socket `hook`."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(hook)
        listening.listen()
        null = subprocess.DEVNULL
        process = subprocess.Popen([_CHECKPOINT, *arguments], stdin=null, stdout=null, stderr=null)
        poll = select.poll()
        poll.register(listening, select.POLLIN)
        poll.register(os.pidfd_open(process.pid), select.POLLIN)
        if listening.fileno() in dict(poll.poll()):
            script, _ = listening.accept()
            with script:
                dumped()
                script.sendall(os.read(go, 1))
        _check(process.wait())


def restore(arguments: Sequence[str], state: str, folder: str, console: str, owner: tuple[int, int]) -> None:
    """Starts a container from a state. OSError when it failed. `folder` takes what the work needs meanwhile; what the
    console writes goes to `console`. `owner`: the host's ids of the container's root, who reads the state and has the
    terminal."""
    _check(_restore(arguments, Path(state), Path(folder), Path(console), owner))


def _check(status: int) -> None:
    if status:
        raise ChildProcessError(f"{_CHECKPOINT} ended with status {status}")


def _restore(arguments: Sequence[str], state: Path, folder: Path, console: Path, owner: tuple[int, int]) -> int:
    for path in (state, *state.iterdir()):
        os.chown(path, *owner)
    info, known = state / "tty.info", state / "terminal"
    if info.exists():
        info.rename(known)  # liblxc refuses a state that has one.
    if not known.exists():  # The container has no console.
        return _run(arguments, {})
    master, slave = os.openpty()
    os.fchown(slave, *owner)
    os.dup2(slave, _TERMINAL)
    keeper = [sys.executable, "-IS", __file__, str(console)]
    subprocess.Popen(keeper, stdin=master, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(master)
    own = folder / "bin"
    own.mkdir(exist_ok=True)
    (own / "criu").write_text(
        _CRIU.format(
            python=sys.executable,
            mount=f"console:{os.ttyname(slave)}",
            criu=shutil.which("criu"),
            inherited=f"fd[{_TERMINAL}]:{known.read_text()}",
        )
    )
    (own / "criu").chmod(0o700)
    try:
        return _run(arguments, {"PATH": f"{own}:{os.environ.get('PATH', os.defpath)}"})
    finally:
        shutil.rmtree(own)


def _run(arguments: Sequence[str], environment: dict[str, str]) -> int:
    null = subprocess.DEVNULL
    command, env = [_CHECKPOINT, *arguments], {**os.environ, **environment}
    return subprocess.call(command, env=env, stdin=null, stdout=null, stderr=null, close_fds=False)


def keep(console: Path) -> None:
    """Writes what comes from the terminal at standard input into the log of the console, as liblxc would, until the
    container has gone."""
    while data := _read():
        if console.exists() and console.stat().st_size + len(data) > _LOG_SIZE:
            console.rename(console.with_name(console.name + ".1"))
        with open(console, "ab") as file:
            file.write(data)


def _read() -> bytes:
    try:
        return os.read(0, 65536)
    except OSError:  # Nobody has the other end any more.
        return b""


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
