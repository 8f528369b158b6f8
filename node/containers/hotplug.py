"""Device nodes of the host that come to containers when they appear and go when they disappear.

Owns waiting for that; refuses to plug (`plugging.py` does, by comparing with what is there)."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
import trio

from lxdnode.drivers.devices.registry import DEVICE_TYPES
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.inotify import Watch
from lxdnode.node.containers.expansion import Devices
from lxdnode.node.containers.live import Live
from lxdnode.node.errors import NodeError

log = structlog.get_logger(__name__)


class Hotplug:
    """Watches for such nodes of the containers that run, by id; `apply` brings one of them up to date."""

    def __init__(self, live: Mapping[str, Live], apply: Callable[[str], Awaitable[None]]) -> None:
        self._live = live
        self._apply = apply
        self._changed = trio.Event()

    def look_again(self) -> None:
        """Other devices are wanted now."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled. Each round watches anew, since what has just appeared may be a directory on the way; the
        watch stands before the look, so that nothing is missed in between."""
        while True:
            self._changed = trio.Event()
            with Watch() as watch:
                wanted = {id: _watched(live.wanted) for id, live in self._live.items()}
                watch.add(path for paths in wanted.values() for path in paths)
                for id in [id for id, paths in wanted.items() if paths]:
                    await self._bring(id)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_first, watch.wait, nursery.cancel_scope)
                    nursery.start_soon(_first, self._changed.wait, nursery.cancel_scope)

    async def _bring(self, id: str) -> None:
        try:
            await self._apply(id)
        except (DriverError, NodeError) as error:
            log.warning("device not plugged", container=id, error=str(error))
        except Exception as error:  # A fault of ours: it must not end the watch for the others.
            log.error("device not plugged", container=id, exc_info=error)


async def _first(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


def _watched(devices: Devices) -> list[Path]:
    return [path for entry in devices.values() for path in DEVICE_TYPES[entry["type"]].watched(entry)]
