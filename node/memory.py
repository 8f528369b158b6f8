"""The daemon's memory: what was freed goes back to the host, and cycles are looked for among what is new.

Owns the settings of the allocator and of the collector; refuses to know what the memory is used for."""

import ctypes
import gc

import trio

PERIOD = 10.0
"""Seconds between two searches among what is new."""
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


async def collect() -> None:
    """Looks for garbage among what is new, and sets apart for ever what is left, until cancelled.

    Python's own search goes through every object of the store, and holds the loop meanwhile: 30 ms with 200 containers,
    more than a second after ten minutes under load, and a leader was replaced for it. What was set apart is never
    looked at again: long-lived objects must end without a search, as connections do (`api/protocol.py`)."""
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    while True:
        gc.collect()
        gc.freeze()
        await trio.sleep(PERIOD)
