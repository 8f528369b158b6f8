"""Which tree and which owners the files of a container have now, running or stopped.

Owns that choice; refuses to open anything itself (`drivers/runtime/files.py` does, confined)."""

from pathlib import Path
from typing import TYPE_CHECKING

from lxdnode.drivers.host.idmap import decode, of_process
from lxdnode.drivers.runtime.files import Root
from lxdnode.node.containers.expansion import expand

if TYPE_CHECKING:
    from lxdnode.node.node import Node


def open_root(node: "Node", id: str) -> Root:
    """The files of a container of this member: through its init, so that what it has mounted is seen, or its root file
    system with the map that is on disk. Blocks for microseconds; close it."""
    live = node.containers.host.live(id)
    if live is not None and live.running.alive:
        pid = live.running.init.pid
        return Root(Path(f"/proc/{pid}/root"), of_process(pid))
    found = expand(node.store.view(), id)
    disk = decode(found.status.volatile.get("volatile.last_state.idmap", ""))
    return Root(node.containers.host.volume(found) / "rootfs", disk)
