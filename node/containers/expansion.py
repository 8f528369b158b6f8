"""What a container is with its profiles: the expanded configuration and devices (spec/containers.md 3)."""

from collections.abc import Mapping
from dataclasses import dataclass

from lxdnode.node.containers.records import CONTAINERS, STATUS, Container, Status
from lxdnode.node.documents import View
from lxdnode.node.errors import NotFound
from lxdnode.node.profiles.records import PROFILES, Profile

Config = dict[str, str]
Devices = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Expanded:
    """A container as it stands in one snapshot: its records, the local configuration with `volatile.*`, the names of
    its profiles, and both maps with the profiles laid under them."""

    id: str
    container: Container
    status: Status
    local: Config
    profiles: list[str]
    config: Config
    devices: Devices

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name


def expand(view: View, id: str) -> Expanded:
    """The container under an id. NotFound when it has gone."""
    container = view.get(CONTAINERS, id)
    if container is None:
        raise NotFound
    status = view.get(STATUS, id) or Status()
    found = [profile for one in container.profiles if (profile := view.get(PROFILES, one)) is not None]
    local = container.config | status.volatile
    config, devices = overlay(found, local, container.devices)
    return Expanded(id, container, status, local, [profile.name for profile in found], config, devices)


def overlay(
    profiles: list[Profile], config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]
) -> tuple[Config, Devices]:
    """Keys of the profiles in order, the later one wins, then the local ones; devices likewise, each as a whole."""
    expanded: Config = {}
    plugged: Devices = {}
    for profile in profiles:
        expanded |= profile.config
        plugged |= profile.devices
    return expanded | dict(config), plugged | {name: dict(entry) for name, entry in devices.items()}
