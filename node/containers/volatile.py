"""The keys that the server writes itself: addresses and names of nics, and id maps (spec/config-keys.md 4).

Owns how they are drawn and claimed; refuses to apply them (the start does)."""

import secrets
from collections.abc import Mapping

from lxdnode.drivers.config.kinds import is_true
from lxdnode.drivers.host import idmap
from lxdnode.drivers.host.idmap import SMALLEST_RANGE, IdMap, Range
from lxdnode.node.containers.records import user
from lxdnode.node.documents import CLAIMS, Draft
from lxdnode.node.errors import NodeError

PREFIX = "volatile."
MACS = "mac"
"""The group of claims in which every generated hardware address stands."""
_KEPT = ("volatile.last_state.", "volatile.idmap.")
_NO_RANGE = "LXD doesn't have a uid/gid allocation. In this mode, only privileged containers are supported."
_FULL = "Not enough uid/gid available for the container."


def split(config: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """A configuration as clients send it, in two: the keys of `Container`, and the volatile ones of `Status`."""
    own = {key: value for key, value in config.items() if not key.startswith(PREFIX)}
    return own, {key: value for key, value in config.items() if key.startswith(PREFIX)}


def of_client(config: Mapping[str, str]) -> dict[str, str]:
    """What a client may say about a container that is made: how its files are shifted is known from where they come."""
    return {key: value for key, value in config.items() if key != "volatile.last_state.idmap"}


def replace(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The volatile keys after a client sent `given`: what says how the disk and the host are stays as it is (LXD lets
    a client drop it, and then shifts a file system twice)."""
    return {k: v for k, v in given.items() if not k.startswith(_KEPT)} | {
        k: v for k, v in old.items() if k.startswith(_KEPT)
    }


def of_device(volatile: Mapping[str, str], device: str) -> dict[str, str]:
    """The keys of one device without their prefix: `hwaddr`, `name`, `host_name`."""
    prefix = f"{PREFIX}{device}."
    return {key.removeprefix(prefix): value for key, value in volatile.items() if key.startswith(prefix)}


def fill(
    draft: Draft, id: str, volatile: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """The volatile keys with those that the nics lack, and without those of nics that are gone; addresses are claimed
    and released along."""
    kept = {key: value for key, value in volatile.items() if not _is_stale(key, devices)}
    for name, device in sorted(devices.items()):
        if device.get("type") not in ("nic", "infiniband"):
            continue
        key = f"{PREFIX}{name}."
        if not device.get("name"):
            kept.setdefault(f"{key}name", _free_name(device, devices, kept))
        if device["type"] == "nic" and device.get("nictype") != "physical" and not device.get("hwaddr"):
            kept.setdefault(f"{key}hwaddr", _draw_address(draft))
    _claim(draft, id, _addresses(volatile), _addresses(kept))
    return kept


def lacks_any(volatile: Mapping[str, str], devices: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether `fill` would write a key."""
    return any(
        not device.get(key) and f"{PREFIX}{name}.{key}" not in volatile
        for name, device in devices.items()
        if device.get("type") == "nic"
        for key in ("name", *(["hwaddr"] if device.get("nictype") != "physical" else []))
    )


def release(draft: Draft, id: str, volatile: Mapping[str, str], member: int) -> None:
    """Gives back all that a container claimed."""
    _claim(draft, id, _addresses(volatile), set())
    _release_slots(draft, id, member)


def put_back(
    draft: Draft,
    id: str,
    member: int,
    host: Range | None,
    config: Mapping[str, str],
    old: Mapping[str, str],
    new: Mapping[str, str],
) -> None:
    """Claims again what the volatile keys `old` and an expanded configuration hold, after an update had claimed for
    the volatile keys `new`."""
    _claim(draft, id, _addresses(new), _addresses(old))
    _release_slots(draft, id, member)
    if host is not None and _is_isolated(config):
        size = int(config.get("security.idmap.size") or SMALLEST_RANGE)
        _keep_others_out(draft, id, member, host, Range(int(old.get("volatile.idmap.base", "0")), size))


def _is_isolated(config: Mapping[str, str]) -> bool:
    return is_true(config.get("security.idmap.isolated")) and not is_true(config.get("security.privileged"))


def change_member(
    draft: Draft, id: str, old: int, new: int, host: Range | None, config: Mapping[str, str], volatile: dict[str, str]
) -> None:
    """Gives back the ids that a container has on the member `old`, and writes the map that it gets on `new`."""
    _release_slots(draft, id, old)
    set_map(draft, id, new, host, config, volatile)


def _is_stale(key: str, devices: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a key belongs to a nic that is gone, or that has a value of its own now."""
    device, _, kind = key.removeprefix(PREFIX).rpartition(".")
    if kind not in ("hwaddr", "name", "host_name") or not device:
        return False
    entry = devices.get(device, {})
    return entry.get("type") not in ("nic", "infiniband") or bool(entry.get(kind))


def _free_name(device: Mapping[str, str], devices: Mapping[str, Mapping[str, str]], volatile: Mapping[str, str]) -> str:
    taken = {entry.get("name") for entry in devices.values()}
    taken |= {value for key, value in volatile.items() if key.endswith(".name")}
    prefix = "eth" if device["type"] == "nic" else "ib"
    return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def _draw_address(draft: Draft) -> str:
    while True:
        address = "00:16:3e:" + secrets.token_bytes(3).hex(":")
        if draft.get(CLAIMS, address, MACS) is None:
            return address


def _addresses(volatile: Mapping[str, str]) -> set[str]:
    return {value for key, value in volatile.items() if key.endswith(".hwaddr")}


def _claim(draft: Draft, id: str, old: set[str], new: set[str]) -> None:
    """Claims addresses that are new and gives back old ones. One that a client set and that is taken stays unclaimed:
    LXD lets it be, and a copy that keeps its address is a client's right."""
    for address in sorted(new):
        if draft.get(CLAIMS, address, MACS) is None:
            draft.claim(MACS, address, user(id))
    for address in sorted(old - new):
        held = draft.get(CLAIMS, address, MACS)
        if held is not None and held.owner == user(id):
            draft.release(MACS, address)


def set_map(
    draft: Draft, id: str, member: int, host: Range | None, config: Mapping[str, str], volatile: dict[str, str]
) -> None:
    """Writes the id map that the next start uses into the volatile keys. NodeError with LXD's words.

    An isolated container gets slots of 65,536 ids of its own, claimed per member."""
    base, entries = _choose(draft, id, member, host, config)
    volatile["volatile.idmap.base"] = str(base)
    volatile["volatile.idmap.next"] = idmap.encode(entries)
    volatile.setdefault("volatile.last_state.idmap", "[]")


def is_map_current(host: Range | None, config: Mapping[str, str], volatile: Mapping[str, str]) -> bool:
    """Whether the map that the next start uses is what the keys ask for: a profile may have changed them."""
    found = idmap.decode(volatile.get("volatile.idmap.next", ""))
    if is_true(config.get("security.privileged")) or host is None:
        return not found
    base = 0
    if is_true(config.get("security.idmap.isolated")):
        base = int(config.get("security.idmap.base") or volatile.get("volatile.idmap.base") or 0)
        host = Range(base, int(config.get("security.idmap.size") or SMALLEST_RANGE))
    return found == _with_raw(host.whole(), config)


MAP_KEYS = ("security.privileged", "security.idmap.isolated", "security.idmap.base", "security.idmap.size", "raw.idmap")
"""The keys whose change makes another map."""


def _choose(draft: Draft, id: str, member: int, host: Range | None, config: Mapping[str, str]) -> tuple[int, IdMap]:
    if is_true(config.get("security.privileged")):
        _release_slots(draft, id, member)
        return 0, ()
    if host is None:
        raise NodeError(_NO_RANGE)
    if not _is_isolated(config):
        _release_slots(draft, id, member)
        return 0, _with_raw(host.whole(), config)
    size = int(config.get("security.idmap.size") or SMALLEST_RANGE)
    if wanted := config.get("security.idmap.base"):
        base = int(wanted)
        _keep_others_out(draft, id, member, host, Range(base, size))
    else:
        base = _claim_slots(draft, id, member, host, size)
    return base, _with_raw(host.part(base, size), config)


def _with_raw(entries: IdMap, config: Mapping[str, str]) -> IdMap:
    """A map with the ids of raw.idmap in it. NodeError with LXD's words."""
    try:
        return idmap.insert(entries, idmap.parse_raw(config.get("raw.idmap", "")))
    except ValueError as error:
        raise NodeError(str(error)) from None


def _slots(member: int) -> str:
    return f"idmap:{member}"


def _keep_others_out(draft: Draft, id: str, member: int, host: Range, chosen: Range) -> None:
    """Claims the slots that ids of a client's choice lie in, so that none is drawn for another container. One that is
    taken stays with its owner: LXD looks for no overlap there."""
    _release_slots(draft, id, member)
    taken = {int(name) for name in draft.documents(CLAIMS.name, _slots(member))}
    first = (chosen.base - host.base) // SMALLEST_RANGE
    last = (chosen.base + chosen.size - 1 - host.base) // SMALLEST_RANGE
    for slot in range(max(first, 1), min(last + 1, host.size // SMALLEST_RANGE)):
        if slot not in taken:
            draft.claim(_slots(member), str(slot), user(id))


def _claim_slots(draft: Draft, id: str, member: int, host: Range, size: int) -> int:
    """The first host id of enough free slots in a row; slot 0 is the part that shared maps begin with."""
    _release_slots(draft, id, member)
    taken = {int(name) for name in draft.documents(CLAIMS.name, _slots(member))}
    count = -(-size // SMALLEST_RANGE)
    for first in range(1, host.size // SMALLEST_RANGE - count + 1):
        wanted = range(first, first + count)
        if taken.isdisjoint(wanted):
            for slot in wanted:
                draft.claim(_slots(member), str(slot), user(id))
            return host.base + first * SMALLEST_RANGE
    raise NodeError(_FULL)


def _release_slots(draft: Draft, id: str, member: int) -> None:
    owned = [name for name, mark in draft.peek.all(CLAIMS, _slots(member)) if mark.owner == user(id)]
    for slot in owned:
        draft.release(_slots(member), slot)
