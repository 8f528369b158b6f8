"""`scripts/chaos`: a real cluster under clients and faults, and what must hold of it afterwards.

A run prints its seed: the same faults hit the same members in the same order again. Nobody repairs anything by hand;
owns the run and its judgement, the parts are `faults.py`, `clients.py`, `power.py` and `linearizability.py`."""

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from tests.harness.clients import Client
from tests.harness.daemons import Cluster, Daemon, unhurried, within
from tests.harness.faults import Faults, Guest
from tests.harness.interposed import Interposed, build
from tests.harness.linearizability import Operation, violations
from tests.harness.namespaces import HostError
from tests.harness.power import Disk

HEALTHY_WITHIN = 30.0  # after the last fault, on a machine that is the run's own (`unhurried`)
CLIENTS = 6
REST, ANSWERS = 10.0, 60  # between two faults, at most so long, until so many operations are done


class Violated(AssertionError):
    """What a cluster promises does not hold. The message names the seed."""


@dataclass
class Report:
    """What happened in a run. `healthy` is the time from the end of the last fault until all was well, in seconds."""

    seed: int
    members: int
    voters: int
    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    healthy: float = 0.0

    def __str__(self) -> str:
        done = ", ".join(f"{count} {result}" for result, count in sorted(self.operations.items()))
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        size = f"{self.members} members, up to {self.voters} vote"
        return f"seed {self.seed}, {size}: {done}, {self.refused} refused; {faults}; healthy in {self.healthy:.1f} s"


class Chaos:
    """One run on a cluster of its own in `directory`."""

    def __init__(self, directory: Path, report: Report, prefix: str, off: str, only: Collection[str]) -> None:
        self._off, self._only = off, only
        self._mended = 0.0  # when the last fault ended
        self.report = report
        self._cluster = Cluster(directory, report.members, prefix, "10.98.0")
        guest = Daemon(directory / "guest", self._cluster.switch.host(report.members + 1), "guest")
        self._guest = Guest(self._cluster, guest)
        daemons = [*self._cluster.members, guest]
        self._disks = {daemon.name: Disk(daemon.directory) for daemon in daemons}
        library = build(directory)
        interposed = {daemon.name: Interposed(daemon, library) for daemon in self._cluster.members}
        self._faults = Faults(self._cluster, self._disks, interposed)
        self._clients = [Client(self._cluster.members, number, report.seed) for number in range(CLIENTS)]

    def run(self, seconds: float) -> Report:
        """Rages for a while, waits for health and judges. Violated, or AssertionError for what did not come back."""
        try:
            self._begin()
            self._rage(seconds)
            within(unhurried(HEALTHY_WITHIN), f"seed {self.report.seed}: all members are well", self._is_healthy)
            self.report.healthy = time.monotonic() - self._mended
            self._judge()
            return self.report
        finally:
            self._end()

    def _begin(self) -> None:
        for disk in self._disks.values():
            disk.make()
        self._cluster.start().form()
        self._cluster[1].patch("/1.0", {"config": {"cluster.max_voters": str(self.report.voters)}})
        self._cluster.switch.up(len(self._cluster.members) + 1)
        self._guest.guest.start().wait_ready()
        if self._off:
            self._switch_off()
        for client in self._clients:
            client.start()

    def _switch_off(self) -> None:
        """From here on the members do without what a test wants to be missed."""
        for member in self._cluster.members:
            member.end()
            member.extra["LXD_NODE_TEST_OFF"] = self._off
            member.start()
        for member in self._cluster.members:
            member.wait_ready()

    def _rage(self, seconds: float) -> None:
        """Each round draws from numbers of its own: what one could not do changes nothing for the next."""
        end = time.monotonic() + seconds
        for number in count():
            self._faults.chance = chance = Random(f"{self.report.seed}/{number}")
            self._rest(chance)
            last = chance.uniform(0.3, 4)
            endings = [ending for _ in range(chance.choice([1, 1, 2])) if (ending := self._fault())]
            if not self._only and chance.random() < 0.25:
                self.report.faults["turn of the guest"] += 1
                self._guest.turn(chance.choice(self._cluster.members))
            time.sleep(last)
            for ending in endings:
                ending()
            self._supervise()
            self._mended = time.monotonic()
            if self._mended > end:
                break

    def _rest(self, chance: Random) -> None:
        """Between two faults: a while, or until the clients have done something, so that there is what can be lost."""
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 2.5))
            return
        enough = self._answered() + ANSWERS
        with suppress(AssertionError):  # too slow, or too much is broken still
            within(REST, "the clients are answered", lambda: self._answered() > enough)

    def _answered(self) -> int:
        return sum(len(client.history) for client in self._clients)

    def _supervise(self) -> None:
        """What systemd does: a daemon that ended (its disk was full when it started, or failed) starts again."""
        for member in self._cluster.members:
            if member.process is not None and member.process.poll() is not None:
                self.report.faults["restart after an end"] += 1
                member.start()

    def _fault(self) -> Callable[[], None] | None:
        """The next fault, on members that all run: one that is stopped already cannot be hit again."""
        possible = [fault for fault in self._faults.all() if not self._only or fault.__name__ in self._only]
        fault = self._faults.chance.choice(possible)
        if any(member.process is None or member.process.poll() is not None for member in self._cluster.members):
            return None
        ending = fault()
        if ending is not None:
            self.report.faults[fault.__name__] += 1
        return ending

    def _is_healthy(self) -> bool:
        """Every member is ready, writes, and shows the state of the others."""
        self._supervise()
        for number, member in enumerate(self._cluster.members):
            member.get("/internal/ready")
            member.post("/1.0/profiles", {"name": f"health-{time.monotonic_ns()}-{number}"})
        for client in self._clients:
            client.end()
        for client in self._clients:
            client.join()
        shown = [member.get("/internal/cluster/digest") for member in self._cluster.members]
        return len({(one["index"], one["digest"]) for one in shown}) == 1

    def _judge(self) -> None:
        for client in self._clients:
            if client.failure is not None:
                raise Violated(f"seed {self.report.seed}: {client.failure}")
        history = [operation for client in self._clients for operation in client.history]
        history += self._look_again({operation.key for operation in history})
        self.report.operations.update(_outcome(operation) for operation in history)
        self.report.refused = sum(client.refused for client in self._clients)
        for key, operations in violations(history).items():
            lines = "\n".join(f"  {one}" for one in operations)
            raise Violated(f"seed {self.report.seed}: the history of {key} is not linearizable:\n{lines}")

    def _look_again(self, keys: Collection[str]) -> list[Operation]:
        """What every key is in the end: what was acknowledged last is there still."""
        reader = Client(self._cluster.members, CLIENTS, self.report.seed)
        with closing(reader):
            for key in sorted(keys):
                within(unhurried(HEALTHY_WITHIN), f"{key} is read", lambda key=key: reader.reads(key))
        return reader.history

    def _end(self) -> None:
        for client in self._clients:
            client.end()
        self._cluster.stop()
        self._guest.guest.stop()
        for disk in self._disks.values():
            disk.unmount()


def _outcome(operation: Operation) -> str:
    return "unknown" if operation.result == "unknown" else operation.kind


def chaos(
    seed: int,
    seconds: float,
    members: int | None = None,
    *,
    off: str = "",
    only: Collection[str] = (),
    keep: bool = False,
) -> Report:
    """One run in a directory of its own, which stays only when `keep` is set and the run fails.

    How many members there are, and how many may vote, is by the seed, unless `members` says it."""
    chance = Random(seed)
    members = members or chance.choice([3, 3, 4, 5, 7])
    report = Report(seed, members, chance.choice([voters for voters in (3, 5, 7) if voters <= members]))
    directory = Path(tempfile.mkdtemp(prefix="lxdn-chaos-", dir="/tmp"))
    directory.chmod(0o711)
    failed = True
    try:
        Chaos(directory, report, f"lc{os.getpid():x}", off, only).run(seconds)
        failed = False
        return report
    finally:
        if not (failed and keep):
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"the members' logs: {directory}/*.log")


def main() -> int:
    """0 when every run held what a cluster promises."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the first run")
    parser.add_argument("--seconds", type=float, default=120.0, help="of faults, per run")
    parser.add_argument("--members", type=int, choices=range(3, 8), help="(default: by the seed)")
    parser.add_argument("--off", default="", help="for tests: sync, or rules of raft/guard.py, separated by commas")
    parser.add_argument("--only", action="append", default=[], metavar="FAULT", help="this kind, and no guest")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.runs):
        try:
            print(
                chaos(seed, options.seconds, options.members, off=options.off, only=options.only, keep=True), flush=True
            )
        except (AssertionError, HostError) as error:
            failed += 1
            print(f"seed {seed} failed: {error}", flush=True)
    print(f"{options.runs} runs, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
