"""`scripts/every-line`: joins and removals, in which a daemon dies before each line that they run through, once each.

Afterwards the members, whom they trust, and the Raft configuration must agree everywhere, and the same command must
succeed. Owns the cycle and its judgement; how a daemon dies at a line is `doomed.py`'s."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from signal import SIGUSR1
from subprocess import SubprocessError, TimeoutExpired

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.documents import View
from lxdnode.node.networks.records import NETWORKS
from lxdnode.node.storage.records import POOLS
from lxdnode.raft import recovery
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, unhurried, within
from tests.harness.doomed import RECORD
from tests.harness.namespaces import run

ROOT = Path(__file__).resolve().parents[2]
POOL = {"name": "default", "driver": "dir"}
BRIDGE = {"name": "lxdbr0", "config": {"ipv4.address": "none", "ipv6.address": "none"}}
GUEST = "m3"
JOIN, REMOVAL = "join", "removal"


@dataclass(frozen=True)
class Death:
    """A daemon that dies before a line while somebody joins, or is removed. `who`: the joiner or leaver ("guest"), or
    the member that is asked ("host")."""

    what: str
    who: str
    line: str

    def __str__(self) -> str:
        return f"{self.what}, {self.who} dies before {self.line}"


@dataclass
class Report:
    """`reached`: how many deaths came about; `missed`: those whose line was not run through this time; `failed`: what
    did not hold, in words."""

    reached: int = 0
    missed: list[Death] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Ground:
    """Two members, of which one votes, and a guest: with it three vote. So each join and each removal moves votes."""

    def __init__(self, directory: Path, prefix: str, network: str) -> None:
        self.cluster = Cluster(directory, 3, prefix, network)
        self.guest = self.cluster[3]
        self.members = self.cluster.members[:2]
        self.directory = directory
        self.joined = self.keep = False
        for member in self.cluster.members:
            member.program = [sys.executable, "-m", "tests.harness.doomed"]
            member.extra["PYTHONPATH"] = f"{ROOT}:{ROOT}/src"

    def found(self) -> None:
        """The two members."""
        first = self.cluster.start()[1]
        wanted = {
            "config": {"core.https_address": first.address, "core.trust_password": PASSWORD},
            "cluster": {"enabled": True, "server_name": first.name},
            "storage_pools": [POOL],
            "networks": [BRIDGE],
        }
        first.command("init", "--preseed", stdin=json.dumps(wanted).encode())
        self.cluster.join(self.cluster[2])

    def record(self) -> dict[tuple[str, str], list[str]]:
        """The lines of each (what, who), in the order in which they are run through first."""
        found = {}
        for what in (JOIN, REMOVAL):
            host = self.host()
            for daemon in (self.guest, host):
                _order(daemon, RECORD)
            self.act(what, host)
            for who, daemon in (("guest", self.guest), ("host", host)):
                _order(daemon, "")
                lines = Path(f"{daemon.directory}.lines")
                found[what, who] = lines.read_text().split()
                lines.unlink()
        return found

    def host(self) -> Daemon:
        """The member that is asked: the leader, unless that is the guest."""
        leader = self.cluster.leader()
        return leader if leader is not self.guest else self.members[0]

    def die(self, death: Death) -> bool:
        """Whether the daemon died; afterwards the command has been given again, and all lists agree."""
        host = self.host()
        if self.joined == (death.what == JOIN):
            self.act(REMOVAL if self.joined else JOIN, host)
        if death.what == JOIN:
            self.guest.put("/1.0", {"config": {}})  # as one that joins for the first time, and gets its address by that
        victim = self.guest if death.who == "guest" else host
        _order(victim, death.line)
        command = threading.Thread(target=self._attempt, args=(death.what, host))
        command.start()
        within(150, "the command ends", lambda: _is_dead(victim) or not command.is_alive())
        died = _dies(victim)
        if died:
            victim.start().wait_ready(30)
        else:
            _order(victim, "")
        command.join()
        self._repeat(death.what, host)
        return died

    def act(self, what: str, host: Daemon) -> None:
        """The guest joins, or is removed, and what must hold then comes to hold."""
        if what == JOIN:
            self.guest.put("/1.0/cluster", self.cluster.join_request(self.guest, host))
        else:
            host.delete(f"/1.0/cluster/members/{GUEST}")
        self._check(what)

    def _attempt(self, what: str, host: Daemon) -> None:
        """It may well fail: somebody dies meanwhile."""
        with suppress(AssertionError, ApiError, OSError, ValueError):
            self.act(what, host)

    def _repeat(self, what: str, host: Daemon) -> None:
        """The same as a person types it. What had been done already is no failure."""
        if what == JOIN:
            self.cluster.join(self.guest, host)
        else:
            done = host.command("cluster", "remove", GUEST, check=False)
            gone = f"Node '{GUEST}' not found" in done.stderr.decode()
            assert done.returncode == 0 or gone, f"{host.name}: {done.stderr.decode()}"
        self._check(what)

    def _check(self, what: str) -> None:
        if what == JOIN:
            self._check_agreement(self.cluster.members)
        else:
            self._check_removed()
        self.joined = what == JOIN

    def _check_removed(self) -> None:
        self._check_agreement(self.members)
        for member in self.members:
            assert _is_stranger(self.guest, member), f"{member.name} trusts the guest still"
        within(unhurried(15), "the guest is alone", lambda: not self.guest.get("/1.0/cluster")["enabled"])
        assert self.guest.get("/1.0/storage-pools") == []
        assert f"/1.0/networks/{BRIDGE['name']}" not in self.guest.get("/1.0/networks")

    def _check_agreement(self, members: Sequence[Daemon]) -> None:
        """Everybody knows these members, reaches each, takes it for a member, and has an odd number of voters and the
        same documents; nothing in these is of a member that is none."""
        names = {member.name for member in members}
        for member in members:
            within(unhurried(15), f"{member.name} knows {names}", lambda member=member: _is_settled(member, names))
            for other in members:
                within(unhurried(10), f"{member.name} talks to {other.name}", lambda a=member, b=other: _talks(a, b))
        within(unhurried(10), "the documents are the same", lambda: _are_alike(members))
        view = View(recovery.read(members[0].directory / "raft").state)
        serving = {str(member.number) for _id, member in view.all(MEMBERS) if member.phase == "member"}
        for _id, definition in (*view.all(POOLS), *view.all(NETWORKS)):
            assert set(definition.parts) == serving, f"{definition.name} has parts {definition.parts}"


def _order(daemon: Daemon, order: str) -> None:
    Path(f"{daemon.directory}.order").write_text(order)
    daemon.signal(SIGUSR1)


def _dies(daemon: Daemon) -> bool:
    """Whether it is dead, or about to be: its clients learn it a little earlier than its parent."""
    assert daemon.process is not None
    with suppress(TimeoutExpired):
        daemon.process.wait(0.5)
    return _is_dead(daemon)


def _is_dead(daemon: Daemon) -> bool:
    return daemon.process is None or daemon.process.poll() is not None


def _is_settled(member: Daemon, names: set[str]) -> bool:
    """Whether what a member lists, whom it trusts, and to whom its Raft sends are these members, of which as many vote
    as should."""
    status = member.get("/internal/cluster/status")
    listed = {one["server_name"] for one in member.get("/1.0/cluster/members?recursion=1")}
    trusted = {one["name"] for one in status["members"] if one["phase"] == "member"}
    voters, learners = set(status["raft"]["voters"]), set(status["raft"]["learners"])
    found = listed, trusted, voters | learners, len(voters)
    assert found == (names, names, names, (len(names) - 1) | 1), f"listed, trusted, in Raft, voters: {found}"
    return True


def _are_alike(members: Sequence[Daemon]) -> bool:
    shown = [member.get("/internal/cluster/digest") for member in members]
    return all(one == shown[0] for one in shown)


def _talks(member: Daemon, other: Daemon) -> bool:
    """Whether a member reaches another one over TLS, and is taken for a member there."""
    shown = member.get(f"/1.0?target={other.name}")
    return bool(shown["environment"]["server_name"] == other.name)


def _is_stranger(guest: Daemon, member: Daemon) -> bool:
    """Whether a member takes the key of the guest for nobody's."""
    assert guest.host is not None
    pair = ("--cert", str(guest.directory / "server.crt"), "--key", str(guest.directory / "server.key"))
    shown = run(*guest.host.enter, "curl", "--silent", "--insecure", *pair, f"https://{member.address}/1.0")
    return bool(json.loads(shown)["metadata"]["auth"] == "untrusted")


def deaths(recorded: dict[tuple[str, str], list[str]]) -> list[Death]:
    """Every death, a join and a removal in turn."""
    found = {key: [Death(*key, line) for line in lines] for key, lines in recorded.items()}
    joins, removals = ([*found[what, "guest"], *found[what, "host"]] for what in (JOIN, REMOVAL))
    return [death for death in chain(*zip_longest(joins, removals)) if death is not None]


def every_line(first: int = 0, step: int = 1, tries: int = 3, tell: Callable[[str], object] = print) -> Report:
    """Dies each `step`th death from the `first` on. A line that is not run through is tried again, `tries` times in
    all: tasks take turns in no fixed order. After a death that went wrong all is founded anew."""
    report = Report()
    with ExitStack() as stack:
        ground = stack.enter_context(founded())
        report.missed = deaths(ground.record())[first::step]
        for _ in range(tries):
            due, report.missed = report.missed, []
            for death in due:
                try:
                    came = ground.die(death)
                except (AssertionError, ApiError, OSError, SubprocessError) as error:
                    report.failed.append(f"{death}: {error} ({ground.directory}/*.log)")
                    tell(report.failed[-1])
                    ground.keep = True
                    stack.close()
                    ground = stack.enter_context(founded())
                else:
                    report.reached += came
                    report.missed += [] if came else [death]
    return report


@contextmanager
def founded() -> Iterator[Ground]:
    """Two members and a guest in a directory of their own, which stays when something goes wrong."""
    directory = Path(tempfile.mkdtemp(prefix="lxdn-lines-", dir="/tmp"))
    directory.chmod(0o711)
    ground = Ground(directory, f"le{os.getpid():x}", "10.103.0")
    try:
        ground.found()
        yield ground
    finally:
        ground.cluster.stop()
    if not ground.keep:
        shutil.rmtree(directory)


def main() -> int:
    """0 when the commands succeeded and the lists agreed after every death."""
    parser = argparse.ArgumentParser(prog="scripts/every-line", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="of all deaths")
    parser.add_argument("--step", type=int, default=1, help="every so many")
    options = parser.parse_args()
    began = time.monotonic()
    report = every_line(options.first, options.step)
    for death in report.missed:
        print(f"not run through again: {death}")
    print(
        f"{report.reached} deaths, {len(report.failed)} after which something did not hold, "
        f"{len(report.missed)} lines not reached; {time.monotonic() - began:.0f} s"
    )
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
