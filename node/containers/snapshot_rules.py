"""What may be written about snapshots (spec/containers.md 10).

Owns their names, phases and LXD's words; refuses to touch the host, and to write what belongs to the container
(`rules.py` does, a restore included)."""

import re
import time
import uuid
from collections.abc import Iterator

import msgspec

from lxdnode.drivers.devices.disk import is_root
from lxdnode.node.containers.expansion import Devices, Expanded, overlay
from lxdnode.node.containers.records import CONTAINERS, SNAPSHOTS, STATUS, Container, Snapshot, Status
from lxdnode.node.containers.volatile import split
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.profiles.records import PROFILES

KIND = "snapshot"
"""Names of this kind are `CT/SNAP`."""


def url(container: str) -> str:
    """Where the container of a snapshot is read, which is what most of its events name."""
    return f"/1.0/containers/{container}"


def check_name(name: str) -> None:
    """Refuses names that cannot be the second part of `CT/SNAP`, or a directory. Invalid."""
    if "/" in name:
        raise Invalid("Snapshot names may not contain slashes")
    if name in (".", "..") or "\0" in name or len(name.encode()) > 255:
        raise Invalid(f"Invalid snapshot name: {name!r}")


def all_of(view: View, container: str) -> list[tuple[str, Snapshot]]:
    """(id, record) of the snapshots of a container (its id) that are ready, oldest first."""
    found = [(id, one) for id, one in view.all(SNAPSHOTS, container) if one.phase == "created"]
    return sorted(found, key=lambda pair: (pair[1].created_at, pair[1].name))


def find(view: View, container: str, name: str) -> tuple[str, Snapshot]:
    """(id, record) of a snapshot of a container (its id) by the second part of its name. NotFound."""
    for id, snapshot in all_of(view, container):
        if snapshot.name == name:
            return id, snapshot
    raise NotFound


def unfinished(view: View, member: int) -> Iterator[tuple[str, Container, str, Snapshot]]:
    """(container's id, container, id, record) of the snapshots on a member that are being made or deleted."""
    for container_id in sorted(view.state.groups(SNAPSHOTS.name)):
        container = view.get(CONTAINERS, container_id)
        if container is None or container.member != member:
            continue
        for id, snapshot in view.all(SNAPSHOTS, container_id):
            if snapshot.phase != "created":
                yield container_id, container, id, snapshot


def as_container(view: View, container: str, snapshot: Snapshot) -> Expanded:
    """A snapshot seen as the container that it was, under its full name. NotFound when the container has gone."""
    owner = view.get(CONTAINERS, container)
    if owner is None:
        raise NotFound
    config, kept = split(snapshot.config)
    was = msgspec.structs.replace(
        owner,
        name=f"{owner.name}/{snapshot.name}",
        architecture=snapshot.architecture,
        description=snapshot.description,
        ephemeral=snapshot.ephemeral,
        config=config,
        devices=snapshot.devices,
        profiles=snapshot.profiles,
        created_at=snapshot.created_at,
    )
    profiles = [profile for one in snapshot.profiles if (profile := view.get(PROFILES, one)) is not None]
    expanded = overlay(profiles, snapshot.config, snapshot.devices)
    status = Status(volatile=kept, last_used_at=snapshot.last_used_at, stateful=snapshot.stateful)
    return Expanded(container, was, status, snapshot.config, [profile.name for profile in profiles], *expanded)


def next_name(view: View, container: str) -> str:
    """`snapN` with the number after the highest in use."""
    matches = (re.fullmatch(r"snap(\d+)", snapshot.name) for _, snapshot in view.all(SNAPSHOTS, container))
    return f"snap{max((int(match[1]) + 1 for match in matches if match), default=0)}"


def reserve(draft: Draft, container: str, id: str, name: str, *, stateful: bool = False) -> None:
    """Writes a pending snapshot of what a container is now. NodeError when the name is taken."""
    check_name(name)
    owner, status = _owner(draft, container), draft.get(STATUS, container) or Status()
    snapshot = Snapshot(
        name=name,
        phase="pending",
        architecture=owner.architecture,
        description=owner.description,
        ephemeral=owner.ephemeral,
        config=owner.config | status.volatile,
        devices=owner.devices,
        profiles=owner.profiles,
        created_at=time.time(),
        last_used_at=status.last_used_at,
        stateful=stateful,
    )
    _put_new(draft, container, id, owner.name, snapshot)


def _put_new(draft: Draft, container: str, id: str, owner: str, snapshot: Snapshot) -> None:
    full = f"{owner}/{snapshot.name}"
    try:
        draft.name(KIND, full, id)
    except AlreadyExists:
        raise NodeError(f"Snapshot '{full}' already exists") from None
    draft.put(SNAPSHOTS, id, snapshot, container)


def add(draft: Draft, container: str, snapshot: Snapshot) -> None:
    """Writes a snapshot whose volume came with its container, by a copy or from a backup."""
    owner = _owner(draft, container)
    profiles = [profile for one in snapshot.profiles if (profile := draft.get(PROFILES, one)) is not None]
    devices = _on_pool(snapshot.devices, overlay(profiles, {}, snapshot.devices)[1], owner.pool)
    _put_new(draft, container, str(uuid.uuid4()), owner.name, msgspec.structs.replace(snapshot, devices=devices))
    draft.event("container-created", url(f"{owner.name}/{snapshot.name}"))


def _on_pool(devices: Devices, expanded: Devices, pool: str) -> Devices:
    """The local devices with the root disk on `pool`, which may be another than the one that it was copied from."""
    roots = [name for name, device in expanded.items() if is_root(device)]
    if len(roots) == 1 and expanded[roots[0]].get("pool") == pool:
        return devices
    name = next((one for one in roots if one in devices), "root")
    disk = devices.get(name, {"type": "disk", "path": "/"})
    return devices | {name: disk | {"pool": pool}}


def confirm(draft: Draft, container: str, id: str) -> None:
    """Makes a pending snapshot one that is ready."""
    owner, snapshot = _owner(draft, container), get(draft, container, id)
    draft.put(SNAPSHOTS, id, msgspec.structs.replace(snapshot, phase="created"), container)
    full = f"{owner.name}/{snapshot.name}"
    draft.event("container-created", url(full))
    draft.event("container-snapshot-created", url(owner.name), snapshot_name=full)


def rename(draft: Draft, container: str, id: str, new: str) -> None:
    """Gives a snapshot another name. Invalid, or AlreadyExists when it is taken."""
    check_name(new)
    if not new:
        raise Invalid("Snapshot name must not be empty")
    owner, snapshot = _owner(draft, container), get(draft, container, id)
    old_name, new_name = f"{owner.name}/{snapshot.name}", f"{owner.name}/{new}"
    check_free(draft, new_name)
    draft.unname(KIND, old_name)
    draft.name(KIND, new_name, id)
    draft.put(SNAPSHOTS, id, msgspec.structs.replace(snapshot, name=new), container)
    draft.event("container-snapshot-renamed", url(old_name), new_name=new_name, snapshot_name=old_name)


def check_free(view: View, full: str) -> None:
    """AlreadyExists when a snapshot bears the name `CT/SNAP`."""
    if view.find(KIND, full) is not None:
        raise AlreadyExists(f"Name '{full}' already in use")


def condemn(draft: Draft, container: str, id: str) -> None:
    """Marks a snapshot for deletion: its volume goes next, whatever happens to the daemon."""
    snapshot = get(draft, container, id)
    draft.put(SNAPSHOTS, id, msgspec.structs.replace(snapshot, phase="deleting"), container)


def forget(draft: Draft, container: str, id: str) -> None:
    """Deletes the documents of a snapshot whose volume has gone; nothing when there are none."""
    owner, snapshot = draft.get(CONTAINERS, container), draft.get(SNAPSHOTS, id, container)
    if owner is None or snapshot is None:
        return
    full = f"{owner.name}/{snapshot.name}"
    draft.unname(KIND, full)
    draft.delete(SNAPSHOTS, id, container)
    if snapshot.phase != "pending":
        draft.event("container-snapshot-deleted", url(full), snapshot_name=full)


def forget_all(draft: Draft, container: str) -> None:
    """Deletes the documents of all snapshots of a container that goes."""
    for id in sorted(draft.documents(SNAPSHOTS.name, container)):
        forget(draft, container, id)


def follow(draft: Draft, container: str, old: str, new: str) -> None:
    """Gives the snapshots of a container that is renamed their names."""
    for id, snapshot in list(draft.all(SNAPSHOTS, container)):
        draft.unname(KIND, f"{old}/{snapshot.name}")
        draft.name(KIND, f"{new}/{snapshot.name}", id)


def _owner(draft: Draft, container: str) -> Container:
    owner = draft.get(CONTAINERS, container)
    if owner is None:
        raise NotFound
    if owner.phase != "created":
        raise NodeError(f"Container '{owner.name}' is being made or deleted")
    return owner


def get(view: View, container: str, id: str) -> Snapshot:
    """A snapshot by id. NotFound."""
    snapshot = view.get(SNAPSHOTS, id, container)
    if snapshot is None:
        raise NotFound
    return snapshot
