"""How a member sees the log at a moment, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lxdnode.raft.driver import Driver
from lxdnode.raft.entry import Members


@dataclass(frozen=True, slots=True)
class Status:
    """How this member sees the log. `missing` names the voters that a majority lacks; `needs_level` the level that
    stopped it from applying; `removed`: the others said that it is no member any more."""

    member: int
    term: int
    leader: int | None
    applied: int
    commit: int
    last: int
    members: Members
    connected: tuple[int, ...]
    missing: tuple[int, ...]
    removed: bool
    needs_level: int | None
    disk_full: bool
    failures: Mapping[int, str]

    @classmethod
    def of(cls, driver: Driver, failures: Mapping[int, str], now: float) -> Self:
        core, journal = driver.core, driver.journal
        return cls(
            member=driver.identity.member,
            term=core.term,
            leader=core.leader,
            applied=core.applied,
            commit=core.commit,
            last=journal.last,
            members=journal.members,
            connected=tuple(sorted(driver.connected)),
            missing=driver.missing(now),
            removed=driver.removed,
            needs_level=driver.needs_level,
            disk_full=driver.disk_full,
            failures=dict(failures),
        )
