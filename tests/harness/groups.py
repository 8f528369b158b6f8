"""The limits that are in force for a container, in the files of its own control groups.

Owns which files those are, of both versions; refuses to find them by name: other daemons may have a container of it."""

from lxdnode.drivers.host.cgroup import Groups, detect
from lxdnode.drivers.runtime.configure import PAYLOAD
from tests.harness.daemons import Daemon

_FILES = {
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.weight", "cpu.max"),
    "cpuset": ("cpuset.cpus",),
    "memory": (
        *("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness"),
        *("memory.max", "memory.high", "memory.swap.max"),
    ),
    "blkio": ("blkio.weight",),
    "io": ("io.weight",),
    "pids": ("pids.max",),
}


def groups_of(daemon: Daemon, name: str) -> Groups:
    """The control groups of a container that runs."""
    return Groups(detect(), daemon.get(f"/1.0/containers/{name}/state")["pid"], PAYLOAD)


def limits_of(daemon: Daemon, name: str) -> dict[str, str]:
    """The files that this host has, with what is in them."""
    groups = groups_of(daemon, name)
    found = {file: groups.read(controller, file) for controller, files in _FILES.items() for file in files}
    return {file: text for file, text in found.items() if text is not None}
