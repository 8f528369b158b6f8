"""What a server and its host have of containers at one moment, in words that are the same at each run.

Owns what is looked at; refuses to say what should be there."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxdnode.raft import recovery
from tests.harness.daemons import Daemon, processes_of
from tests.harness.namespaces import run

Scene = Counter[str]
"""Lines, and how often each of them occurs."""

_RANDOM = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "FINGERPRINT"),
    (re.compile(r"\bveth[0-9A-Za-z]+"), "VETH"),
    (re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "MAC"),
    (re.compile(r"(lxd-node\.[\w.-]+)\.[0-9a-f]{8}$"), r"\1.ID"),
)
_PASSED_OVER = ("raft", "logs", "history", "unix.socket", "networks")
_VOLUMES = ("containers", "snapshots")
_LIMITS = ("memory.max", "memory.limit_in_bytes", "pids.max")
_GROUPS = Path("/sys/fs/cgroup")


def look(server: Daemon, keeper: int, prefix: str) -> Scene:
    """The scene; `keeper` is a process in the server's mount and network namespaces, and `prefix` how the names of its
    containers begin, and of nobody else's."""
    containers = server.get("/1.0/containers?recursion=2")
    found = [
        *_records(server, containers),
        *_documents(server),
        *_files(server.directory),
        *(f"temporary file {path.name}" for path in Path(server.extra["TMPDIR"]).iterdir()),
        *_volumes(server.directory / "storage-pools/default", containers),
        *_network(server, keeper),
        *_groups(prefix),
        *_mounts(server.directory, keeper, containers),
        *_processes(server),
    ]
    return Scene(map(_plain, found))


def _plain(line: str) -> str:
    for pattern, word in _RANDOM:
        line = pattern.sub(word, line)
    return line


def _records(server: Daemon, containers: list[dict[str, Any]]) -> Iterator[str]:
    """What the API shows."""
    for container in containers:
        name = container["name"]
        for key in ("status", "ephemeral", "stateful", "description", "profiles", "devices"):
            yield f"{name}: {key} {container[key]}"
        for key, value in container["config"].items():
            yield f"{name}: config {key}={value}"
        for kind in ("snapshots", "backups"):
            yield from (f"{name}: {kind} {one['name']}" for one in container[kind] or [])
        yield from (f"{name}: interface {one}" for one in container["state"]["network"] or {})
    for image in server.get("/1.0/images?recursion=1"):
        yield f"image {image['properties']} {[alias['name'] for alias in image['aliases']]}"
    yield f"operations {server.get('/1.0/operations').get('running')}"  # Those that have ended stay for some seconds.
    yield f"unknown {server.get('/internal/cluster/status')['unknown']}"


def _documents(server: Daemon) -> Iterator[str]:
    """How many documents each table has: names, references and claims among them."""
    state = recovery.read(server.directory / "raft").state
    for table, groups in state.tables.items():
        yield f"{sum(len(group.documents) for group in groups.values())} documents in {table}"


def _files(directory: Path) -> Iterator[str]:
    """Names in the state directory, without what is in root file systems, and what a container's last end left."""
    for folder, folders, files in os.walk(directory):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*folders, *files):
            path = here / name
            if path.match("devices/*/stopped"):
                continue
            yield f"file {path.relative_to(directory)}" + (f" -> {path.readlink()}" if path.is_symlink() else "")
        passed = ("rootfs", *links, *(_PASSED_OVER if here == directory else ()))
        folders[:] = [name for name in folders if name not in passed]
    for path in (directory / "networks").glob("*/dnsmasq.hosts/*"):
        yield f"lease {path.name} {path.read_text().strip()}"


def _volumes(pool: Path, containers: list[dict[str, Any]]) -> Iterator[str]:
    """How many files each volume has that does not change by itself, and what its mark says."""
    running = {container["name"] for container in containers if container["status"] != "Stopped"}
    for kind in _VOLUMES:
        for root in (pool / kind).glob("*/rootfs" if kind == "containers" else "*/*/rootfs"):
            name, mark = root.parent.relative_to(pool), root / "root/mark"
            yield f"{name}: mark {mark.read_text() if mark.exists() else None}"
            if kind == "snapshots" or root.parent.name not in running:
                yield f"{name}: {_count(root)} files"


def _count(root: Path) -> int:
    """Without /etc, where a container that ran a moment may or may not have written what its lease says."""
    return sum(len(names) for part in ("bin", "usr") for _, *both in os.walk(root / part) for names in both)


def _network(server: Daemon, keeper: int) -> Iterator[str]:
    enter = ("nsenter", "-t", str(keeper), "--net")
    for line in run(*enter, "ip", "-o", "link").splitlines():
        yield f"link {line.split()[1].partition('@')[0].rstrip(':')}"
    yield from (f"rule {line}" for line in run(*enter, "nft", "list", "ruleset").splitlines())


def _groups(prefix: str) -> Iterator[str]:
    """Control groups and limits of all containers that there are, or were."""
    for path in (*_GROUPS.glob(f"lxd-node.*.{prefix}*"), *_GROUPS.glob(f"*/lxd-node.*.{prefix}*")):
        yield f"group {path.relative_to(_GROUPS)}"
        for limit in _LIMITS if ".payload." in path.name else ():
            if (path / limit).exists():
                yield f"{path.name.rpartition('.')[0]}: {limit} {(path / limit).read_text().strip()}"


def _mounts(directory: Path, keeper: int, containers: list[dict[str, Any]]) -> Iterator[str]:
    """Mounts on the host below the state directory, loop devices of files there, and mounts inside containers."""
    for point in _points(keeper):
        if point.startswith(f"{directory}/"):
            yield f"mount {point}"
    loops = run("losetup", "--list", "--noheadings", "--output", "BACK-FILE")
    yield from (f"loop of {line}" for line in loops.splitlines() if line.strip().startswith(f"{directory}/"))
    for container in containers:
        if pid := container["state"]["pid"]:
            yield from (f"{container['name']}: mount {point}" for point in _points(pid))


def _points(pid: int) -> list[str]:
    return [line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


def _processes(server: Daemon) -> Iterator[str]:
    """Those that belong to the server, but the daemon's own and those inside containers."""
    assert server.process is not None
    for pid in processes_of(server.directory):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if pid != server.process.pid and "lxdnode.drivers.runtime.spawner" not in " ".join(words):
            yield f"process {words[0]}"
