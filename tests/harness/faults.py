"""Faults of a real cluster in namespaces, each with its end: processes, links, disks, files and members.

Owns how a fault is made and mended; refuses to choose (`chaos.py` does). What needs the kernel's netem (delays) is left
out where there is none: a slow link is one of little bandwidth."""

import signal
import time
from collections.abc import Callable
from random import Random

from tests.harness.daemons import ApiError, Cluster, Daemon, within
from tests.harness.namespaces import HostError, run
from tests.harness.power import Disk

WHOLE_LIMIT = 15.0


class Faults:
    """Each method makes a fault and returns what ends it; `Random` is the run's."""

    def __init__(self, cluster: Cluster, disks: dict[str, Disk], chance: Random) -> None:
        self._cluster = cluster
        self._disks = disks
        self._chance = chance
        self.counts: dict[str, int] = {}

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
            self.fill_disk,
            self.restart,
            self.damage,
        ]

    def _some(self, count: int = 1) -> list[Daemon]:
        return self._chance.sample(self._cluster.members, count)

    # Processes

    def kill(self) -> Callable[[], None]:
        return self._kill(self._some())

    def kill_several(self) -> Callable[[], None]:
        return self._kill(self._some(self._chance.randint(2, len(self._cluster.members) - 1)))

    def kill_all(self) -> Callable[[], None]:
        return self._kill(self._cluster.members)

    def _kill(self, members: list[Daemon]) -> Callable[[], None]:
        for member in members:
            member.kill()
        return lambda: _start(members)

    def restart(self) -> Callable[[], None]:
        """As an upgrade does it."""
        [member] = self._some()
        member.signal(signal.SIGTERM)
        assert member.process is not None
        member.process.wait(20)
        return lambda: _start([member])

    def pause(self) -> Callable[[], None]:
        [member] = self._some()
        member.signal(signal.SIGSTOP)
        return lambda: member.signal(signal.SIGCONT)

    # Disks

    def cut_power(self) -> Callable[[], None]:
        return self._cut_power(self._some())

    def cut_power_of_all(self) -> Callable[[], None]:
        return self._cut_power(self._cluster.members)

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

    def damage(self) -> Callable[[], None] | None:
        """Of one member while all are whole: what a majority has lost, nobody can bring back."""
        try:
            within(WHOLE_LIMIT, "all vote", self._is_whole)
        except AssertionError:
            return None
        [member] = self._some()
        member.kill()
        self._disks[member.name].flip(self._chance.random())
        return lambda: _start([member])

    def _is_whole(self) -> bool:
        shown = self._cluster.members[0].get("/internal/cluster/status")["members"]
        return all(one["role"] != "spare" and one["heartbeat_age"] < 1 for one in shown)

    # Links

    def cut_link(self) -> Callable[[], None]:
        number = self._chance.randint(1, len(self._cluster.members))
        self._cluster.switch.cut(number)
        return lambda: self._cluster.switch.heal(number)

    def cut_one_way(self) -> Callable[[], None]:
        """One does not hear another, which hears it."""
        deaf, other = self._some(2)
        assert other.host is not None
        return _filtered(deaf, f"ip saddr {other.host.address} drop")

    def lossy_link(self) -> Callable[[], None]:
        return _filtered(self._some()[0], f"numgen random mod 100 < {self._chance.randint(5, 40)} drop")

    def slow_link(self) -> Callable[[], None]:
        [member] = self._some()
        assert member.host is not None
        inside = member.host.enter
        rate = f"{self._chance.choice([64, 256, 1024])}kbit"
        run(
            *inside, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "4k", "latency", "500ms"
        )
        return lambda: _run_quietly(*inside, "tc", "qdisc", "del", "dev", "eth0", "root")


def _filtered(member: Daemon, rule: str) -> Callable[[], None]:
    """A rule for what comes in at a member."""
    assert member.host is not None
    inside = member.host.enter
    run(*inside, "nft", "add table inet chaos; add chain inet chaos in { type filter hook input priority 0; }")
    run(*inside, "nft", f"add rule inet chaos in iif eth0 {rule}")
    return lambda: _run_quietly(*inside, "nft", "delete", "table", "inet", "chaos")


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

    def turn(self) -> None:
        """Joins, or leaves; what a fault prevents is tried at the next turn."""
        try:
            if self.joined:
                self._cluster.members[0].delete(f"/1.0/cluster/members/{self.guest.name}")
                within(20, "it is a server of its own", lambda: not self.guest.get("/1.0/cluster")["enabled"])
                self.joined = False
            else:
                self._cluster.join(self.guest)
                self.joined = True
        except (ApiError, OSError, AssertionError, HostError):
            time.sleep(0.5)
