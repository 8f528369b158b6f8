"""What every device type shares: a table of keys and a check of the whole entry.

Owns the words for wrong entries that no single type owns; refuses to act (the file of each type does)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from lxdnode.drivers.config.key import Key, Table
from lxdnode.drivers.devices.forwarder import Forward
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import IdMap
from lxdnode.drivers.runtime import configure

Device = Mapping[str, str]
Part = configure.Part | Forward
"""What a device is to a container: what LXC makes of it at a start, or a process of ours."""


@dataclass(frozen=True)
class Plug:
    """A device that is about to be part of a container: its name and its entry, with the volatile keys of that device
    without their prefix (`hwaddr`, `name`, `host_name`).

    `directory`: where what the host must have for it is kept, as `KIND.NAME.PATH`. `idmap`: the container's.
    `path`: where a volume's files are, if the entry names one. `shifted`: whether the kernel maps the owners of what
    is mounted (`idmap=container`). `nvidia`: whether NVIDIA's runtime brings the nodes that its cards share."""

    name: str
    entry: Device
    volatile: Mapping[str, str]
    directory: Path
    idmap: IdMap = ()
    path: Path | None = None
    shifted: bool = False
    nvidia: bool = False

    def keep(self, kind: str, what: str = "") -> Path:
        """The path on the host of what this device keeps there: `what`, or its path in the container."""
        inside = mark(what) or (self.entry.get("path") or self.entry.get("source", "")).strip("/").replace("/", "-")
        return self.directory / f"{kind}.{mark(self.name)}.{inside}"


def mark(device: str) -> str:
    """A device's name as part of a file's name: it has no dot, so that `a` and `a.b` are told apart by what follows."""
    return quote(device, safe="").replace(".", "%2E")


def no_more_rules(device: Device) -> None:
    """The rule of a type whose keys bind nothing together."""


def always(device: Device) -> bool:
    """Whether a device of a type that never comes and goes is there."""
    return True


def nothing(device: Device) -> list[Path]:
    """A type that depends on nothing of the host which comes and goes."""
    return []


async def nothing_to_set(plug: Plug, parts: list[Part], fresh: bool) -> None:
    """A type without settings of a running container."""


def refuse(plug: Plug) -> list[Part]:
    """The start of a type that is declared, and not served yet."""
    raise DriverError(f"Device '{plug.name}' of type {plug.entry['type']} is not supported yet: remove it first")


@dataclass(frozen=True)
class DeviceType:
    """A device type: its name and its keys (without `type`).

    `rule` judges a whole entry, `look` one on its host (ValueError, LXD's words). `start` makes what the host must have
    and gives what the device is to a container that starts or runs (DriverError, LXD's words; blocks). `set` brings
    what can change in place to what the entry says, once its parts are in the container (`fresh`: nothing was set on
    them yet). `is_there`: whether an optional device is on the host now. `watched`: paths on the host (not directories)
    whose coming and going decides whether it is, or which parts it has.
    `many`: it stands for whatever matches on the host, so its parts change while its entry does not."""

    name: str
    keys: tuple[Key, ...]
    rule: Callable[[Device], None] = no_more_rules
    start: Callable[[Plug], list[Part]] = refuse
    set: Callable[[Plug, list[Part], bool], Awaitable[None]] = nothing_to_set
    look: Callable[[Device], None] = no_more_rules
    is_there: Callable[[Device], bool] = always
    watched: Callable[[Device], list[Path]] = nothing
    many: bool = False

    @cached_property
    def table(self) -> Table:
        """The keys of this type as a table, `type` among them."""
        return Table(f"Invalid device configuration key for {self.name}: {{key}}", (Key("type"), *self.keys))

    @cached_property
    def live(self) -> frozenset[str]:
        """The keys that change in place; a change of any other is a removal and an addition."""
        return frozenset(key.name for key in self.keys if key.live)

    def validate(self, device: Device) -> None:
        """Checks one entry. InvalidKey or ValueError with LXD's words."""
        self.table.validate(device)
        self.rule(device)
