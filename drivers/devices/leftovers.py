"""What the host keeps for the devices of one container, as `KIND.NAME.PATH`: nodes, mounts, processes and filters.

Owns their removal, when the device or the container is no more; refuses to make them (each type does)."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from lxdnode.drivers.devices import filtering, forwarding
from lxdnode.drivers.devices.device import mark

_KINDS = ("unix", "disk", "proxy", filtering.KIND)


def remove(directory: Path, device: str | None = None) -> None:
    """Removes what is kept for a device, or for all of them. Blocks."""
    mounted = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    for path in _kept(directory, device):
        if str(path).replace(" ", "\\040") in mounted:
            subprocess.run(["umount", "-l", path], check=True, capture_output=True)
        if path.name.startswith("proxy."):
            forwarding.stop(path)
        elif path.name.startswith(f"{filtering.KIND}."):
            filtering.remove(path)
        elif path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _kept(directory: Path, device: str | None) -> Iterator[Path]:
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        kind, _, rest = path.name.partition(".")
        if kind in _KINDS and (device is None or rest.startswith(mark(device) + ".")):
            yield path
