"""The limits of running containers: processors, memory, disks, processes, priorities.

Owns what a configuration is in control group files, and the balance of processors over all containers; refuses to
know the arithmetic (drivers/host/limits.py) and devices other than their rates."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from lxdnode.drivers.devices.disk import is_root
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host import blocks, cpu, limits, memory
from lxdnode.drivers.host.cgroup import Layout, Setting
from lxdnode.drivers.host.limits import Rates, parse_rates
from lxdnode.drivers.runtime.netlink import interface_names
from lxdnode.node.containers.keys import parse_allowance
from lxdnode.node.containers.live import Live

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)
Devices = Mapping[str, Mapping[str, str]]


class Resources:
    """The limits of this member's containers. `live`: those that run, by id."""

    def __init__(self, node: "Node", layout: Layout, live: Mapping[str, Live]) -> None:
        self._node = node
        self._layout = layout
        self._live = live

    def of_start(self, config: Mapping[str, str], devices: Devices, rootfs: Path, cpus: str) -> list[Setting]:
        """The limits of a start: what equals the kernel's default is not written. DriverError."""
        rates = self._rates(devices, rootfs)
        defaults = [*settings({}, self._layout), *limits.disk_rates(self._layout, dict.fromkeys(rates, ()))]
        wanted = [*settings(config, self._layout), *limits.disk_rates(self._layout, rates)]
        chosen = limits.cpus(cpus) if cpus else []
        return [*chosen, *(setting for setting in wanted if setting not in defaults)]

    def apply(self, live: Live, config: Mapping[str, str], devices: Devices, rootfs: Path) -> None:
        """Brings the limits of a running container to a configuration. DriverError: the old ones stay."""
        old, new = settings(live.applied, self._layout), settings(config, self._layout)
        before = self._rates(live.wanted, rootfs)
        after = self._rates(devices, rootfs)
        devices_of_either = before.keys() | after.keys()
        old += limits.disk_rates(self._layout, {device: before.get(device, []) for device in devices_of_either})
        new += limits.disk_rates(self._layout, {device: after.get(device, []) for device in devices_of_either})
        # All files of a controller, since their order matters: memory cannot grow beyond what it may be with swap.
        changed = {setting.controller for setting in set(old) ^ set(new)}
        try:
            live.running.groups.write(setting for setting in new if setting.controller in changed)
        except DriverError:
            live.running.groups.write(setting for setting in old if setting.controller in changed)
            raise

    def _rates(self, devices: Devices, rootfs: Path) -> dict[str, list[Rates]]:
        """The rates of each block device that a limited disk of the container is on."""
        found: dict[str, list[Rates]] = {}
        for entry in _disks(devices).values():
            rates = parse_rates(*(entry.get(f"limits.{way}", "") for way in ("read", "write", "max")))
            if rates == Rates():
                continue
            source = Path(entry.get("source", ""))
            if is_root(entry):
                source = rootfs
            elif entry.get("pool"):
                source = self._node.storage.volumes.path(entry["pool"], entry["source"].removeprefix("custom/"))
            if source.exists():
                found.setdefault(blocks.disk_of(source), []).append(rates)
        return found

    def balance(self, starting: Mapping[str, str]) -> dict[str, str]:
        """The processors of every container, when at least one is limited; {} when none is: then nothing is written.

        `starting`: limits.cpu of containers that are about to start, by id."""
        wanted = {id: live.applied.get("limits.cpu", "") for id, live in self._live.items()} | dict(starting)
        available = cpu.usable(self._layout)
        if not any(wanted.values()) and not any(self._is_confined(live) for live in self._live.values()):
            return {}
        return {id: cpu.render(chosen) for id, chosen in cpu.balance(wanted, available).items()}

    def _is_confined(self, live: Live) -> bool:
        found = live.running.groups.read("cpuset", "cpuset.cpus")
        return found is not None and found != "" and cpu.parse(found) != cpu.usable(self._layout)

    def write_cpus(self, chosen: Mapping[str, str]) -> None:
        """Moves containers to other processors: what fails there (one may end just now) is not our caller's."""
        for id, cpus in chosen.items():
            if live := self._live.get(id):
                try:
                    live.running.groups.write(limits.cpus(cpus))
                except DriverError as error:
                    if live.running.alive:
                        log.warning("processors not balanced", container=live.running.name, error=str(error))


def _disks(devices: Devices) -> dict[str, Mapping[str, str]]:
    return {name: entry for name, entry in devices.items() if entry.get("type") == "disk"}


def settings(config: Mapping[str, str], layout: Layout) -> list[Setting]:
    """All limits that can change while a container runs, unset ones as the kernel's defaults."""
    allowance = config.get("limits.cpu.allowance", "")
    priority = config.get("limits.network.priority", "")
    return [
        *limits.cpu_time(
            layout, parse_allowance(allowance) if allowance else None, config.get("limits.cpu.priority", "")
        ),
        *limits.memory(
            layout,
            limits.memory_size(config.get("limits.memory", ""), memory.total()),
            config.get("limits.memory.enforce") == "soft",
            config.get("limits.memory.swap", ""),
            config.get("limits.memory.swap.priority", ""),
            memory.swappiness(),
        ),
        *limits.processes(config.get("limits.processes", "")),
        *limits.disk_weight(layout, config.get("limits.disk.priority", "")),
        *limits.network_priority(layout, priority, interface_names().values()),
    ]
