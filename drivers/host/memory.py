"""The memory of this host: how much there is, and how it is swapped."""

from pathlib import Path


def total() -> int:
    """Bytes of memory that the kernel manages."""
    return _information()["MemTotal"]


def usage() -> tuple[int, int]:
    """Bytes (used, total); what the kernel keeps of files is not in use."""
    found = _information()
    return found["MemTotal"] - found["MemFree"] - found["Cached"] - found["Buffers"], found["MemTotal"]


def _information() -> dict[str, int]:
    """The sizes in /proc/meminfo, in bytes."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}


def swappiness() -> int:
    """How readily the host swaps: what a control group of version 1 that says nothing itself has."""
    return int(Path("/proc/sys/vm/swappiness").read_text())
