"""What a running container can learn about itself through /dev/lxd/sock (spec/containers.md 13).

Owns who inside listens to changes, and the shape of what they are told; refuses HTTP (`api/devlxd.py` serves it)."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

TYPES = ("config", "device")
_BACKLOG = 16
_QUEUE = 64
"""Events that a listener may be behind before it is closed: nothing inside a container may hold the daemon's memory."""


def listen(directory: Path) -> socket.socket:
    """A listening socket `sock` in a directory that is mounted into one container alone: it tells who connects."""
    directory.mkdir(mode=0o755, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    path = Path(f"/proc/self/fd/{folder}/sock")  # The whole path may be longer than the 107 bytes of an address.
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(folder)
    return listening


class Guest:
    """The listeners inside one container."""

    def __init__(self) -> None:
        self._listeners: dict[trio.MemorySendChannel[dict[str, Any]], frozenset[str]] = {}

    @contextmanager
    def listen(self, types: frozenset[str]) -> Iterator[trio.MemoryReceiveChannel[dict[str, Any]]]:
        """Events of some types, as they come; the channel ends for a listener that is too slow."""
        send, receive = trio.open_memory_channel[dict[str, Any]](_QUEUE)
        self._listeners[send] = types
        try:
            yield receive
        finally:
            self._listeners.pop(send, None)

    def device(self, action: str, name: str, entry: Mapping[str, str]) -> None:
        """Tells that a device was added, removed or updated."""
        self._publish("device", {"action": action, "name": name, "config": dict(entry)})

    def config(self, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        """Tells which `user.*` keys have changed; the others are none of the container's business."""
        for key in sorted(old.keys() | new.keys()):
            if key.startswith("user.") and old.get(key, "") != new.get(key, ""):
                self._publish("config", {"key": key, "old_value": old.get(key, ""), "value": new.get(key, "")})

    def _publish(self, type: str, metadata: dict[str, Any]) -> None:
        event = {"type": type, "timestamp": datetime.now(UTC), "metadata": metadata}
        for send in [send for send, types in self._listeners.items() if type in types]:
            try:
                send.send_nowait(event)
            except trio.WouldBlock:
                del self._listeners[send]
                send.close()
