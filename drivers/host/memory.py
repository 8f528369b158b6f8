"""The memory of this host: how much there is, and how it is swapped."""

from pathlib import Path


def total() -> int:
    """Bytes of memory that the kernel manages."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    raise AssertionError("/proc/meminfo has no MemTotal")


def swappiness() -> int:
    """How readily the host swaps: what a control group of version 1 that says nothing itself has."""
    return int(Path("/proc/sys/vm/swappiness").read_text())
