"""Work that is given up when something else happens first.

Owns the nursery that this takes, and hides it: errors come out as they were raised."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from lxdnode.node.errors import alone

T = TypeVar("T")


async def unless(function: Callable[[], Awaitable[T]], *ends: Callable[[], Awaitable[object]]) -> T | None:
    """What `function` returns, or None when one of `ends` returned first and it was cancelled."""
    results: list[T] = []

    async def wait(end: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
        await end()
        scope.cancel()

    with alone():
        async with trio.open_nursery() as nursery:
            for end in ends:
                nursery.start_soon(wait, end, nursery.cancel_scope)
            results.append(await function())
            nursery.cancel_scope.cancel()
    return results[0] if results else None
