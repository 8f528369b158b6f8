"""The memory of this host."""

from pathlib import Path


def total() -> int:
    """Bytes of memory that the kernel manages."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    raise AssertionError("/proc/meminfo has no MemTotal")
