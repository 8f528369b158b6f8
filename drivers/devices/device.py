"""What every device type shares: a table of keys and a check of the whole entry.

Owns the words for wrong entries that no single type owns; refuses to act (the file of each type does)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lxdnode.drivers.config.key import Key, Table
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.runtime.configure import Mount, Nic

Device = Mapping[str, str]


@dataclass(frozen=True)
class Plug:
    """A device that is about to be part of a container that starts: its name and its entry, with the volatile keys of
    that device without their prefix (`hwaddr`, `name`, `host_name`). `path` is where a volume's files are, if the
    entry names one. `shifted`: whether the kernel maps the owners of what is mounted (`idmap=container`)."""

    name: str
    entry: Device
    volatile: Mapping[str, str]
    path: Path | None = None
    shifted: bool = False


Part = Nic | Mount
"""What a device adds to the configuration of a container that starts."""


def no_more_rules(device: Device) -> None:
    """The rule of a type whose keys bind nothing together."""


def refuse(plug: Plug) -> list[Part]:
    """The start of a type that is declared, and not served yet."""
    raise DriverError(f"Device '{plug.name}' of type {plug.entry['type']} is not supported yet: remove it to start")


@dataclass(frozen=True)
class DeviceType:
    """A device type: its name, its keys (without `type`), the rule over a whole entry (ValueError, LXD's words), and
    what it adds to a container that starts (DriverError, LXD's words)."""

    name: str
    keys: tuple[Key, ...]
    rule: Callable[[Device], None] = no_more_rules
    start: Callable[[Plug], list[Part]] = refuse

    @cached_property
    def table(self) -> Table:
        """The keys of this type as a table, `type` among them."""
        return Table(f"Invalid device configuration key for {self.name}: {{key}}", (Key("type"), *self.keys))

    def validate(self, device: Device) -> None:
        """Checks one entry. InvalidKey or ValueError with LXD's words."""
        self.table.validate(device)
        self.rule(device)
