"""`scripts/bench memory`: whether the memory of members stays as it is under a steady trickle of writes.

Owns the writer and the table; what a member's memory is, says `footprint.py`."""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from tests.bench.footprint import Footprint
from tests.harness.daemons import Cluster, Daemon

KEYS = 50
INDEXES = 18_000  # after so many writes the log in memory is full (raft/DESIGN.md); answers, 50 bytes each, are not yet
GROWTH = 2.0  # MiB that the second half of the time after that may have more than the first, in the mean


def main() -> int:
    """0 when no member grew after the first minutes."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--minutes", type=int, default=35, help="(default: 35)")
    parser.add_argument("--rate", type=float, default=20.0, help="writes a second (default: 20)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lxdn-memory-", dir="/tmp"))
    directory.chmod(0o711)
    cluster = Cluster(directory, 3, f"lm{os.getpid():x}", "10.92.0")
    try:
        cluster.start().form()
        return _run(cluster, options.minutes, options.rate)
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _run(cluster: Cluster, minutes: int, rate: float) -> int:
    leader = cluster.leader()
    prints = {member.name: Footprint(member.process.pid) for member in cluster.members if member.process}
    for key in range(KEYS):
        leader.post("/1.0/profiles", {"name": f"p{key}"})
    print(f"MiB by minute of {rate:g} writes a second; {leader.name} leads")
    print("| minute | index | " + " | ".join(prints) + " |", flush=True)
    full: list[list[float]] = []
    for minute in range(minutes + 1):
        sizes = [one.pss() for one in prints.values()]
        index = leader.get("/internal/cluster/status")["store"]["applied"]
        print(f"| {minute} | {index:,} | " + " | ".join(f"{size:.1f}" for size in sizes) + " |", flush=True)
        if index > INDEXES:
            full.append(sizes)
        if minute < minutes:
            _write(leader, 60.0, rate)
    grew = [_growth(list(sizes)) for sizes in zip(*full, strict=True)]
    if not grew:
        print(f"too short: the log in memory is full at index {INDEXES:,}")
        return 1
    print("growth once the log in memory is full: " + ", ".join(f"{size:+.1f} MiB" for size in grew))
    return 1 if any(size > GROWTH for size in grew) else 0


def _write(member: Daemon, seconds: float, rate: float) -> None:
    """One after the other; when that is slower than `rate`, as many as it gives."""
    began, number = time.monotonic(), 0
    while (due := began + number / rate) < began + seconds and time.monotonic() < began + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        number += 1
        member.patch(f"/1.0/profiles/p{number % KEYS}", {"description": f"{began}-{number}"})


def _growth(sizes: list[float]) -> float:
    """By how much the second half is above the first, in the mean."""
    half = len(sizes) // 2
    return sum(sizes[-half:]) / half - sum(sizes[:half]) / half if half else 0.0


if __name__ == "__main__":
    raise SystemExit(main())
