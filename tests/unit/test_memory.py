"""What has ended is freed without the collector, which looks at what is new only."""

import gc
from pathlib import Path

import trio

from lxdnode.api.protocol import Connection, Protocol
from tests.harness.api import alone


def alive() -> int:
    return sum(isinstance(one, Connection | Protocol) for one in gc.get_objects())


async def test_a_connection_that_has_ended_is_freed_at_once(tmp_path: Path) -> None:
    async with alone(tmp_path) as site:
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(10):
                assert (await site.ask("GET", "/1.0/profiles")).status == 200
            site.clients.clear()
            with trio.fail_after(5):
                while alive() > before:  # noqa: ASYNC110 - the server ends its side a moment later
                    await trio.sleep(0.01)
        finally:
            gc.enable()
