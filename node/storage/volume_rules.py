"""What may be written about custom volumes (spec/storage.md 5, spec/rest.md 9.2)."""

import uuid
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import msgspec

from lxdnode.drivers.config.key import InvalidKey
from lxdnode.drivers.storage import keys
from lxdnode.node.containers.records import CONTAINERS, SNAPSHOTS, STATUS, STOPPED, Container, Status
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError, NotFound
from lxdnode.node.profiles.records import PROFILES
from lxdnode.node.storage.records import VOLUMES, Pool, Volume, volume_kind

TYPES = ("container", "image", "custom")


def check_type(kind: str) -> str:
    """The type in a request. Invalid with LXD's words."""
    if kind not in TYPES:
        raise Invalid("invalid storage volume type name")
    return kind


def check_new(kind: str, name: str) -> None:
    """Refuses what cannot become a custom volume. Invalid with LXD's words."""
    if not name:
        raise Invalid("No name provided")
    if "/" in name or name in (".", ".."):
        raise Invalid("Storage volume names may not contain slashes")
    if not kind:
        raise Invalid("You must provide a storage volume type of the storage volume")
    if kind != "custom":
        raise Invalid(f"Currently not allowed to create storage volumes of type {kind}")


def all_volumes(view: View, pool_id: str) -> Iterator[tuple[str, Volume]]:
    """(id, record) of the custom volumes of a pool that are ready, on all members."""
    return ((id, volume) for id, volume in view.all(VOLUMES, pool_id) if volume.phase == "created")


def holders(view: View, pool_id: str, name: str) -> dict[int, str]:
    """Member number -> id of the custom volumes with that name."""
    return {volume.member: id for id, volume in all_volumes(view, pool_id) if volume.name == name}


def root_volumes(view: View, pool: str) -> Iterator[tuple[str, int]]:
    """(name, member) of the root volumes of containers, and of their snapshots as `CT/SNAP`, in a pool on all
    members."""
    for id, container in view.all(CONTAINERS):
        if container.pool == pool:
            yield container.name, container.member
            for _, snapshot in view.all(SNAPSHOTS, id):
                yield f"{container.name}/{snapshot.name}", container.member


def owner_url(name: str) -> str:
    """Where the container or snapshot of a root volume is read."""
    container, _, snapshot = name.partition("/")
    return f"/1.0/containers/{container}" + (f"/snapshots/{quote(snapshot, safe='')}" if snapshot else "")


def reserve(draft: Draft, pool_id: str, pool: Pool, fresh: Volume) -> str:
    """Takes the name for a volume that is made next; returns its id. NodeError with LXD's words."""
    if pool.phase not in ("creating", "created"):
        raise NodeError(f'storage pool "{pool.name}" is not ready: its state is {pool.phase}')
    try:
        keys.check_volume(pool.driver, fresh.config)
    except InvalidKey as error:
        raise NodeError(str(error)) from None
    id = str(uuid.uuid4())
    try:
        draft.name(volume_kind(pool_id, fresh.member), fresh.name, id)
    except AlreadyExists:
        raise NodeError("a storage volume of type custom does already exist") from None
    draft.put(VOLUMES, id, msgspec.structs.replace(fresh, phase="pending"), pool_id)
    return id


def confirm(draft: Draft, pool_id: str, id: str) -> None:
    """Makes a pending volume a created one. NotFound when it was given up meanwhile."""
    draft.put(VOLUMES, id, msgspec.structs.replace(get(draft, pool_id, id), phase="created"), pool_id)


def replace(draft: Draft, pool: tuple[str, Pool], id: str, description: str, config: Mapping[str, str]) -> None:
    """Gives a volume another configuration. Invalid for wrong keys, NodeError for those that cannot change."""
    pool_id, record = pool
    volume = get(draft, pool_id, id)
    new = {key: value for key, value in config.items() if value}
    changed = {key for key in volume.config.keys() | new.keys() if volume.config.get(key) != new.get(key)}
    try:
        keys.check_volume(record.driver, new)
    except InvalidKey as error:
        raise Invalid(str(error)) from None
    if fixed := keys.fixed_volume_keys(record.driver, changed):
        raise NodeError(f'The [{" ".join(fixed)}] properties cannot be changed for "{record.driver}" storage volumes')
    draft.put(VOLUMES, id, msgspec.structs.replace(volume, description=description, config=new), pool_id)


def rename(draft: Draft, pool: tuple[str, Pool], id: str, name: str) -> None:
    """Gives a volume another name, in the devices that name it as `custom/VOLUME` too."""
    pool_id, record = pool
    volume = get(draft, pool_id, id)
    check_new("custom", name)
    kind = volume_kind(pool_id, volume.member)
    check_renamable(draft, record.name, volume)
    draft.name(kind, name, id, f"Name '{name}' already in use")
    draft.unname(kind, volume.name)
    draft.put(VOLUMES, id, msgspec.structs.replace(volume, name=name), pool_id)
    _rewrite_users(draft, record.name, volume, record.name, name)


def hand_over(draft: Draft, pool: tuple[str, Pool], id: str, new_pool: str, new: str) -> None:
    """Gives the users of a volume to its copy in another pool, and marks it for deletion."""
    volume = get(draft, pool[0], id)
    check_renamable(draft, pool[1].name, volume)
    _rewrite_users(draft, pool[1].name, volume, new_pool, new)
    condemn(draft, pool, id)


def _rewrite_users(draft: Draft, pool: str, volume: Volume, new_pool: str, new: str) -> None:
    for container_id, container in _using_containers(draft, pool, volume):
        devices = _renamed(container.devices, pool, volume.name, new_pool, new)
        draft.put(CONTAINERS, container_id, msgspec.structs.replace(container, devices=devices))
    for profile_id, profile in list(draft.all(PROFILES)):
        devices = _renamed(profile.devices, pool, volume.name, new_pool, new)
        if devices != profile.devices:
            draft.put(PROFILES, profile_id, msgspec.structs.replace(profile, devices=devices))


def check_renamable(view: View, pool: str, volume: Volume) -> None:
    """Refuses while a container that uses the volume runs, or names it in a way that is not rewritten."""
    for id, container in _using_containers(view, pool, volume):
        if (view.get(STATUS, id) or Status()).state != STOPPED:
            raise NodeError("Volume is still in use by running containers")
        if any(_uses(disk, pool, volume.name) and "/" not in disk["source"] for disk in container.devices.values()):
            raise NodeError(f'storage volume "{volume.name}" on storage pool "{pool}" is attached to containers')


def condemn(draft: Draft, pool: tuple[str, Pool], id: str) -> None:
    """Marks a volume that nobody uses for deletion; its data go next. Invalid with LXD's words."""
    pool_id, record = pool
    volume = get(draft, pool_id, id)
    if users(draft, record.name, volume):
        raise Invalid("The storage volume is still in use by containers or profiles")
    draft.put(VOLUMES, id, msgspec.structs.replace(volume, phase="deleting"), pool_id)


def forget(draft: Draft, pool_id: str, id: str) -> None:
    """Deletes the document of a volume whose data have gone; nothing when there is none."""
    volume = draft.get(VOLUMES, id, pool_id)
    if volume is not None:
        draft.unname(volume_kind(pool_id, volume.member), volume.name)
        draft.delete(VOLUMES, id, pool_id)


def get(view: View, pool_id: str, id: str) -> Volume:
    """A volume by id. NotFound."""
    volume = view.get(VOLUMES, id, pool_id)
    if volume is None:
        raise NotFound
    return volume


def users(view: View, pool: str, volume: Volume) -> list[str]:
    """URLs of the containers and profiles that use a custom volume, sorted within their kind.

    LXD does not compare the pool, so that a volume of the same name elsewhere seems used: here it is compared."""
    containers = sorted(container.name for _id, container in _using_containers(view, pool, volume))
    profiles = sorted(
        profile.name
        for _id, profile in view.all(PROFILES)
        if any(_uses(disk, pool, volume.name) for disk in profile.devices.values())
    )
    return [f"/1.0/containers/{name}" for name in containers] + [f"/1.0/profiles/{name}" for name in profiles]


def _using_containers(view: View, pool: str, volume: Volume) -> list[tuple[str, Container]]:
    """The containers on the volume's member whose own devices name it."""
    return [
        (id, container)
        for id, container in view.all(CONTAINERS)
        if container.member == volume.member
        and any(_uses(disk, pool, volume.name) for disk in container.devices.values())
    ]


def _uses(disk: Mapping[str, str], pool: str, volume: str) -> bool:
    named = disk.get("source") in (volume, f"custom/{volume}")
    return disk.get("type") == "disk" and disk.get("pool") == pool and named


def _renamed(
    devices: Mapping[str, Mapping[str, str]], pool: str, old: str, new_pool: str, new: str
) -> dict[str, dict[str, str]]:
    """The devices with `custom/OLD` of a pool replaced; LXD writes an empty pool at a rename, which breaks them."""
    return {
        name: {**disk, "pool": new_pool, "source": f"custom/{new}"}
        if _uses(disk, pool, old) and disk["source"] == f"custom/{old}"
        else dict(disk)
        for name, disk in devices.items()
    }
