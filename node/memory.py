"""The daemon's memory: what was freed goes back to the host, and cycles are looked for while nobody waits.

Owns the settings of the allocator and of the collector; refuses to know what the memory is used for."""

import ctypes
import gc
from collections.abc import Callable

import trio

PERIOD = 60.0
"""Seconds between two full collections of a member that rests."""
PATIENCE = 600.0
"""Seconds after which one takes place even though there are requests in work."""
YOUNG, MIDDLE, NEVER = 5_000, 20, 2**30
"""New objects before the young are looked at, how often these before the middle-aged; the old are not by themselves."""
_LARGE, _SPARE = 2**20, 4 * 2**20
"""Bytes of a block that goes back when it is freed, and of what is kept of the heap's end."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_freed() -> None:
    """Lets glibc give large blocks back. By itself it stops doing so when the first one is freed: hashing the trust
    password took 16 MiB for ever."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
    libc.mallopt(_M_TRIM_THRESHOLD, _SPARE)


async def collect(is_busy: Callable[[], bool]) -> None:
    """Sets what lives now apart for ever, and then looks for garbage until cancelled.

    A full collection looks at every object of the store and holds the loop for as long as that takes: 30 ms with 200
    containers, which on a busy host became 300, every few seconds: too much for Raft (DESIGN.md 5)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    collected_at = trio.current_time()
    while True:
        await trio.sleep(PERIOD)
        if not is_busy() or trio.current_time() - collected_at >= PATIENCE:
            gc.collect()
            collected_at = trio.current_time()
