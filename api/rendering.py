"""Containers as JSON, rendered once for each state of their documents.

Owns the cache of bytes that makes long lists cheap (DESIGN.md 4); refuses to read the host."""

from collections.abc import Collection
from datetime import UTC, datetime

import msgspec
import trio

from lxdnode.api.types.containers import Container
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import name_of
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.records import CONTAINERS, ERROR, STATUS, STATUS_CODES
from lxdnode.node.documents import View
from lxdnode.node.profiles.records import PROFILES

_SLICE = 500
"""Objects that are rendered before others get their turn on the loop."""
_encoder = msgspec.json.Encoder()
_Key = tuple[int, ...]


class Containers:
    """Rendered containers by id, each with the revisions of the documents that it was made from."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Key, bytes]] = {}

    def render(self, view: View, id: str, online: Collection[int]) -> bytes:
        """The JSON of a container. `online`: numbers of the members that are not offline."""
        key = _key(view, id, online)
        known = self._known.get(id)
        if known is not None and known[0] == key:
            return known[1]
        text = _encoder.encode(show(view, expand(view, id), online))
        self._known[id] = (key, text)
        return text

    async def render_all(self, view: View, ids: list[str], online: Collection[int]) -> msgspec.Raw:
        """The JSON of a list of containers."""
        parts = []
        for number, id in enumerate(ids, 1):
            parts.append(self.render(view, id, online))
            if number % _SLICE == 0:
                await trio.lowlevel.checkpoint()
        if len(self._known) > 2 * len(ids) + _SLICE:
            self._known = {id: self._known[id] for id in ids}
        return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def _key(view: View, id: str, online: Collection[int]) -> _Key:
    container = view.get(CONTAINERS, id)
    assert container is not None
    profiles = (view.revision(PROFILES, profile) for profile in container.profiles)
    member = view.revision(MEMBERS, str(container.member))
    own = (view.revision(CONTAINERS, id), view.revision(STATUS, id), member)
    return (*own, int(container.member in online), *profiles)


def show(view: View, found: Expanded, online: Collection[int]) -> Container:
    """The container object of the API. Of an offline member nobody knows how its containers are: Error."""
    container, status = found.container, found.status
    state = status.state if container.member in online else ERROR
    return Container(
        architecture=container.architecture,
        config=found.local,
        devices=container.devices,
        ephemeral=container.ephemeral,
        profiles=found.profiles,
        stateful=status.stateful,
        description=container.description,
        created_at=_time(container.created_at),
        expanded_config=found.config,
        expanded_devices=found.devices,
        name=container.name,
        status=state,
        status_code=STATUS_CODES[state],
        last_used_at=_time(status.last_used_at),
        location=name_of(view, container.member),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
