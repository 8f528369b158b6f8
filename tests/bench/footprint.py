"""What a daemon costs its host: memory and processor time, of it and the processes that it started.

Owns reading /proc; refuses to know what a daemon does."""

import os
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


class Footprint:
    """Memory and processor time of a process and its direct children, since it was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.monotonic()
        self._used = self._seconds()

    @property
    def processes(self) -> list[int]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
        return [self._pid, *map(int, children)]

    def pss(self) -> float:
        """MiB: shared pages are counted in parts."""
        lines = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in self.processes]
        return sum(int(line.split()[1]) for found in lines for line in found if line.startswith("Pss:")) / 1024

    def cpu(self) -> float:
        """Of one processor, since this was made: 1.0 is all of one."""
        return (self._seconds() - self._used) / (time.monotonic() - self._began)

    def _seconds(self) -> float:
        used = 0.0
        for pid in self.processes:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            used += (int(fields[11]) + int(fields[12])) / _TICK
        return used

    def __str__(self) -> str:
        return f"{self.cpu():.1%} of a processor, {self.pss():.0f} MiB"
