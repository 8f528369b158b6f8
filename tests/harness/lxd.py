"""A real LXD in namespaces of its own, for what it and lxd-node give each other.

Owns the process and its end; refuses to start containers in it (its cgroups would be ours)."""

import ctypes
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.harness.daemons import Daemon, within

_INSIDE = """
mount --make-rprivate / && mount -t proc proc /proc && ip link set lo up &&
{ [ ! -d /var/lib/lxd ] || mount -t tmpfs tmpfs /var/lib/lxd; } && exec "$@"
"""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def find_lxd() -> str | None:
    """LXD's daemon on this host, or None."""
    return shutil.which("lxd")


class Lxd(Daemon):
    """LXD with its state in `directory`: asked like any daemon, and by the same client."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, name="lxd")

    def start(self, *options: str) -> "Lxd":
        """Starts it in namespaces of its own; it ends with this process at the latest."""
        self.directory.mkdir(mode=0o711, parents=True)
        spaces = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL")
        with open(f"{self.directory}.log", "ab") as log:
            self.process = subprocess.Popen(
                ["unshare", *spaces, "sh", "-c", _INSIDE, "inside", "lxd", "--group", "root", *options],
                env={**self.environment, "LXD_OFFLINE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        within(30, "LXD answers", lambda: self.get("/1.0")["environment"]["server_version"])
        return self

    def inside(self) -> list[int]:
        """The processes that entered its namespaces: the first of its pid namespace."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> None:
        """Ends it: with the first process of its pid namespace goes all that it started."""
        assert self.process is not None
        for pid in self.inside():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.sweep()
