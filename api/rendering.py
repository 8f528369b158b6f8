"""Containers as JSON, rendered once for each state of their documents.

Owns the cache of bytes that makes long lists cheap (DESIGN.md 4); refuses to read the host."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import trio

from lxdnode.api.types.backups import Backup
from lxdnode.api.types.containers import Container, Snapshot
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import name_of
from lxdnode.node.containers import snapshot_rules
from lxdnode.node.containers.expansion import Expanded, expand
from lxdnode.node.containers.records import CONTAINERS, ERROR, STATUS, STATUS_CODES
from lxdnode.node.containers.records import Backup as BackupRecord
from lxdnode.node.containers.records import Snapshot as SnapshotRecord
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

    def render(self, view: View, id: str, reachable: Collection[int]) -> bytes:
        """The JSON of a container. `reachable`: numbers of the members that answer."""
        key = _key(view, id, reachable)
        known = self._known.get(id)
        if known is not None and known[0] == key:
            return known[1]
        text = _encoder.encode(show(view, expand(view, id), reachable))
        self._known[id] = (key, text)
        return text

    async def render_all(
        self,
        view: View,
        ids: list[str],
        reachable: Collection[int],
        more: Callable[[str], Mapping[str, Any]] | None = None,
    ) -> msgspec.Raw:
        """The JSON of a list of containers. `more` gives further fields of each, by its id."""
        parts = []
        for number, id in enumerate(ids, 1):
            text = self.render(view, id, reachable)
            parts.append(text if more is None else text[:-1] + b"," + _encoder.encode(more(id))[1:])
            if number % _SLICE == 0:
                await trio.lowlevel.checkpoint()
        if len(self._known) > 2 * len(ids) + _SLICE:
            self._known = {id: self._known[id] for id in ids}
        return msgspec.Raw(b"[" + b",".join(parts) + b"]")


def _key(view: View, id: str, reachable: Collection[int]) -> _Key:
    container = view.get(CONTAINERS, id)
    assert container is not None
    profiles = (view.revision(PROFILES, profile) for profile in container.profiles)
    member = view.revision(MEMBERS, str(container.member))
    own = (view.revision(CONTAINERS, id), view.revision(STATUS, id), member)
    return (*own, int(container.member in reachable), *profiles)


def show(view: View, found: Expanded, reachable: Collection[int]) -> Container:
    """The container object of the API. Of a member that is away nobody knows how its containers are: Error."""
    container, status = found.container, found.status
    state = status.state if container.member in reachable else ERROR
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


def show_snapshot(view: View, id: str, snapshot: SnapshotRecord) -> Snapshot:
    """The object of a snapshot of the container with an id."""
    was = snapshot_rules.as_container(view, id, snapshot)
    return Snapshot(
        architecture=snapshot.architecture,
        config=snapshot.config,
        created_at=_time(snapshot.created_at),
        devices=snapshot.devices,
        ephemeral=snapshot.ephemeral,
        expanded_config=was.config,
        expanded_devices=was.devices,
        last_used_at=_time(snapshot.last_used_at),
        name=was.name,
        profiles=was.profiles,
        stateful=snapshot.stateful,
    )


def show_backup(container: str, backup: BackupRecord) -> Backup:
    """The object of a backup of the container with a name."""
    return Backup(
        name=f"{container}/{backup.name}",
        creation_date=_time(backup.created_at),
        expiry_date=_time(backup.expires_at),
        container_only=backup.container_only,
        optimized_storage=backup.optimized_storage,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
