"""Joins and removals for `scripts/every-line`: afterwards the members, whom they trust, and the Raft configuration must
agree everywhere, and the same command must succeed.

Owns the cycle and its judgement; how one dies is `deaths.py`'s."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, zip_longest
from pathlib import Path

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.documents import View
from lxdnode.node.networks.records import NETWORKS
from lxdnode.node.storage.records import POOLS
from lxdnode.raft import recovery
from tests.harness.daemons import PASSWORD, ApiError, Cluster, Daemon, unhurried, within
from tests.harness.deaths import Death, doom, is_dead, order, place, recorded, take_death
from tests.harness.namespaces import run

POOL = {"name": "default", "driver": "dir"}
BRIDGE = {"name": "lxdbr0", "config": {"ipv4.address": "none", "ipv6.address": "none"}}
GUEST = "m3"
JOIN, REMOVAL = "join", "removal"
FILES = (
    "node/cluster/join.py",
    "node/cluster/accept.py",
    "node/cluster/membership.py",
    "node/cluster/rules.py",
    "node/cluster/voters.py",
    "node/definitions/keeper.py",
    "node/definitions/rules.py",
    "node/exchange.py",
    "node/first.py",
    "node/keypair.py",
    "node/networks/networks.py",
    "node/node.py",
    "node/session.py",
    "node/storage/storage.py",
    "raft/membership.py",
    "raft/segments.py",
)
"""What joins, leaves and removals run through."""


class Ground:
    """Two members, of which one votes, and a guest: with it three vote. So each join and each removal moves votes."""

    def __init__(self, directory: Path, prefix: str, network: str) -> None:
        self.cluster = Cluster(directory, 3, prefix, network)
        self.guest = self.cluster[3]
        self.members = self.cluster.members[:2]
        self.directory = directory
        self.joined = False
        for member in self.cluster.members:
            doom(member, FILES)

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

    def record(self) -> list[Death]:
        """Every death, a join and a removal in turn; who comes or goes first, then the member that is asked."""
        found: dict[str, list[Death]] = {}
        for what in (JOIN, REMOVAL):
            host = self.host()
            with recorded(self.guest) as own, recorded(host) as other:
                self.act(what, host)
            lines = [("guest", line) for line in own] + [("host", line) for line in other]
            found[what] = [Death(what, who, line) for who, line in lines]
        return [death for death in chain(*zip_longest(*found.values())) if death is not None]

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
        order(victim, death.line)
        command = threading.Thread(target=self._attempt, args=(death.what, host))
        command.start()
        within(150, "the command ends", lambda: is_dead(victim) or not command.is_alive())
        died = take_death(victim)
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


@contextmanager
def founded() -> Iterator[Ground]:
    """Two members and a guest."""
    with place() as directory:
        ground = Ground(directory, f"le{os.getpid():x}", "10.103.0")
        try:
            ground.found()
            yield ground
        finally:
            ground.cluster.stop()
