"""NVIDIA's runtime for containers: the hook of LXC that passes a driver's files in, and the tool that it needs.

Owns where they are looked for; refuses to know what they do."""

import os
import shutil
from pathlib import Path

from lxdnode.drivers.errors import DriverError

_FOLDER = Path("/usr/share/lxc/hooks")
ENVIRONMENT = {"NVIDIA_VISIBLE_DEVICES": "none", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
"""What a container gets to know: devices come by gpu devices, the hook passes the files alone."""


def find_hook() -> Path:
    """The hook, in LXD_LXC_HOOK or where LXC's packages have it. DriverError with LXD's words."""
    hook = Path(os.environ.get("LXD_LXC_HOOK") or _FOLDER, "nvidia")
    if not hook.exists():
        raise DriverError("The NVIDIA LXC hook couldn't be found")
    if shutil.which("nvidia-container-cli") is None:
        raise DriverError("The NVIDIA container tools couldn't be found")
    return hook
