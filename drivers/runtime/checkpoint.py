"""The state of a container's processes on the disk: written by CRIU, and made processes again.

Owns the calls of liblxc's program for it, the moment in which all processes stand still, and CRIU's words; refuses to
know where a state is kept and what it is for."""

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import to_host
from lxdnode.drivers.runtime.configure import Configuration
from lxdnode.drivers.runtime.spawning import Spawner

_WORDS = 20
"""Most lines of a log in an error."""
_MARKS = ("Error", "Warn", "ERROR")
_SCRIPT = """\
#!{python} -IS
import os, socket, sys
if os.environ.get("CRTOOLS_SCRIPT_ACTION") == "post-dump":
    with socket.socket(socket.AF_UNIX) as spawner:
        spawner.connect({socket!r})
        sys.exit(not spawner.recv(1))
"""
"""What CRIU runs when all is written and nothing runs yet: it takes the other end's word, whose silence is a no."""


def is_installed() -> bool:
    """Whether this host has CRIU."""
    return shutil.which("criu") is not None


@asynccontextmanager
async def dumped(
    spawner: Spawner, directory: Path, name: str, configuration: Path, state: Path, folder: Path, *, stop: bool
) -> AsyncIterator[None]:
    """Writes the state of the processes of a container below the LXC path `directory` into `state`, a path that does
    not exist. Within the block they stand still, and their files are those that the state goes with.

    After it they end (`stop`) or run on. They run on as well when the block fails, when this daemon ends, and when CRIU
    cannot write their state: DriverError with its words. `folder` takes what the work needs meanwhile."""
    script, hook = folder / "dump-script", folder / "dump-socket"
    hook.unlink(missing_ok=True)
    script.write_text(_SCRIPT.format(python=sys.executable, socket=str(hook)))
    script.chmod(0o700)
    arguments = [*_common(directory, name, configuration, state), "-A", str(script), *(["-s"] if stop else [])]
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        channel, _ = await spawner.open("dump", reading, arguments=arguments, socket=str(hook))
        try:
            yield
            os.write(writing, b"y")
            await channel.receive()
        finally:
            channel.close()
    except DriverError as error:
        logs = (state / "dump.log", configuration.with_name("lxc.log"))
        raise DriverError(await trio.to_thread.run_sync(_words, *logs) or str(error)) from None
    finally:
        os.close(reading)
        os.close(writing)
        script.unlink()
        hook.unlink(missing_ok=True)


async def restore(spawner: Spawner, directory: Path, configuration: Configuration, file: Path, state: Path) -> str:
    """Makes the processes of a container again; returns the pid of init. DriverError with CRIU's words."""
    await trio.to_thread.run_sync(require_plain, state)
    name, folder = configuration.name, configuration.stopped.parent
    arguments = [*_common(directory, name, file, state), "-r"]
    files = {"state": str(state), "folder": str(folder), "console": str(configuration.console)}
    owner = to_host(configuration.idmap, 0, 0) if configuration.idmap else (0, 0)
    try:
        return await spawner.ask("restore", path=str(directory), name=name, arguments=arguments, owner=owner, **files)
    except DriverError as error:
        logs = (state / "restore.log", configuration.log)
        raise DriverError(await trio.to_thread.run_sync(_words, *logs) or str(error)) from None


def require_plain(state: Path) -> None:
    """DriverError unless a state is a directory of plain files. It may have come with a stranger's snapshot or backup,
    and its files are given away, read and written as root: a link would lead that out of the volume."""
    entries = [] if state.is_symlink() or not state.is_dir() else list(state.iterdir())
    odd = [path.name for path in entries if path.is_symlink() or not path.is_file()]
    if odd or not entries:
        raise DriverError(f"the kept state of the processes is none: {', '.join(odd) or state.name} is no plain file")


def _common(directory: Path, name: str, configuration: Path, state: Path) -> list[str]:
    return ["-q", "-v", "-n", name, "-P", str(directory), "--rcfile", str(configuration), "-D", str(state)]


def _words(*logs: Path) -> str:
    """The lines that tell what went wrong, of CRIU's log, or else of liblxc's."""
    for log in logs:
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        if found := [line for line in lines if any(mark in line for mark in _MARKS)]:
            return "\n".join(found[-_WORDS:])
    return ""
