"""Makes images of this member's containers and snapshots (spec/images.md 3, "From a container").

Owns LXD's refusals and what becomes of the container's own metadata; refuses to pack anything itself."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.host.idmap import decode
from lxdnode.drivers.images import description
from lxdnode.drivers.images.architectures import canonical
from lxdnode.drivers.images.pack import pack
from lxdnode.node.containers import snapshot_rules
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.records import CONTAINERS, KIND, STOPPED
from lxdnode.node.errors import NodeError
from lxdnode.node.images import rules
from lxdnode.node.images.files import Incoming
from lxdnode.node.images.images import Wanted
from lxdnode.node.node import Node

_SHIFTED = "volatile.last_state.idmap"
_NEVER = datetime(1, 1, 1, tzinfo=UTC).timestamp()
"""Go's zero time: LXD gives a published image no expiry, whatever metadata.yaml says."""


@dataclass(frozen=True)
class Source:
    """What is published: the `name` of a container, or of a snapshot as `CT/SNAP`.

    `properties`: in place of those of the container's metadata.yaml, None keeps these. `compressor`: a program, `none`,
    or "" for the server's own."""

    name: str
    properties: Mapping[str, str] | None
    compressor: str = ""


async def publish(node: Node, source: Source, wanted: Wanted, incoming: Incoming, author: str) -> tuple[str, int]:
    """Makes an image of a stopped container of this member, or of a snapshot; returns (fingerprint, size). NodeError
    with LXD's words."""
    container, _, snapshot = source.name.partition("/")
    id, _container = node.store.view().named(CONTAINERS, KIND, container)
    async with node.locks.hold("publish", source.name), node.locks.hold(id, "publish"):
        found, volume = _find(node, id, snapshot)
        compressor = source.compressor or node.settings.get("images.compression_algorithm")
        text = _metadata(volume, found, source.properties)
        shifted = decode(found.status.volatile.get(_SHIFTED, ""))
        try:
            await pack(volume, text, compressor, lambda block: incoming.write("metadata", block), shifted=shifted)
            await incoming.finish()
        except DriverError as error:
            raise NodeError(str(error)) from None
        if incoming.fingerprint in {one for one, _image in rules.all_images(node.store.view())}:
            raise NodeError(f"The image already exists: {incoming.fingerprint}")
        return await node.images.take(incoming, replace(wanted, times=(time.time(), _NEVER)), author)


def _find(node: Node, id: str, snapshot: str) -> tuple[Expanded, Path]:
    """What is published, and where its files are."""
    view = node.store.view()
    found = expand(view, id)
    if snapshot:
        path = node.storage.snapshots.path(found.container.pool, found.name, snapshot)
        return snapshot_rules.as_container(view, id, snapshot_rules.find(view, id, snapshot)[1]), path
    if found.status.state != STOPPED:
        raise NodeError("Cannot export a running container as an image")
    return found, node.storage.container_path(found.container.pool, found.name)


def _metadata(volume: Path, found: Expanded, properties: Mapping[str, str] | None) -> bytes:
    """The container's own metadata.yaml, or one that is made up, with the properties that were asked for."""
    text = description.read_metadata(volume)
    if text is not None and properties is None:
        return text
    if text is None:
        architecture = found.container.architecture or canonical(platform.machine())
        document = {"architecture": architecture, "creation_date": int(time.time())}
    else:
        document = yaml.safe_load(text) or {}
    document["properties"] = dict(properties or {})
    return yaml.safe_dump(document).encode()
