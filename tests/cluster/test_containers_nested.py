"""A container in a container: lxd-node itself, run in an unprivileged container of this server, has one of its own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdnode.drivers.host.idmap import SMALLEST_RANGE, host_range
from tests.harness.daemons import LXD_NODE, Daemon, within

pytestmark = pytest.mark.slow

INSIDE = "/var/lib/inner"
REPOSITORY = LXD_NODE.parents[2]
"""The repository: the programs inside are the host's, mounted to where they are."""


@pytest.fixture
def outer(server: Daemon, image: bytes) -> Iterator[str]:
    """An unprivileged container that may nest, with the programs of this host and an image to make more of."""
    host = host_range()
    if host is None or host.size < 2 * SMALLEST_RANGE:
        pytest.skip("root has too few ids in /etc/subuid to share them with a container inside")
    trees = {Path("/usr"), REPOSITORY, Path(sys.base_prefix).resolve()}
    mounts = {path for path in trees if path == Path("/usr") or not path.is_relative_to("/usr")}
    devices = {
        f"host-{number}": {"type": "disk", "source": str(path), "path": str(path), "readonly": "true"}
        for number, path in enumerate(sorted(mounts))
    }
    config = {"security.nesting": "true", "raw.lxc": f"lxc.init.cmd = {shutil.which('sleep')} infinity"}
    server.post("/1.0/containers", {"name": "outer", "source": {"type": "none"}, "config": config, "devices": devices})
    for folder in ("etc", "proc", "sys", "dev", "tmp", "run", "root", "var", "var/lib", "var/tmp"):
        _put(server, f"/{folder}", type="directory", mode="0755")
    for link in ("bin", "sbin", "lib", "lib64"):
        _put(server, f"/{link}", f"usr/{link}".encode(), type="symlink")
    for name in ("passwd", "group", "ld.so.cache"):
        _put(server, f"/etc/{name}", Path("/etc", name).read_bytes(), mode="0644")
    for name in ("subuid", "subgid"):
        _put(server, f"/etc/{name}", f"root:{SMALLEST_RANGE}:{SMALLEST_RANGE}\n".encode(), mode="0644")
    _put(server, "/root/image", image)
    server.put("/1.0/containers/outer/state", {"action": "start"})
    yield "outer"
    server.lxc("delete", "--force", "outer", check=False)


def _put(server: Daemon, path: str, content: bytes = b"", **headers: str) -> None:
    given = {f"X-LXD-{name}": value for name, value in headers.items()}
    server.ask("POST", f"/1.0/containers/outer/files?path={path}", content, given)


def run(server: Daemon, *command: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in the outer container, for the daemon in there."""
    environment = (f"LXD_DIR={INSIDE}", "LXD_CONF=/root/conf", "HOME=/root")
    return server.lxc("exec", "-T", "outer", "--", "env", *environment, *command, check=check)


def test_a_container_runs_in_a_container(server: Daemon, outer: str) -> None:
    start = f"mkdir {INSIDE}; setsid {LXD_NODE} daemon >{INSIDE}.log 2>&1 </dev/null &"
    run(server, "sh", "-c", start)
    within(20, "a daemon inside", lambda: run(server, str(LXD_NODE), "waitready", check=False).returncode == 0)
    for words in (
        "storage create default dir",
        "profile device add default root disk path=/ pool=default",
        "image import /root/image --alias bb",
        "launch bb inner",
    ):
        run(server, "lxc", *words.split())
    assert run(server, "lxc", "exec", "-T", "inner", "--", "hostname").stdout == b"inner\n"
    shown = run(server, "lxc", "exec", "-T", "inner", "--", "cat", "/proc/self/uid_map").stdout.split()
    assert shown == [b"0", b"65536", b"65536"]  # As the outer one sees it, whose own ids are others already.
    assert (
        run(server, "lxc", "exec", "-T", "inner", "--", "sh", "-c", "chown 5 /root && ls /dev/lxd").stdout == b"sock\n"
    )
    run(server, "lxc", "delete", "--force", "inner")
    run(server, str(LXD_NODE), "shutdown")
