"""How late the loop's steps begin, as a histogram: whether the rest of the process lets Raft run (DESIGN.md 5).

Owns buckets and counts; refuses to judge, and to keep single values."""

from bisect import bisect_left

BOUNDS = tuple(0.1 * 1.25**step for step in range(-31, 29))
"""Upper bounds of the buckets in seconds: 0.1 ms to 50 s, each a quarter above the one before; 0.1 is one."""


class Lateness:
    """Counts of steps by lateness. `counts` has one more entry than BOUNDS, for what is later than all of them."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)

    def record(self, seconds: float) -> None:
        """Counts one step that began `seconds` after it was due (0 or less: in time)."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
