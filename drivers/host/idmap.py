"""Id maps: which ids of this host stand for a container's (spec/containers.md 14).

Owns the host's ranges, the form of a map and LXD's words for a wrong one; refuses to shift files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lxdnode.drivers.errors import DriverError

SMALLEST_RANGE = 65536


class Entry(msgspec.Struct, frozen=True):
    """One mapped range, under the names that LXD stores: host ids from Hostid on stand for Nsid on."""

    Isuid: bool
    Isgid: bool
    Hostid: int
    Nsid: int
    Maprange: int

    def lxc(self) -> list[str]:
        """The lines of the LXC configuration: `u 0 100000 65536`."""
        kinds = [("u", self.Isuid), ("g", self.Isgid)]
        return [f"{kind} {self.Nsid} {self.Hostid} {self.Maprange}" for kind, on in kinds if on]


IdMap = tuple[Entry, ...]
_MAP = msgspec.json.Decoder(tuple[Entry, ...])


@dataclass(frozen=True)
class Range:
    """Host ids from `base` on that containers may use."""

    base: int
    size: int

    def whole(self) -> IdMap:
        """The map of a container that uses all of it."""
        return (Entry(True, False, self.base, 0, self.size), Entry(False, True, self.base, 0, self.size))

    def part(self, base: int, size: int) -> IdMap:
        """The map of an isolated container."""
        return Range(base, size).whole()


def decode(text: str) -> IdMap:
    """A map from its JSON text; "" and "[]" are the empty one (privileged, or nothing shifted)."""
    return _MAP.decode(text) if text else ()


def encode(entries: IdMap) -> str:
    """The JSON text that volatile.idmap.next and volatile.last_state.idmap hold."""
    return msgspec.json.encode(entries).decode()


def host_range(subuid: Path = Path("/etc/subuid"), subgid: Path = Path("/etc/subgid")) -> Range | None:
    """The range of root on this host, or None: then only privileged containers can run.

    First entry of at least 65536 ids in each file; without both files the default range. The two must agree, as
    one base serves both kinds: the part that they share is taken."""
    if not subuid.exists() and not subgid.exists():
        return Range(1_000_000, 1_000_000_000)
    uids, gids = _first(subuid), _first(subgid)
    if uids is None or gids is None:
        return None
    base = max(uids.base, gids.base)
    size = min(uids.base + uids.size, gids.base + gids.size) - base
    return Range(base, size) if size >= SMALLEST_RANGE else None


def _first(path: Path) -> Range | None:
    for line in path.read_text().splitlines() if path.exists() else ():
        user, _, rest = line.partition(":")
        base, _, size = rest.partition(":")
        if user in ("root", "0") and base.isdigit() and size.isdigit() and int(size) >= SMALLEST_RANGE:
            return Range(int(base), int(size))
    return None


def to_host(entries: IdMap, uid: int, gid: int) -> tuple[int, int]:
    """The host's ids of a container's user and group. DriverError for ids that the map does not hold."""
    return _shift(entries, uid, "Isuid", True), _shift(entries, gid, "Isgid", True)


def to_container(entries: IdMap, uid: int, gid: int) -> tuple[int, int]:
    """The container's ids of a user and group of the host; 65534 (nobody) for those that are not mapped."""
    return _shift(entries, uid, "Isuid", False), _shift(entries, gid, "Isgid", False)


def holds(entries: IdMap, uid: int) -> bool:
    """Whether a user of the host is one of a map."""
    return any(entry.Isuid and entry.Hostid <= uid < entry.Hostid + entry.Maprange for entry in entries)


_NOBODY = 65534
_LARGEST = 2**32 - 2
"""The kernel's largest id: one more means "no id", and changes no owner."""


def _shift(entries: IdMap, number: int, kind: str, outward: bool) -> int:
    if not entries and number <= _LARGEST:
        return number
    for entry in entries:
        base, other = (entry.Nsid, entry.Hostid) if outward else (entry.Hostid, entry.Nsid)
        if getattr(entry, kind) and base <= number < base + entry.Maprange:
            return number - base + other
    if outward:
        raise DriverError(f"id {number} is outside the container's id map")
    return _NOBODY


def parse_raw(text: str) -> list[Entry]:
    """The entries of raw.idmap: `both|uid|gid HOST[-END] CONTAINER[-END]` lines. ValueError with LXD's words."""
    entries: list[Entry] = []
    for line in text.splitlines():
        if not line:
            continue
        words = line.split(" ")
        if len(words) != 3:
            raise ValueError(f"invalid raw.idmap line {line}")
        host, inside = _ids(words[1]), _ids(words[2])
        if words[0] not in ("both", "uid", "gid"):
            raise ValueError(f"invalid raw.idmap type {line}")
        if len(host) != len(inside):
            raise ValueError(f"idmap ranges of different sizes {line}")
        both = words[0] == "both"
        entries.append(Entry(both or words[0] == "uid", both or words[0] == "gid", host[0], inside[0], len(host)))
    return entries


def _ids(text: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
        raise ValueError(f"invalid raw.idmap range {text}")
    return range(int(first), int(last if dash else first) + 1)


def insert(entries: IdMap, extra: Iterable[Entry]) -> IdMap:
    """Puts the entries of raw.idmap into a map, which is cut where they fall. ValueError with LXD's words."""
    for new in extra:
        for old in entries:
            if (
                _same_kind(old, new)
                and old.Hostid < new.Hostid + new.Maprange
                and new.Hostid < old.Hostid + old.Maprange
            ):
                raise ValueError("Host id is in the range of subids")
        cut = [part for old in entries for part in (_around(old, new) if _same_kind(old, new) else [old])]
        entries = tuple(sorted([*cut, new], key=lambda entry: (entry.Nsid, not entry.Isuid)))
    return entries


def _same_kind(one: Entry, other: Entry) -> bool:
    return (one.Isuid and other.Isuid) or (one.Isgid and other.Isgid)


def _around(old: Entry, new: Entry) -> Sequence[Entry]:
    """What is left of `old` when `new` takes its place inside the container, split by kind where they differ."""
    kept: list[Entry] = []
    for uid, gid in ((True, False), (False, True)):
        if not ((old.Isuid and uid) or (old.Isgid and gid)):
            continue
        part = msgspec.structs.replace(old, Isuid=uid, Isgid=gid)
        if not ((new.Isuid and uid) or (new.Isgid and gid)):
            kept.append(part)
            continue
        start, end = max(new.Nsid, old.Nsid), min(new.Nsid + new.Maprange, old.Nsid + old.Maprange)
        if start >= end:
            kept.append(part)
            continue
        if start > old.Nsid:
            kept.append(msgspec.structs.replace(part, Maprange=start - old.Nsid))
        if end < old.Nsid + old.Maprange:
            skipped = end - old.Nsid
            kept.append(
                msgspec.structs.replace(part, Nsid=end, Hostid=old.Hostid + skipped, Maprange=old.Maprange - skipped)
            )
    return kept


def of_process(pid: int) -> IdMap:
    """The map that is in force for a process; the empty one when it has the host's ids."""
    maps = ((True, False, "uid_map"), (False, True, "gid_map"))
    found = tuple(
        Entry(is_uid, is_gid, Hostid=host, Nsid=inside, Maprange=size)
        for is_uid, is_gid, file in maps
        for inside, host, size in (
            map(int, line.split()) for line in Path(f"/proc/{pid}/{file}").read_text().splitlines()
        )
    )
    return () if all(entry.Hostid == entry.Nsid for entry in found) else found
