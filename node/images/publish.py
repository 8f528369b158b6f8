"""Makes images of this member's containers (spec/images.md 3, "From a container").

Owns LXD's refusals and what becomes of the container's own metadata; refuses snapshots, which are not served yet."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.images.architectures import canonical
from lxdnode.drivers.images.metadata import NAME
from lxdnode.drivers.images.pack import pack
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.records import CONTAINERS, KIND, STOPPED
from lxdnode.node.errors import NodeError
from lxdnode.node.images import rules
from lxdnode.node.images.files import Incoming
from lxdnode.node.images.images import Wanted
from lxdnode.node.node import Node

_SHIFTED = "volatile.last_state.idmap"


@dataclass(frozen=True)
class Source:
    """What is published. `properties`: in place of those of the container's metadata.yaml, None keeps these.

    `compressor`: a program, `none`, or "" for the server's own."""

    name: str
    properties: Mapping[str, str] | None
    compressor: str = ""


async def publish(node: Node, source: Source, wanted: Wanted, incoming: Incoming, author: str) -> tuple[str, int]:
    """Makes an image of a stopped container of this member; returns (fingerprint, size). NodeError, LXD's words."""
    view = node.store.view()
    id, _container = view.named(CONTAINERS, KIND, source.name)
    async with node.locks.hold("publish", source.name), node.locks.hold(id, "publish"):
        found = expand(node.store.view(), id)
        _check(found)
        volume = node.storage.container_path(found.container.pool, found.name)
        compressor = source.compressor or node.settings.get("images.compression_algorithm")
        text = _metadata(volume / NAME, found, source.properties)
        try:
            await pack(volume, text, compressor, lambda block: incoming.write("metadata", block))
            await incoming.finish()
        except DriverError as error:
            raise NodeError(str(error)) from None
        if incoming.fingerprint in {one for one, _image in rules.all_images(node.store.view())}:
            raise NodeError(f"The image already exists: {incoming.fingerprint}")
        return await node.images.take(incoming, wanted, author)


def _check(found: Expanded) -> None:
    if found.status.state != STOPPED:
        raise NodeError("Cannot export a running container as an image")
    if found.status.volatile.get(_SHIFTED, "[]") not in ("", "[]"):
        raise NodeError(
            f"Container {found.name} has files whose owners are shifted on the disk: "
            "publishing it is not served by this version"
        )


def _metadata(path: Path, found: Expanded, properties: Mapping[str, str] | None) -> bytes:
    """The container's own metadata.yaml, or one that is made up, with the properties that were asked for."""
    if path.exists():
        if properties is None:
            return path.read_bytes()
        document = yaml.safe_load(path.read_bytes()) or {}
    else:
        architecture = found.container.architecture or canonical(platform.machine())
        document = {"architecture": architecture, "creation_date": int(time.time())}
    document["properties"] = dict(properties or {})
    return yaml.safe_dump(document).encode()
