"""Kernel modules that a container needs of this host."""

from pathlib import Path

from lxdnode.drivers.command import run
from lxdnode.drivers.errors import DriverError


async def load(names: str) -> None:
    """Loads the modules of a list such as `overlay, nbd`, but those that are there. DriverError with LXD's words."""
    for name in filter(None, (part.strip() for part in names.split(","))):
        if _is_there(name):
            continue
        try:
            await run("modprobe", "--", name)
        except DriverError as error:
            raise DriverError(f"Failed to load kernel module '{name}': {error}") from None


def _is_there(name: str) -> bool:
    return Path("/sys/module", name.replace("-", "_")).exists()
