"""The storage drivers by name.

Owns which drivers exist; refuses to load one that this server does not have yet."""

from collections.abc import Mapping
from pathlib import Path

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage.base import Driver
from lxdnode.drivers.storage.dir.driver import Dir
from lxdnode.drivers.storage.keys import DRIVERS

_AVAILABLE: dict[str, type[Driver]] = {driver.name: driver for driver in (Dir,)}


def find(name: str) -> type[Driver]:
    """The driver of that name. DriverError with LXD's words for an unknown one, and for one not served yet."""
    if name not in DRIVERS:
        raise DriverError(f"Invalid value: {name} (not one of [{' '.join(DRIVERS)}])")
    if name not in _AVAILABLE:
        served = ", ".join(_AVAILABLE)
        raise DriverError(f'The "{name}" storage driver is not served by this version; it serves: {served}')
    return _AVAILABLE[name]


def open_pool(driver: str, state: Path, pool: str, config: Mapping[str, str]) -> Driver:
    """A pool of a driver by its name. DriverError as in `find`."""
    return find(driver)(state, pool, config)
