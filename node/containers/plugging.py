"""The devices of running containers: what they are made of at a start, and how they come and go while it runs.

Owns the order and the comparison of what is in a container with what its documents want; refuses to know any type of
device (drivers/devices does) and to hold locks of operations."""

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from lxdnode.drivers.config.kinds import is_false, is_true
from lxdnode.drivers.devices import forwarding, leftovers, links
from lxdnode.drivers.devices.device import Part, Plug
from lxdnode.drivers.devices.disk import is_root
from lxdnode.drivers.devices.forwarder import Forward
from lxdnode.drivers.devices.registry import DEVICE_TYPES
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import decode, of_process
from lxdnode.drivers.host.idmapped import can_map
from lxdnode.drivers.runtime import configure, mounts
from lxdnode.drivers.runtime.configure import Access, Mount, Nic
from lxdnode.node.containers.expansion import Expanded
from lxdnode.node.containers.live import Live, Plugged, save
from lxdnode.node.containers.starting import Paths
from lxdnode.node.containers.volatile import of_device

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
DEVLXD = "/dev/lxd"
"""The name among the plugged devices of the socket that every container has (no device's name begins with `/`)."""


class Plugging:
    """Puts devices into containers of this member and takes them out."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def prepare(self, found: Expanded) -> dict[str, Plugged]:
        """Makes what the host must have for the devices of a container that is about to start. Blocks. DriverError."""
        idmap = decode(found.status.volatile.get("volatile.idmap.next", ""))
        plugged: dict[str, Plugged] = {}
        for plug in self._plugs(found, bool(idmap)):
            plugged[plug.name] = Plugged(dict(plug.entry), _start(plug))
        if not is_false(found.config.get("security.devlxd")):
            plugged[DEVLXD] = self._socket(found)
        return plugged

    async def settle(self, found: Expanded, live: Live) -> None:
        """Sets what LXC does not set at a start. DriverError; limits that cannot be set are no reason to stay down
        (LXD's way), while a change of them fails."""
        for plug in self._plugs(found, False):
            if plug.name not in live.plugged:
                continue  # It has just appeared on the host.
            parts = live.plugged[plug.name].parts
            for part in parts:
                if isinstance(part, Forward):
                    await self._forward(live, plug.name, part)
            try:
                await DEVICE_TYPES[plug.entry["type"]].set(plug, parts, True)
            except DriverError as error:
                log.warning("limits not set", container=found.name, device=plug.name, error=str(error))

    async def bring(self, found: Expanded, live: Live) -> None:
        """Brings the devices of a running container to what its documents want. DriverError: what could not be done is
        as it was, and what was done before stays."""
        wanted = {plug.name: plug for plug in self._plugs(found, bool(of_process(live.running.init.pid)))}
        try:
            for name, plugged in list(live.plugged.items()):
                if name != DEVLXD and not _stays(plugged, wanted.get(name)):
                    await self._unplug(found, live, name)
            for name, plug in wanted.items():
                if name not in live.plugged:
                    await self._plug(found, live, plug)
                elif dict(plug.entry) != live.plugged[name].entry:
                    await self._change(live, plug)
                elif DEVICE_TYPES[plug.entry["type"]].many:
                    await self._follow(found, live, plug)
            await self._bring_socket(found, live)
        finally:
            save(self._paths(found).plugged, live.plugged)

    async def end(self, live: Live) -> None:
        """Takes back what was in a container that has ended."""
        if live.network is not None:
            for part in (part for one in live.plugged.values() for part in one.parts if isinstance(part, Nic)):
                await trio.to_thread.run_sync(links.detach, part, f"/proc/self/fd/{live.network}")
            live.release_network()
        await trio.to_thread.run_sync(self.clean, live.running.name)

    def clean(self, name: str) -> None:
        """Removes what the host kept for the devices of a container that has ended. Blocks."""
        paths = Paths(self._node.directory, name)
        leftovers.remove(paths.devices)
        paths.forget_run()

    def clean_all(self, running: Collection[str]) -> None:
        """The same for every container but those named: a daemon of before may have been killed in between. Blocks."""
        folder = self._node.directory / "devices"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in running:
                self.clean(path.name)

    async def _plug(self, found: Expanded, live: Live, plug: Plug) -> None:
        done: list[Part] = []
        self._note(found, live, plug.name, Plugged({}, done))
        try:
            parts = await trio.to_thread.run_sync(_start, plug)
            for part in parts:
                self._note(found, live, plug.name, Plugged({}, [*done, part]))
                await self._add(live, plug.name, part)
                done.append(part)
            await DEVICE_TYPES[plug.entry["type"]].set(plug, parts, True)
        except DriverError:
            live.plugged[plug.name] = Plugged({}, done)
            await self._take_out(found, live, plug.name)
            raise
        live.plugged[plug.name] = Plugged(dict(plug.entry), parts)
        live.guest.device("added", plug.name, plug.entry)

    def _note(self, found: Expanded, live: Live, name: str, plugged: Plugged) -> None:
        """What is about to come: a daemon that falls meanwhile leaves its successor what to take away."""
        live.plugged[name] = plugged
        save(self._paths(found).plugged, live.plugged)

    async def _unplug(self, found: Expanded, live: Live, name: str) -> None:
        entry = live.plugged[name].entry
        await self._take_out(found, live, name)
        live.guest.device("removed", name, entry)

    async def _take_out(self, found: Expanded, live: Live, name: str) -> None:
        """Removes what there is of a device."""
        for part in reversed(live.plugged[name].parts):
            await self._remove(live, name, part)
        await trio.to_thread.run_sync(leftovers.remove, self._paths(found).devices, name)
        del live.plugged[name]

    async def _change(self, live: Live, plug: Plug) -> None:
        """Changes in place what can be. DriverError: it is as it was."""
        plugged, kind = live.plugged[plug.name], DEVICE_TYPES[plug.entry["type"]]
        try:
            await kind.set(plug, plugged.parts, False)
        except DriverError:
            await kind.set(replace(plug, entry=plugged.entry), plugged.parts, False)
            raise
        live.plugged[plug.name] = Plugged(dict(plug.entry), plugged.parts)
        live.guest.device("updated", plug.name, plug.entry)

    async def _follow(self, found: Expanded, live: Live, plug: Plug) -> None:
        """Adds what has come to match on the host, and takes out what has gone from there."""
        plugged = live.plugged[plug.name]
        parts = await trio.to_thread.run_sync(_start, plug)
        for part in [part for part in plugged.parts if part not in parts]:
            await self._remove(live, plug.name, part)
            plugged.parts.remove(part)
        try:
            for part in [part for part in parts if part not in plugged.parts]:
                self._note(found, live, plug.name, Plugged({}, [*plugged.parts, part]))
                await self._add(live, plug.name, part)
                plugged.parts.append(part)
        finally:
            live.plugged[plug.name] = plugged

    async def _bring_socket(self, found: Expanded, live: Live) -> None:
        """/dev/lxd comes and goes with security.devlxd."""
        wanted = not is_false(found.config.get("security.devlxd"))
        if DEVLXD in live.plugged and not (wanted and live.plugged[DEVLXD].entry):
            await self._remove(live, DEVLXD, live.plugged[DEVLXD].parts[0])
            del live.plugged[DEVLXD]
        if wanted and DEVLXD not in live.plugged:
            plugged = self._socket(found)
            self._note(found, live, DEVLXD, Plugged({}, plugged.parts))
            await self._add(live, DEVLXD, plugged.parts[0])
            live.plugged[DEVLXD] = plugged

    def _socket(self, found: Expanded) -> Plugged:
        directory = self._paths(found).devlxd
        directory.mkdir(mode=0o755, exist_ok=True)  # `guest.listen` puts the socket into it.
        return Plugged({"type": "devlxd"}, [Mount(directory, DEVLXD, ("bind", "ro"), owns_target=True)])

    async def _add(self, live: Live, name: str, part: Part) -> None:
        pid = live.running.init.pid
        with _blamed(name):
            if isinstance(part, Mount):
                await trio.to_thread.run_sync(mounts.attach, pid, part)
            elif isinstance(part, Nic):
                await trio.to_thread.run_sync(links.attach, part, pid)
                live.keep_network(part)
            elif isinstance(part, Forward):
                await self._forward(live, name, part)
            else:
                await self._permit(live, part, "devices.allow")

    async def _remove(self, live: Live, name: str, part: Part) -> None:
        pid = live.running.init.pid
        if isinstance(part, Mount):
            await trio.to_thread.run_sync(mounts.detach, pid, part)
        elif isinstance(part, Nic):
            await trio.to_thread.run_sync(links.detach, part, f"/proc/{pid}/ns/net")
        elif isinstance(part, Forward):
            await trio.to_thread.run_sync(forwarding.stop, part.file)
        elif not configure.is_for_all(part.rule) and not _is_shared(live, name, part):
            await self._permit(live, part, "devices.deny")

    async def _forward(self, live: Live, name: str, part: Forward) -> None:
        try:
            await forwarding.start(part, live.running.init.pid)
        except DriverError as error:
            raise DriverError(
                f"Error when starting proxy device '{name}' for container {live.running.name}: {error}"
            ) from None

    async def _permit(self, live: Live, part: Access, file: str) -> None:
        await self._node.containers.host.runtime.set_group(live.running.name, file, part.rule)

    def _plugs(self, found: Expanded, is_mapped: bool) -> Iterator[Plug]:
        """The devices that are to be there, by type, disks by path, then by name."""
        paths = self._paths(found)
        idmap = decode(found.status.volatile.get("volatile.idmap.next", "")) if is_mapped else ()
        for name, entry in sorted(found.devices.items(), key=_order):
            if entry["type"] == "none" or is_root(entry) or not DEVICE_TYPES[entry["type"]].is_there(entry):
                continue
            volume = self._volume(entry)
            shifted = is_mapped and volume is not None and can_map(volume)
            kept, nvidia = of_device(found.status.volatile, name), is_true(found.config.get("nvidia.runtime"))
            yield Plug(name, entry, kept, paths.devices, idmap, volume, shifted, nvidia)

    def _volume(self, entry: Mapping[str, str]) -> Path | None:
        """Where the volume of a disk is; None for other devices."""
        if entry["type"] != "disk" or not entry.get("pool"):
            return None
        return self._node.storage.volumes.path(entry["pool"], entry["source"].removeprefix("custom/"))

    def _paths(self, found: Expanded) -> Paths:
        return Paths(self._node.directory, found.name)


@contextmanager
def _blamed(name: str) -> Iterator[None]:
    """What the host refuses without words of ours, or a value that its interfaces cannot hold, is the device's failure:
    whatever LXD lets a client set must end as an error of that device, not of who plugs it."""
    try:
        yield
    except (OSError, ValueError, OverflowError, struct.error) as error:
        raise DriverError(f"Device '{name}' cannot be added: {error}") from error


def _start(plug: Plug) -> list[Part]:
    with _blamed(plug.name):
        return DEVICE_TYPES[plug.entry["type"]].start(plug)


def _is_shared(live: Live, name: str, part: Access) -> bool:
    """Whether another device of the container needs the same rule."""
    return any(part in plugged.parts for other, plugged in live.plugged.items() if other != name)


def for_lxc(plugged: Mapping[str, Plugged]) -> list[configure.Part]:
    """What LXC makes at a start; the rest follows it (`settle`)."""
    return [part for one in plugged.values() for part in one.parts if not isinstance(part, Forward)]


def _order(device: tuple[str, Mapping[str, str]]) -> tuple[str, str, str]:
    name, entry = device
    return entry["type"], entry.get("path", "") if entry["type"] == "disk" else "", name


def _stays(plugged: Plugged, wanted: Plug | None) -> bool:
    """Whether a device stays in the container, and is at most changed in place."""
    if wanted is None or wanted.entry["type"] != plugged.entry.get("type"):
        return False
    old, new = plugged.entry, wanted.entry
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return changed <= DEVICE_TYPES[new["type"]].live
