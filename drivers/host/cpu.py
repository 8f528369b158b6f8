"""The processors of this host, and which of them each container gets.

Owns the balance over all containers (spec/config-keys.md 3, "CPU balancing"); refuses to write a cpuset."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from lxdnode.drivers.host.cgroup import Layout


def parse(text: str) -> set[int]:
    """The processors of a list such as `0-3,5`. ValueError for anything else."""
    return {number for numbers in _ranges(text) for number in numbers}


def _ranges(text: str) -> Iterator[range]:
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        yield range(int(first), int(last if dash else first) + 1)


def render(chosen: set[int]) -> str:
    """A set of processors as the kernel reads it: `0,1,10`."""
    return ",".join(map(str, sorted(chosen)))


def usable(layout: Layout) -> set[int]:
    """The processors that containers may run on: those of the root group without the isolated ones."""
    mount = layout.hierarchies.get("cpuset") or layout.unified
    isolated = _read(Path("/sys/devices/system/cpu/isolated"))
    for name in ("cpuset.effective_cpus", "cpuset.cpus.effective", "cpuset.cpus"):
        if mount and (found := _read(mount / name)):
            return found - isolated
    return _read(Path("/sys/devices/system/cpu/online")) - isolated


def _read(path: Path) -> set[int]:
    return parse(path.read_text()) if path.exists() else set()


def pinned(limit: str, available: set[int]) -> set[int] | None:
    """Those of the processors that limits.cpu names (a client may name a million); None when it is a number of them,
    unset, or cannot be read."""
    if not limit or limit.isdigit():
        return None
    try:
        named = list(_ranges(limit))
    except ValueError:
        return None
    return {cpu for cpu in available if any(cpu in numbers for numbers in named)}


def balance(limits: Mapping[str, str], available: set[int]) -> dict[str, set[int]]:
    """Which processors each container gets, by its limits.cpu: `{"c1": "2", "c2": "0-1", "c3": ""}`.

    A list pins; a number takes that many, the least used first (what is pinned counts); unset takes all."""
    chosen: dict[str, set[int]] = {}
    use: Counter[int] = Counter()
    for name, limit in limits.items():
        named = pinned(limit, available)
        if named is not None:
            chosen[name] = named or available
            use.update(chosen[name])
    for name, limit in sorted(limits.items()):
        if name in chosen:
            continue
        count = int(limit) if limit.isdigit() and int(limit) else len(available)
        chosen[name] = set(sorted(available, key=lambda cpu: (use[cpu], cpu))[:count])
        if len(chosen[name]) < len(available):
            use.update(chosen[name])
    return chosen
