"""What a running container can learn about itself through /dev/lxd/sock (spec/containers.md 13).

Owns who inside listens to changes, and the shape of what they are told; refuses HTTP (`api/devlxd.py` serves it)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import trio

TYPES = ("config", "device")
_QUEUE = 64
"""Events that a listener may be behind before it is closed: nothing inside a container may hold the daemon's memory."""


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
