"""When Python looks for cycles in all that it holds: while nobody waits, and not in the middle of a busy second.

Owns the collector's settings. A full collection looks at every object of the store and holds the loop for as long as
that takes, 30 ms with 200 containers, which on a busy host became 300: too much for Raft (DESIGN.md 5)."""

import gc
from collections.abc import Callable

import trio

PERIOD = 60.0
"""Seconds between two collections of a member that rests."""
PATIENCE = 600.0
"""Seconds after which one takes place even though there are requests in work."""
YOUNG, MIDDLE, NEVER = 5_000, 20, 2**30
"""New objects before the young are looked at, how often these before the middle-aged; the old are not by themselves."""


async def collect(is_busy: Callable[[], bool]) -> None:
    """Sets what lives now apart for ever, and then looks for garbage until cancelled."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    collected_at = trio.current_time()
    while True:
        await trio.sleep(PERIOD)
        if not is_busy() or trio.current_time() - collected_at >= PATIENCE:
            gc.collect()
            collected_at = trio.current_time()
