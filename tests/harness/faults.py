"""Faults of a real cluster in namespaces, each with its end: processes, links, disks, files and members.

Owns how a fault is made and mended; refuses to choose (`chaos.py` does). What needs the kernel's netem (delays) is left
out where there is none: a slow link is one of little bandwidth."""

import signal
import time
from collections.abc import Callable
from itertools import count
from random import Random

from tests.harness.daemons import ApiError, Cluster, Daemon, within
from tests.harness.interposed import Interposed
from tests.harness.namespaces import HostError, run
from tests.harness.power import Disk

WHOLE_LIMIT = 15.0
CLOCKS = (-400 * 86_400, -86_400, -3_600, -20, 20, 3_600, 86_400, 400 * 86_400)
"""Seconds by which a wall clock may be off. The certificates of these clusters begin five minutes before now."""
_tables = count(1)


class Faults:
    """Each method makes a fault and returns what ends it; `chance` is the run's, anew for each round."""

    def __init__(self, cluster: Cluster, disks: dict[str, Disk], interposed: dict[str, Interposed]) -> None:
        self._members = cluster.members
        self._switch = cluster.switch
        self._disks = disks
        self._interposed = interposed
        self.chance = Random()

    def all(self) -> list[Callable[[], Callable[[], None] | None]]:
        """Every kind once; None when one is not possible now."""
        return [
            self.kill,
            self.kill_several,
            self.kill_all,
            self.cut_power,
            self.cut_power_of_all,
            self.pause,
            self.cut_link,
            self.cut_one_way,
            self.slow_link,
            self.lossy_link,
            self.split,
            self.fill_disk,
            self.fail_syncs,
            self.restart,
            self.shift_clock,
            self.damage,
        ]

    def _some(self, count: int = 1) -> list[Daemon]:
        return self.chance.sample(self._members, count)

    # Processes

    def kill(self) -> Callable[[], None]:
        return self._kill(self._some())

    def kill_several(self) -> Callable[[], None]:
        return self._kill(self._some(self.chance.randint(2, len(self._members) - 1)))

    def kill_all(self) -> Callable[[], None]:
        return self._kill(self._members)

    def _kill(self, members: list[Daemon]) -> Callable[[], None]:
        for member in members:
            member.kill()
        return lambda: _start(members)

    def restart(self) -> Callable[[], None]:
        """As an upgrade does it."""
        [member] = self._some()
        member.end()
        return lambda: _start([member])

    def pause(self) -> Callable[[], None]:
        [member] = self._some()
        member.signal(signal.SIGSTOP)
        return lambda: member.signal(signal.SIGCONT)

    def shift_clock(self) -> Callable[[], None]:
        """Of some, each by another while: what they write bears the time, what they decide does not."""
        shifted = [self._interposed[member.name] for member in self._some(self.chance.randint(1, len(self._members)))]
        for clock in shifted:
            clock.set_clock(self.chance.choice(CLOCKS))

        def end() -> None:
            for clock in shifted:
                clock.set_clock(0)

        return end

    # Disks

    def cut_power(self) -> Callable[[], None]:
        return self._cut_power(self._some())

    def cut_power_of_all(self) -> Callable[[], None]:
        return self._cut_power(self._members)

    def _cut_power(self, members: list[Daemon]) -> Callable[[], None]:
        for member in members:
            member.kill()
        for member in members:
            member.sweep()
            self._disks[member.name].cut_power()
        return lambda: _start(members)

    def fill_disk(self) -> Callable[[], None]:
        disk = self._disks[self._some()[0].name]
        disk.fill()
        return disk.free

    def fail_syncs(self) -> Callable[[], None]:
        """Of one or more members; at the end their power is cut, so that what was not synced is gone."""
        failing = self._some(self.chance.randint(1, len(self._members)))
        for member in failing:
            self._interposed[member.name].fail_syncs()

        def end() -> None:
            restart = self._cut_power(failing)
            for member in failing:
                self._interposed[member.name].mend_syncs()
            restart()

        return end

    def damage(self) -> Callable[[], None] | None:
        """Of one member while all are whole: what a majority has lost, nobody can bring back."""
        try:
            within(WHOLE_LIMIT, "all vote", self._is_whole)
        except AssertionError:
            return None
        [member] = self._some()
        member.kill()
        self._disks[member.name].flip(self.chance.random())
        return lambda: _start([member])

    def _is_whole(self) -> bool:
        shown = self._members[0].get("/internal/cluster/status")["members"]
        return all(one["role"] != "spare" and one["heartbeat_age"] < 1 for one in shown)

    # Links

    def cut_link(self) -> Callable[[], None]:
        number = self.chance.randint(1, len(self._members))
        self._switch.cut(number)
        return lambda: self._switch.heal(number)

    def cut_one_way(self) -> Callable[[], None]:
        """One does not hear another, which hears it."""
        deaf, other = self._some(2)
        assert other.host is not None
        return _filtered(deaf, f"ip saddr {other.host.address} drop")

    def split(self) -> Callable[[], None]:
        """Two sides that do not hear each other; inside, all is well."""
        members = self._some(len(self._members))
        border = self.chance.randint(1, len(members) - 1)
        sides = members[:border], members[border:]
        ends = [
            _filtered(member, f"ip saddr {_addresses(other)} drop")
            for side, other in (sides, sides[::-1])
            for member in side
        ]

        def heal() -> None:
            for end in ends:
                end()

        return heal

    def lossy_link(self) -> Callable[[], None]:
        return _filtered(self._some()[0], f"numgen random mod 100 < {self.chance.randint(5, 40)} drop")

    def slow_link(self) -> Callable[[], None]:
        """Both ways: what it hears comes late, and what it says."""
        number = self.chance.randint(1, len(self._members))
        self._switch.narrow(number, self.chance.choice([16, 64, 256]))
        return lambda: self._switch.widen(number)


def _addresses(members: list[Daemon]) -> str:
    """As a set of nftables."""
    return "{ " + ", ".join(member.host.address for member in members if member.host) + " }"


def _filtered(member: Daemon, rule: str) -> Callable[[], None]:
    """A rule for what comes in at a member."""
    assert member.host is not None
    inside, table = member.host.enter, f"inet chaos{next(_tables)}"
    run(*inside, "nft", f"add table {table}; add chain {table} in {{ type filter hook input priority 0; }}")
    run(*inside, "nft", f"add rule {table} in iif eth0 {rule}")
    return lambda: _run_quietly(*inside, "nft", "delete", "table", *table.split())


def _run_quietly(*argv: str) -> None:
    """Two faults of a kind on one member end with the first."""
    run(*argv, check=False)


def _start(members: list[Daemon]) -> None:
    for member in members:
        if member.process is None or member.process.poll() is not None:
            member.start()


class Guest:
    """A server that joins while the others suffer, and is taken out again."""

    def __init__(self, cluster: Cluster, guest: Daemon) -> None:
        self._cluster = cluster
        self.guest = guest
        self.joined = False

    def turn(self, through: Daemon) -> None:
        """Joins, or leaves; what a fault prevents is tried at the next turn."""
        try:
            if self.joined:
                through.delete(f"/1.0/cluster/members/{self.guest.name}")
                within(20, "it is a server of its own", lambda: not self.guest.get("/1.0/cluster")["enabled"])
                self.joined = False
            else:
                self._cluster.join(self.guest, through)
                self.joined = True
        except (ApiError, OSError, AssertionError, HostError):
            time.sleep(0.5)
