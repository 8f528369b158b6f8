"""What may be written about pools (spec/storage.md 1 to 3, spec/rest.md 9). Volumes: `volume_rules.py`."""

from collections.abc import Mapping

import msgspec

from lxdnode.drivers.config.key import InvalidKey
from lxdnode.drivers.errors import DriverError
from lxdnode.drivers.storage import keys, registry
from lxdnode.node.cluster.rules import is_clustered
from lxdnode.node.definitions import rules as definitions
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import AlreadyExists, Invalid, NodeError
from lxdnode.node.profiles.records import PROFILES
from lxdnode.node.storage.records import KIND, NOUN, POOLS, VOLUMES, Pool


def reference(id: str) -> str:
    """The group in which the users of a pool are recorded."""
    return f"pool:{id}"


def find(view: View, name: str) -> tuple[str, Pool]:
    """(id, record) of a pool by name. NotFound when there is none."""
    return view.named(POOLS, KIND, name)


def check(pool: Pool) -> None:
    """Refuses a pool that could never be made, in LXD's words and codes (Invalid, else its 500)."""
    if not pool.name:
        raise Invalid("No name provided")
    if "/" in pool.name or pool.name in (".", ".."):
        raise Invalid("Storage pool names may not contain slashes")
    if not pool.driver:
        raise Invalid("No driver provided")
    try:
        registry.find(pool.driver)
        keys.check_pool(pool.driver, pool.config)
    except (InvalidKey, DriverError) as error:
        raise NodeError(str(error)) from None


def define(draft: Draft, pool: Pool, member: int) -> None:
    """Names a member for a pool that a later request creates; the configuration is the member's own."""
    check(pool)
    id = draft.find(KIND, pool.name)
    known = draft.get(POOLS, id) if id else None
    if known is not None and known.driver != pool.driver:
        raise NodeError("pool already exists with a different driver")
    definitions.define(NOUN, draft, msgspec.structs.replace(pool, config={}), member, pool.config)


def begin(draft: Draft, pool: Pool, me: int) -> str:
    """Has every member make its part of a pool; returns the id."""
    check(pool)
    try:
        return definitions.begin(NOUN, draft, pool, me)
    except (Invalid, AlreadyExists) as error:
        # A taken name is LXD's 500 for pools.
        raise NodeError(str(error)) from None


def shown_config(view: View, pool: Pool, me: int, target: int | None) -> dict[str, str]:
    """A pool's configuration as a client sees it: member keys only of a target, or where there is one member."""
    if target is not None:
        return pool.whole(target)
    return dict(pool.config) if is_clustered(view) else pool.whole(me)


def replace(draft: Draft, id: str, description: str, config: Mapping[str, str], me: int) -> None:
    """Gives a pool another configuration. Invalid for wrong keys, NodeError for those that cannot change."""
    pool = draft.get(POOLS, id)
    if pool is None:
        raise NodeError("The storage pool was deleted meanwhile")
    old, new = dict(pool.config), dict(config)
    if is_clustered(draft):
        for key in NOUN.keys.member_keys(new):
            raise Invalid(f"node-specific config key {key} can't be changed")
    else:
        old = pool.whole(me)
    changed = {key for key in old.keys() | new.keys() if old.get(key, "") != new.get(key, "")}
    try:
        keys.check_pool(pool.driver, {key: new[key] for key in changed if key in new})
    except InvalidKey as error:
        raise Invalid(str(error)) from None
    if fixed := keys.fixed_pool_keys(pool.driver, changed):
        raise NodeError(f'The [{" ".join(fixed)}] properties cannot be changed for "{pool.driver}" storage pools')
    shared = {key: value for key, value in new.items() if value and key not in NOUN.keys.member_keys(new)}
    acts = any(not key.startswith("user.") for key in changed)
    definitions.change(NOUN, draft, id, description, shared, acts)


def remove(draft: Draft, name: str) -> str:
    """Has every member remove its part of a pool that nobody uses; returns the id. Invalid with LXD's words."""
    id, _pool = find(draft, name)
    custom = draft.documents(VOLUMES.name, id)
    if custom or draft.users(reference(id)):
        raise Invalid(f'storage pool "{name}" has volumes attached to it')
    if using := profiles(draft, name):
        raise Invalid("\n".join([f'Storage pool "{name}" has profiles using it:', *using]))
    definitions.condemn(NOUN, draft, id)
    return id


def profiles(view: View, pool: str) -> list[str]:
    """The names of the profiles with a disk in a pool, sorted."""
    return sorted(
        profile.name
        for _id, profile in view.all(PROFILES)
        if any(disk.get("type") == "disk" and disk.get("pool") == pool for disk in profile.devices.values())
    )


def with_defaults(pool: Pool) -> Pool:
    """A pool as it is stored when a client creates it: what it gave as source is kept aside."""
    if not pool.config.get("source"):
        return pool
    config = {**pool.config, "volatile.initial_source": pool.config["source"]}
    return msgspec.structs.replace(pool, config=config)
