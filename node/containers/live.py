"""A container that runs on this member, and what is in force of its documents.

Owns what must be known to change or end it; refuses to do either (`host.py`, `plugging.py` and `resources.py` do)."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec
import trio

from lxdnode.drivers.devices.device import Part
from lxdnode.drivers.runtime.configure import Nic
from lxdnode.drivers.runtime.containers import Running, Target
from lxdnode.node.containers.expansion import Devices, Expanded
from lxdnode.node.containers.guest import Guest


class Plugged(msgspec.Struct, frozen=True):
    """A device that is in a container: its entry, and what it is there. One without an entry is being plugged: some of
    its parts may be there."""

    entry: dict[str, str]
    parts: list[Part]


class Applied(msgspec.Struct, frozen=True):
    """An expanded configuration and devices, as far as they are in force."""

    config: Mapping[str, str]
    devices: Devices


class Live:
    """A container that runs. `ended` is set once everything of it has gone, with `target` saying how. `busy`: an
    operation sees to what follows its end. `applied`: its expanded configuration, as far as it is in force; `wanted`:
    its expanded devices; `plugged`: those that are in it. `lock` is held by who changes these.

    `network`: its network namespace, while the host must hold it. `listening`: the socket that is /dev/lxd/sock
    inside, answered within `serving`."""

    def __init__(
        self, running: Running, found: Expanded, plugged: dict[str, Plugged], listening: socket.socket
    ) -> None:
        self.running = running
        self.listening = listening
        self.serving = trio.CancelScope()
        self.applied: Mapping[str, str] = found.config
        self.wanted: Devices = found.devices
        self.plugged = plugged
        self.network: int | None = None
        self.lock = trio.Lock()
        self.guest = Guest()
        self.busy = False
        self.ended = trio.Event()
        self.target: Target = "stop"

        for part in (part for one in plugged.values() for part in one.parts):
            if isinstance(part, Nic):
                self.keep_network(part)

    def keep_network(self, nic: Nic) -> None:
        """Holds the network namespace of a container that has an interface of the host itself: it would be lost with
        the namespace, or come back under the container's name for it."""
        if nic.type == "phys" and self.network is None:
            self.network = os.open(f"/proc/{self.running.init.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def release_network(self) -> None:
        """Lets the namespace go."""
        if self.network is not None:
            os.close(self.network)
            self.network = None


def save(file: Path, plugged: Mapping[str, Plugged]) -> None:
    """Notes which devices are in a container, for the daemon that finds it running. Not synced: a power cut ends the
    container as well."""
    temporary = file.with_name(file.name + ".new")
    temporary.write_bytes(msgspec.json.encode(plugged, enc_hook=str))
    temporary.rename(file)


def save_applied(file: Path, live: Live) -> None:
    """Notes what is in force, for the daemon that finds the container running: the documents may change before that.
    Readable for root alone, since keys may hold secrets."""
    temporary = file.with_name(file.name + ".new")
    with open(temporary, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
        opened.write(msgspec.json.encode(Applied(dict(live.applied), live.wanted)))
    temporary.rename(file)


def load_applied(file: Path) -> Applied | None:
    """What `save_applied` noted; None when there is no note."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Applied)
    except FileNotFoundError:
        return None


def load(file: Path) -> dict[str, Plugged]:
    """What `save` noted; nothing when there is no note."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    return msgspec.json.decode(data, type=dict[str, Plugged], dec_hook=lambda kind, value: kind(value))
