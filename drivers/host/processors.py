"""The processors of this host as hardware: sockets, cores and threads.

Owns what /proc/cpuinfo and /sys say of them; refuses to know which of them a container may use (`cpu.py` does)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_INFORMATION = Path("/proc/cpuinfo")
_SYSTEM = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Socket:
    """One processor chip. `frequency` and `turbo` in MHz, 0 = not known; `vendor` and `model` are empty then."""

    cores: int
    threads: int
    frequency: int = 0
    turbo: int = 0
    vendor: str = ""
    model: str = ""


def sockets() -> list[Socket]:
    """The sockets of the processors that are on line."""
    chips: dict[str, list[Mapping[str, str]]] = {}
    for block in _INFORMATION.read_text().strip().split("\n\n"):
        found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())}
        if "processor" in found:
            chips.setdefault(_topology(found["processor"], "physical_package_id"), []).append(found)
    return [_socket(threads) for _, threads in sorted(chips.items())]


def _socket(threads: list[Mapping[str, str]]) -> Socket:
    first = threads[0]
    return Socket(
        cores=len({_topology(one["processor"], "core_cpus_list") for one in threads}),
        threads=len(threads),
        frequency=round(max(float(one.get("cpu MHz", 0)) for one in threads)),
        turbo=round(max(_turbo(one["processor"]) for one in threads)),
        vendor=first.get("vendor_id", ""),
        model=first.get("model name", ""),
    )


def _topology(processor: str, name: str) -> str:
    return (_SYSTEM / f"cpu{processor}" / "topology" / name).read_text().strip()


def _turbo(processor: str) -> float:
    """MHz, of kHz."""
    path = _SYSTEM / f"cpu{processor}" / "cpufreq" / "cpuinfo_max_freq"
    return int(path.read_text()) / 1000 if path.exists() else 0
