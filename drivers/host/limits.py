"""What LXD's limits mean in control group files, of version 1 and 2 (spec/config-keys.md 3).

Owns the arithmetic of shares, quotas and swap; refuses to write (`cgroup.Groups` and the configuration do)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lxdnode.drivers.config.kinds import is_false, parse_integer, parse_size
from lxdnode.drivers.host.cgroup import Layout, Setting

Allowance = tuple[int, int] | int
"""(quota, period) in ms, or a percentage."""
_LARGEST_PRIORITY = 10
_DEFAULT_SHARES = 1024


def cpu_time(layout: Layout, allowance: Allowance | None, priority: str) -> list[Setting]:
    """limits.cpu.allowance and limits.cpu.priority; both unset gives the kernel's defaults."""
    lower = _LARGEST_PRIORITY - (parse_integer(priority) if priority else _LARGEST_PRIORITY)
    shares, quota, period = _DEFAULT_SHARES - lower, -1, 100_000
    if isinstance(allowance, tuple):
        quota, period = allowance[0] * 1000, allowance[1] * 1000
    elif allowance is not None:
        shares = 10 * allowance + 24 - lower
    if layout.version("cpu") == 1:
        return [
            Setting("cpu", "cpu.shares", str(max(shares, 0))),
            Setting("cpu", "cpu.cfs_period_us", str(period)),
            Setting("cpu", "cpu.cfs_quota_us", str(quota)),
        ]
    return [
        Setting("cpu", "cpu.weight", str(min(max(1, round(shares * 100 / _DEFAULT_SHARES)), 10_000))),
        Setting("cpu", "cpu.max", f"{quota if quota >= 0 else 'max'} {period}"),
    ]


def cpus(chosen: str) -> list[Setting]:
    """The processors that a container runs on, as a list such as `0-1,4`; both versions name the file alike."""
    return [Setting("cpuset", "cpuset.cpus", chosen)]


def processes(limit: str) -> list[Setting]:
    """limits.processes; unset is no limit."""
    return [Setting("pids", "pids.max", limit or "max")]


def disk_weight(layout: Layout, priority: str) -> list[Setting]:
    """limits.disk.priority; unset is what a group has by itself: 5 in version 1, 1 in version 2. Nothing where the
    kernel's scheduler has no weights (version 1 without BFQ)."""
    if layout.version("blkio") == 1:
        weight = str(max(parse_integer(priority or "5") * 100, 10))
        return [Setting("blkio", "blkio.weight", weight)] if layout.has("blkio", "blkio.weight") else []
    return [Setting("io", "io.weight", str(max(parse_integer(priority or "1") * 100, 10)))]


@dataclass(frozen=True)
class Rates:
    """What a disk may do in a second: bytes and operations, 0 = no limit."""

    read: int = 0
    write: int = 0
    reads: int = 0
    writes: int = 0


def parse_rates(read: str, write: str, both: str) -> Rates:
    """The rates of a disk's limits.read, limits.write and limits.max, which overrides both."""
    parsed = [_parse_rate(both or value) for value in (read, write)]
    return Rates(parsed[0][0], parsed[1][0], parsed[0][1], parsed[1][1])


def _parse_rate(value: str) -> tuple[int, int]:
    """(bytes, operations)."""
    if value.endswith("iops"):
        return 0, parse_integer(value.removesuffix("iops"))
    return parse_size(value), 0


def disk_rates(layout: Layout, rates: Mapping[str, Sequence[Rates]]) -> list[Setting]:
    """The rates of block devices (`8:0`), each with those of all disks on it: their average counts, as in LXD."""
    settings: list[Setting] = []
    for device, found in sorted(rates.items()):
        means = {name: _mean(getattr(one, name) for one in found) for name in ("read", "write", "reads", "writes")}
        if layout.version("blkio") == 1:
            settings += [Setting("blkio", f"blkio.throttle.{_V1[name]}", f"{device} {n}") for name, n in means.items()]
        else:
            words = " ".join(f"{_V2[name]}={n or 'max'}" for name, n in means.items())
            settings.append(Setting("io", "io.max", f"{device} {words}"))
    return settings


_V1 = {
    "read": "read_bps_device",
    "write": "write_bps_device",
    "reads": "read_iops_device",
    "writes": "write_iops_device",
}
_V2 = {"read": "rbps", "write": "wbps", "reads": "riops", "writes": "wiops"}


def _mean(values: Iterable[int]) -> int:
    given = [value for value in values if value]
    return sum(given) // len(given) if given else 0


def network_priority(layout: Layout, priority: str, interfaces: Iterable[str]) -> list[Setting]:
    """limits.network.priority on every interface of the host; nothing where the kernel has no such controller."""
    if layout.version("net_prio") != 1:
        return []
    return [Setting("net_prio", "net_prio.ifpriomap", f"{name} {priority or 0}") for name in sorted(interfaces)]


def memory_size(limit: str, total: int) -> int | None:
    """Bytes of limits.memory on a host with `total` bytes; None when unset. A percentage is of the whole host.

    LXD reads MemTotal's kB as 1000 bytes, and so gives 2.4 % less than the percentage: we give what it says."""
    if not limit:
        return None
    return total * parse_integer(limit[:-1]) // 100 if limit.endswith("%") else parse_size(limit)


def memory(
    layout: Layout, limit: int | None, soft: bool, swap: str, swap_priority: str, swappiness: int
) -> list[Setting]:
    """limits.memory with .enforce, .swap and .swap.priority, in an order that the kernel takes at any time.
    `swappiness`: the host's, which is in force while the last is unset."""
    if layout.version("memory") == 1:
        return _memory_v1(layout, limit, soft, swap, swap_priority, swappiness)
    hard = str(limit) if limit is not None and not soft else "max"
    settings = [Setting("memory", "memory.high", str(limit) if limit is not None and soft else "max")]
    settings.append(Setting("memory", "memory.max", hard))
    # Version 2 counts swap by itself: LXD's one limit for both is memory.max and no more swap than that.
    return [*settings, Setting("memory", "memory.swap.max", "0" if is_false(swap) else hard)]


def _memory_v1(
    layout: Layout, limit: int | None, soft: bool, swap: str, swap_priority: str, swappiness: int
) -> list[Setting]:
    counts_swap = layout.has("memory", "memory.memsw.limit_in_bytes")
    hard = limit is not None and not soft
    settings = [Setting("memory", "memory.memsw.limit_in_bytes", "-1")] if counts_swap else []
    settings.append(Setting("memory", "memory.limit_in_bytes", str(limit) if hard else "-1"))
    if hard and counts_swap and not is_false(swap):
        settings.append(Setting("memory", "memory.memsw.limit_in_bytes", str(limit)))
    low = "-1" if limit is None else str(limit if soft else limit * 9 // 10)
    settings.append(Setting("memory", "memory.soft_limit_in_bytes", low))
    if is_false(swap):
        swappiness = 0
    elif swap_priority:
        swappiness = 50 + parse_integer(swap_priority)
    return [*settings, Setting("memory", "memory.swappiness", str(swappiness))]
