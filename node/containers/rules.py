"""What may be written about containers (spec/containers.md 1 to 3, spec/config-keys.md 3).

Owns names, validation, references and claims of a container's documents; refuses to touch the host. Errors are
LXD's words: NodeError for what the spec marks (op), which an operation shows as its `err`."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from lxdnode.drivers.config.kinds import is_true
from lxdnode.drivers.devices.disk import is_root
from lxdnode.drivers.devices.registry import root_disk, validate_devices
from lxdnode.drivers.host.idmap import Range
from lxdnode.drivers.images.architectures import host_architectures
from lxdnode.node.containers import backup_rules, names, snapshot_rules, volatile
from lxdnode.node.containers.expansion import Devices, Expanded, expand, overlay
from lxdnode.node.containers.keys import CONTAINER_KEYS, validate_config
from lxdnode.node.containers.records import (
    CONTAINERS,
    FROZEN,
    KIND,
    RUNNING,
    STATUS,
    STOPPED,
    Container,
    Snapshot,
    Status,
    user,
)
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.networks import rules as networks
from lxdnode.node.profiles import rules as profile_rules
from lxdnode.node.profiles.records import reference as profile_reference
from lxdnode.node.storage import rules as pools
from lxdnode.node.storage.records import POOLS

DEFAULT_PROFILES = ("default",)
_NO_POOL = "The container's root device is missing the pool property."
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Place:
    """Where a container is made: the number of its member, that daemon's incarnation, and the host's id range."""

    member: int
    incarnation: int
    range: Range | None


@dataclass(frozen=True)
class Wanted:
    """A container as a client asks for it. `profiles`: names, None for the default one. `trigger`: the template trigger
    of its first start, "" for none. `created_at`: Unix time, None for now."""

    name: str
    architecture: str = ""
    description: str = ""
    ephemeral: bool = False
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    profiles: list[str] | None = None
    trigger: str = "create"
    created_at: float | None = None


def url(name: str) -> str:
    """Where a container is read."""
    return f"/1.0/containers/{name}"


def find(view: View, name: str) -> str:
    """The id of a container. NotFound."""
    return view.named(CONTAINERS, KIND, name)[0]


def owner(view: View, name: str) -> int:
    """The number of the member that holds a container. NotFound."""
    return view.named(CONTAINERS, KIND, name)[1].member


def reserve(draft: Draft, id: str, wanted: Wanted, place: Place, operation: str) -> Container:
    """Writes a pending container: from here on its name, addresses and ids are taken."""
    names.check(wanted.name)
    if draft.find(KIND, wanted.name) is not None:
        raise NodeError(f"Container '{wanted.name}' already exists")
    asked = DEFAULT_PROFILES if wanted.profiles is None else wanted.profiles
    profiles = profile_rules.find_all(draft, list(asked))
    architecture = wanted.architecture or host_architectures()[0]
    if architecture not in host_architectures():
        raise NodeError("Requested architecture isn't supported by this host")
    own, kept = volatile.split(wanted.config)
    config, devices = _checked(draft, own, wanted.devices, [profile for _, profile in profiles])
    kept |= {"volatile.apply_template": wanted.trigger} if wanted.trigger else {}
    kept = volatile.fill(draft, id, kept, devices)
    volatile.set_map(draft, id, place.member, place.range, config, kept)
    container = Container(
        name=wanted.name,
        member=place.member,
        phase="pending",
        operation=operation,
        incarnation=place.incarnation,
        architecture=architecture,
        description=wanted.description,
        ephemeral=wanted.ephemeral,
        config=own,
        devices={name: dict(entry) for name, entry in wanted.devices.items()},
        profiles=[profile_id for profile_id, _ in profiles],
        pool=_pool_of(devices),
        created_at=time.time() if wanted.created_at is None else wanted.created_at,
    )
    draft.name(KIND, wanted.name, id)
    draft.put(CONTAINERS, id, container)
    draft.put(STATUS, id, Status(volatile=kept))
    _refer(draft, id, set(), _targets(draft, container))
    return container


def confirm(draft: Draft, id: str, snapshots: Iterable[Snapshot] = (), volatile: Mapping[str, str] = _NOTHING) -> None:
    """Makes a pending container a created one, with the snapshots and `volatile.*` keys that came along. NotFound when
    another member gave it up meanwhile."""
    container = _get(draft, id)
    if container.phase != "pending":
        raise NotFound(f"Container '{container.name}' was given up while it was made")
    draft.put(CONTAINERS, id, msgspec.structs.replace(container, phase="created", operation="", incarnation=0))
    if volatile:
        _note(draft, id, volatile)
    draft.event("container-created", url(container.name))
    for snapshot in snapshots:
        snapshot_rules.add(draft, id, snapshot)


def update(
    draft: Draft,
    id: str,
    place: Place,
    *,
    config: Mapping[str, str],
    devices: Mapping[str, Mapping[str, str]],
    profiles: list[str],
    **fields: Any,
) -> None:
    """Puts another configuration into a container; `fields` are description, ephemeral and architecture."""
    old = expand(draft, id)
    if old.container.phase != "created":
        raise NodeError(f"Container '{old.name}' is being made or deleted")
    found = _find_profiles(draft, profiles)
    _check_reliance(old.container.devices, devices, [profile for _, profile in found])
    own, given = volatile.split(config)
    expanded, plugged = _checked(draft, own, devices, [profile for _, profile in found])
    _check_root_disk(old.container, plugged, devices)
    kept = volatile.fill(draft, id, volatile.replace(old.status.volatile, given), plugged)
    if any(old.config.get(key) != expanded.get(key) for key in volatile.MAP_KEYS):
        volatile.set_map(draft, id, old.container.member, place.range, expanded, kept)
    changed = msgspec.structs.replace(
        old.container,
        config=own,
        devices={name: dict(entry) for name, entry in devices.items()},
        profiles=[profile_id for profile_id, _ in found],
        **fields,
    )
    if changed == old.container and kept == old.status.volatile:
        return
    draft.put(CONTAINERS, id, changed)
    if kept != old.status.volatile:
        draft.put(STATUS, id, msgspec.structs.replace(old.status, volatile=kept))
    _refer(draft, id, _targets(draft, old.container), _targets(draft, changed))
    draft.event("container-updated", url(old.name))


def check(view: View, id: str) -> None:
    """NodeError with LXD's words when a container is not valid with its profiles, of which one may have changed."""
    found = expand(view, id)
    profiles = [profile for _, profile in _find_profiles(view, found.profiles)]
    _checked(view, found.container.config, found.container.devices, profiles)


def check_volatile(old: Expanded, config: Mapping[str, str]) -> None:
    """NodeError for a volatile key that there is not. Those that came along from a newer server may stay."""
    _, given = volatile.split(config)
    try:
        CONTAINER_KEYS.validate({key: value for key, value in given.items() if key not in old.status.volatile})
    except ValueError as error:
        raise NodeError(str(error)) from None


def restore(draft: Draft, old: Expanded, place: Place) -> None:
    """Takes back an update that the host refused."""
    current = _get(draft, old.id)
    written, kept = draft.get(STATUS, old.id) or Status(), old.status.volatile
    volatile.put_back(draft, old.id, current.member, place.range, old.config, kept, written.volatile)
    draft.put(CONTAINERS, old.id, old.container)
    draft.put(STATUS, old.id, old.status)
    _refer(draft, old.id, _targets(draft, current), _targets(draft, old.container))


def restore_snapshot(draft: Draft, id: str, snapshot: str, place: Place, *, stateful: bool = False) -> None:
    """Makes a container what one of its snapshots (its id) is, whose files are put in place as well; `stateful`: with
    the state of its processes."""
    was = snapshot_rules.get(draft, id, snapshot)
    found = snapshot_rules.as_container(draft, id, was)
    update(
        draft,
        id,
        place,
        config=found.local,
        devices=was.devices,
        profiles=found.profiles,
        description=was.description,
        ephemeral=was.ephemeral,
        architecture=was.architecture,
    )
    # The map of what is on the disk now, which no update changes, came with the files.
    disk = found.status.volatile.get("volatile.last_state.idmap", "[]")
    note_map(draft, id, disk)
    transition(draft, id, STOPPED, stateful=stateful)
    name = _get(draft, id).name
    if not stateful:
        draft.event("container-snapshot-restored", url(name), snapshot_name=name)


def note_map(draft: Draft, id: str, disk: str) -> None:
    """Writes which map a container's files are shifted by."""
    _note(draft, id, {"volatile.last_state.idmap": disk})


def _note(draft: Draft, id: str, volatile: Mapping[str, str]) -> None:
    """Lays `volatile.*` keys over those that there are."""
    status = draft.get(STATUS, id) or Status()
    draft.put(STATUS, id, msgspec.structs.replace(status, volatile={**status.volatile, **volatile}))


def rename(draft: Draft, id: str, new: str) -> None:
    """Gives a stopped container another name."""
    names.check(new, "Invalid container name")
    container = _get(draft, id)
    check_free(draft, new)
    if is_running(draft, id):
        raise NodeError("Renaming of running container not allowed")
    draft.unname(KIND, container.name)
    draft.name(KIND, new, id)
    draft.put(CONTAINERS, id, msgspec.structs.replace(container, name=new))
    snapshot_rules.follow(draft, id, container.name, new)
    draft.event("container-renamed", url(container.name), new_name=new)


def check_free(view: View, name: str) -> None:
    """AlreadyExists when a container bears the name."""
    if view.find(KIND, name) is not None:
        raise AlreadyExists(f"Name '{name}' already in use")


def condemn(draft: Draft, id: str) -> None:
    """Marks a container for deletion: its data go next, whatever happens to the daemon. NodeError when protected."""
    found = expand(draft, id)
    if is_true(found.config.get("security.protection.delete")):
        raise NodeError("Container is protected")
    draft.put(CONTAINERS, id, msgspec.structs.replace(found.container, phase="deleting"))


def forget(draft: Draft, id: str) -> None:
    """Deletes all documents of a container whose data have gone; nothing when there are none."""
    container = draft.get(CONTAINERS, id)
    if container is None:
        return
    snapshot_rules.forget_all(draft, id)
    backup_rules.forget_all(draft, id)
    status = draft.get(STATUS, id) or Status()
    volatile.release(draft, id, status.volatile, container.member)
    _refer(draft, id, _targets(draft, container), set())
    draft.unname(KIND, container.name)
    draft.delete(CONTAINERS, id)
    draft.delete(STATUS, id)
    if container.phase == "deleting":
        draft.event("container-deleted", url(container.name))


def transition(
    draft: Draft,
    id: str,
    state: str,
    event: str = "",
    *,
    used_at: float | None = None,
    stateful: bool | None = None,
    **changed: str | None,
) -> None:
    """Writes how a container is now: its state, volatile keys (`last_state__power`, None removes one) and the event.
    `stateful`: whether the state of its processes is kept while it is stopped; None: as it was."""
    container, status = _get(draft, id), draft.get(STATUS, id) or Status()
    keys = {f"volatile.{name.replace('__', '.')}": value for name, value in changed.items()}
    kept = {key: value for key, value in (status.volatile | keys).items() if value is not None}
    last_used_at = status.last_used_at if used_at is None else used_at
    has_state = state == STOPPED and (status.stateful if stateful is None else stateful)
    new = msgspec.structs.replace(status, state=state, volatile=kept, last_used_at=last_used_at, stateful=has_state)
    if new != status:
        draft.put(STATUS, id, new)
    if event:
        draft.event(event, url(container.name))


def complete(draft: Draft, id: str, place: Place) -> None:
    """Gives a container what it got since its creation by a profile: names and addresses of nics, another id map."""
    found = expand(draft, id)
    kept = volatile.fill(draft, id, found.status.volatile, found.devices)
    if not volatile.is_map_current(place.range, found.config, kept):
        volatile.set_map(draft, id, place.member, place.range, found.config, kept)
    if kept != found.status.volatile:
        draft.put(STATUS, id, msgspec.structs.replace(found.status, volatile=kept))


def is_running(view: View, id: str) -> bool:
    """Whether a container has processes; a frozen one has."""
    status = view.get(STATUS, id)
    return status is not None and status.state in (RUNNING, FROZEN)


def _get(draft: Draft, id: str) -> Container:
    container = draft.get(CONTAINERS, id)
    if container is None:
        raise NotFound
    return container


def _checked(
    view: View, config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]], profiles: list[Any]
) -> tuple[dict[str, str], Devices]:
    """The expanded maps, after the local and the expanded ones were validated, and that the pools which disks name are
    there. NodeError with LXD's words."""
    try:
        validate_config(config)
        validate_devices(devices)
        expanded, plugged = overlay(profiles, config, devices)
        validate_config(expanded)
        validate_devices(plugged, expanded=True)
    except ValueError as error:
        raise NodeError(str(error)) from None
    for device in plugged.values():
        if device["type"] == "disk" and device.get("pool"):
            _check_pool(view, device["pool"])
    return expanded, plugged


def _find_profiles(view: View, profiles: list[str]) -> list[Any]:
    for name in profiles:
        if view.find("profile", name) is None:
            raise NodeError(f"Profile doesn't exist: {name}")
    return profile_rules.find_all(view, profiles)


def check_any_pool(view: View) -> None:
    """Invalid with LXD's words when there is no pool for a container to be on."""
    if not view.documents(POOLS.name, ""):
        raise Invalid("No storage pool found. Please create a new storage pool.")


def _check_pool(view: View, name: str) -> None:
    try:
        pools.find(view, name)
    except NotFound:
        raise NodeError(f'The "{name}" storage pool doesn\'t exist.') from None


def _pool_of(devices: Devices) -> str:
    """The pool of the root disk."""
    pool = root_disk(devices)[1].get("pool", "")
    if not pool:
        raise NodeError(_NO_POOL)
    return pool


def _check_reliance(
    old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]], profiles: list[Any]
) -> None:
    """A container that gives up its own root disk must get exactly one from its profiles."""
    if not any(map(is_root, old.values())) or any(map(is_root, new.values())):
        return
    inherited = sum(map(is_root, overlay(profiles, {}, new)[1].values()))
    if inherited != 1:
        found = "none was found" if inherited == 0 else "conflicting devices were found"
        raise NodeError(f"Update will cause the container to rely on a profile's root disk device but {found}.")


def _check_root_disk(old: Container, devices: Devices, local: Mapping[str, Mapping[str, str]]) -> None:
    """The pool of a root disk never changes."""
    name, root = root_disk(devices)
    if root.get("pool") == old.pool:
        return
    if not root.get("pool"):
        raise NodeError(_NO_POOL)
    if name in local:
        raise NodeError("The new local root disk device would change the storage pool of the container.")
    raise NodeError("Using the profile's root disk device would change the storage pool of the container.")


def _targets(view: View, container: Container) -> set[str]:
    """What a container refers to: its profiles, the pool of its root disk, and the networks of its own nics."""
    targets = {profile_reference(id) for id in container.profiles}
    if container.pool:
        targets.add(pools.reference(pools.find(view, container.pool)[0]))
    for device in container.devices.values():
        if device.get("type") == "nic" and (network := networks.find_id(view, device.get("parent", ""))):
            targets.add(networks.reference(network))
    return targets


def _refer(draft: Draft, id: str, old: set[str], new: set[str]) -> None:
    for target in sorted(new - old):
        draft.refer(target, user(id))
    for target in sorted(old - new):
        draft.unrefer(target, user(id))


def check_stopped(found: Expanded) -> None:
    """Invalid with LXD's words when a container runs."""
    if found.status.state != STOPPED:
        raise Invalid("container is running")
