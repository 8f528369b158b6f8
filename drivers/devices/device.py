"""What every device type shares: a table of keys and a check of the whole entry.

Owns the words for wrong entries that no single type owns; refuses to act (the file of each type does)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lxdnode.drivers.config.key import Key, Table

Device = Mapping[str, str]


def no_more_rules(device: Device) -> None:
    """The rule of a type whose keys bind nothing together."""


@dataclass(frozen=True)
class DeviceType:
    """A device type: its name, its keys (without `type`), and the rule over a whole entry (ValueError, LXD's words)."""

    name: str
    keys: tuple[Key, ...]
    rule: Callable[[Device], None] = no_more_rules

    @cached_property
    def table(self) -> Table:
        """The keys of this type as a table, `type` among them."""
        return Table(f"Invalid device configuration key for {self.name}: {{key}}", (Key("type"), *self.keys))

    def validate(self, device: Device) -> None:
        """Checks one entry. InvalidKey or ValueError with LXD's words."""
        self.table.validate(device)
        self.rule(device)
