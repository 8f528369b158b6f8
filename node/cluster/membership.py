"""The cluster as a member sees and changes it: bootstrap, join, leave, removal, and who may link to its log.

Owns the steps of each; the rules are in `rules.py`, the two sides of a join in `join.py` and `accept.py`."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import structlog
import trio

from lxdnode.node import keypair
from lxdnode.node.callers import Peer
from lxdnode.node.cluster import clocks, rules
from lxdnode.node.cluster.accept import Accepted, Joiner, check_certificate, check_entities, check_same, neighbours
from lxdnode.node.cluster.description import program
from lxdnode.node.cluster.join import Join, Wanted
from lxdnode.node.cluster.records import MEMBERS, Member
from lxdnode.node.cluster.refetch import Refetching
from lxdnode.node.containers.records import CONTAINERS
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid, NodeError, Unavailable
from lxdnode.node.fingerprint import fingerprint_of
from lxdnode.node.first import FIRST
from lxdnode.node.http import request
from lxdnode.node.node import Node
from lxdnode.node.operations import Operation
from lxdnode.node.server.keys import ADDRESS, ADDRESS_KEYS, CLUSTER_ADDRESS, covers, with_port
from lxdnode.node.server.rules import advertised, change
from lxdnode.raft.lateness import BOUNDS
from lxdnode.raft.log import Log
from lxdnode.raft.transport import BROKEN

log = structlog.get_logger(__name__)

REACHABLE = 2.0
LEAVE_LIMIT = 30.0
"""Seconds in which a leaving member must have lost its vote."""


class Membership:
    """What this member knows of and does with its cluster."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._join: Join | None = None

    # Looking

    def role(self, member: Member) -> str:
        """leader, voter or spare."""
        if self._node.log.status().leader == member.number:
            return "leader"
        return "voter" if member.voter else "spare"

    def reachable(self) -> set[int]:
        """The members that were heard within the last 2 s: requests wait for these only (DESIGN.md 3.4)."""
        serving = {member.number for member in rules.members(self._node.store.view())}
        ages = self._node.log.liveness()
        return {number for number, age in ages.items() if age < REACHABLE and number in serving}

    def online(self) -> list[Member]:
        """The members that are not offline, by number: new containers are placed on these."""
        threshold = self._node.settings.number("cluster.offline_threshold")
        ages = self._node.log.liveness()
        members = [member for member in rules.members(self._node.store.view()) if member.phase != "learner"]
        return [member for member in members if ages.get(member.number, float("inf")) <= threshold]

    def member_keys(self, view: View) -> Iterator[tuple[str, str, str]]:
        """(entity, name, key) of each key that a joining member must give a value for (spec/clustering.md 2)."""
        for name, key in self._node.storage.member_keys(view):
            yield "storage-pool", name, key
        for name, key in self._node.networks.member_keys(view):
            yield "network", name, key

    def status(self) -> dict[str, Any]:
        """What `lxd-node cluster status` shows, from local state."""
        view, status = self._node.store.view(), self._node.log.status()
        ages, skews, reports = self._node.log.liveness(), self._node.log.skews(), self._node.log.reports()
        return {
            "leader": rules.name_of(view, status.leader) if status.leader else "",
            "store": {
                "term": status.term,
                "applied": status.applied,
                "commit": status.commit,
                "disk_full": status.disk_full,
                "level": view.state.level,
            },
            "outdated": rules.outdated(view, status.needs_level) if status.needs_level else "",
            "wrong_clocks": {rules.name_of(view, number): words for number, words in clocks.wrong(skews).items()},
            "certificate": keypair.validity(self._node.shown.certificate),
            "raft": {
                "voters": [rules.name_of(view, number) for number in status.members.voters],
                "learners": [rules.name_of(view, number) for number in status.members.learners],
            },
            "missing": [rules.name_of(view, number) for number in status.missing],
            "members": [
                {
                    "name": member.name,
                    "role": self.role(member),
                    "phase": member.phase,
                    "version": program(member, reports).version,
                    "heartbeat_age": round(ages.get(member.number, -1.0), 1),
                    "clock_skew": round(skews[member.number], 3) if member.number in skews else None,
                    "certificate": keypair.validity(member.certificate),
                    "applied": status.applied if member.number == self._node.member else None,
                }
                for _id, member in view.all(MEMBERS)
                if member.phase != "removed"
            ],
            "unknown": [*self._node.storage.unknown(view), *self._node.images.unknown(view)],
            "lateness": {"bounds": BOUNDS, "counts": self._node.log.lateness.counts},
        }

    # Bootstrap

    def bootstrap(self, name: str, author: str) -> Operation:
        """Makes this server the first member of a cluster; its own certificate becomes the cluster's."""

        async def run(_operation: Operation) -> None:
            node = self._node
            if rules.is_clustered(node.store.view()):
                raise NodeError("inconsistent state: found leftover cluster certificate")
            address = advertised(self._node.settings.all())
            keypair.save(node.directory, "cluster", node.own)
            try:
                await node.store.transact(
                    lambda draft: rules.bootstrap(draft, node.member, name, address, node.own.certificate),
                    author=author,
                    request="PUT /1.0/cluster",
                )
            except BaseException:
                keypair.remove(node.directory, "cluster")
                raise

        return self._node.operations.create(
            kind="task", description="Creating bootstrap node", run=run, resources={"cluster": []}, author=author
        )

    # Joining: the cluster's side

    async def accept(self, joiner: Joiner, certificate: bytes) -> Accepted:
        """Lets a server in: one transaction with its document and its parts of pools and networks."""
        node = self._node
        check_entities(joiner)
        check_certificate(certificate)
        await node.store.barrier()

        def rule(draft: Draft) -> Accepted:
            wanted = Member(
                number=0,
                name=joiner.name,
                address=joiner.address,
                fingerprint=fingerprint_of(certificate),
                certificate=ssl.DER_cert_to_PEM_cert(certificate),
                level=joiner.level,
                version=joiner.version,
            )
            present = neighbours(rules.members(draft))
            for earlier in rules.unfinished_joins(draft, wanted.fingerprint):
                self.forget_join(draft, earlier)
            accepted = rules.accept(draft, wanted)
            self._check_definitions(draft, joiner)
            addresses = {key: value for key, value in joiner.addresses.items() if key in ADDRESS_KEYS}
            change(draft, accepted.number, addresses, "", replace=False)
            node.storage.add_member(draft, accepted.number, joiner)
            node.networks.add_member(draft, accepted.number, joiner)
            pair = rules.shown_pair(draft) or keypair.load(node.directory, "cluster")
            assert pair is not None, "a cluster has a key pair"
            identity = node.log.identity
            return Accepted(
                cluster=identity.cluster,
                epoch=identity.epoch,
                number=accepted.number,
                certificate=pair.certificate,
                private_key=pair.key,
                members=present,
            )

        return await node.store.transact(rule, author=f"certificate:{fingerprint_of(certificate)}", request="join")

    def _check_definitions(self, draft: Draft, joiner: Joiner) -> None:
        if joiner.member_config:
            return
        pools = {one.name: (one.driver, one.config) for one in joiner.pools}
        networks = {one.name: ("", one.config) for one in joiner.networks}
        check_same("storage pool", self._node.storage.definitions(draft), pools)
        check_same("network", self._node.networks.definitions(draft), networks)

    async def drop(self, number: int) -> bool:
        """Forgets a join that has failed. Whether it had not: the server is a member, and stays one."""

        def rule(draft: Draft) -> bool:
            self.forget_join(draft, number)
            found = rules.member(draft, number)
            return found is not None and found.phase == "member"

        return await self._node.store.transact(rule, author="join", request="drop")

    def forget_join(self, draft: Draft, number: int) -> None:
        """Drops a server that did not finish its join, and its parts of pools and networks; no member is one."""
        found = rules.member(draft, number)
        if found is not None and found.phase == "joining":
            rules.remove(draft, found)
            self._node.storage.remove_member(draft, number)
            self._node.networks.remove_member(draft, number)

    # A member that lost its store

    async def refetch(self, number: int) -> Refetching:
        """Records that a member lost its store; it may begin anew from what is answered on."""
        node = self._node
        await node.store.transact(
            lambda draft: rules.forget_vote(draft, number), author=f"member:{number}", request="store lost"
        )
        identity = msgspec.structs.replace(node.log.identity, member=number)
        return Refetching(identity, node.log.status().term, node.log.state.index)

    # Joining: this server's side

    async def join(self, wanted: Wanted, author: str) -> Operation:
        """Checks a request to join and starts it. Invalid with LXD's words (spec/clustering.md 3.2)."""
        node = self._node
        if not wanted.cluster_certificate:
            raise Invalid("No target cluster node certificate provided")
        join = Join(node, wanted, await self._own_addresses(wanted.address, author))

        async def run(_operation: Operation) -> None:
            if self._join is not None or rules.is_clustered(node.store.view()):
                raise NodeError("the node is already part of a cluster")
            self._check_empty()
            self._join = join
            try:
                await join.run()
            finally:
                self._join = None

        return node.operations.create(
            kind="task", description="Joining cluster", run=run, resources={"cluster": []}, author=author
        )

    async def _own_addresses(self, wanted: str, author: str) -> dict[str, str]:
        """The settings that say where this server is reached when it joins; the wanted address becomes one of them, and
        is opened, when there is none yet, or only a wildcard that covers it."""
        node = self._node
        config = node.settings.all()
        current, own, address = config.get(ADDRESS, ""), config.get(CLUSTER_ADDRESS, ""), with_port(wanted)
        known = own or current
        if not known and not address:
            raise Invalid("No core.https_address config key is set on this node")
        if address and address != known:
            key = CLUSTER_ADDRESS if known else ADDRESS
            if own or (current and not covers(current, address)):
                raise Invalid(f"A different {key if own else ADDRESS} is already set on this node")
            await node.configure({key: address}, replace=False, author=author, request="PUT /1.0/cluster")
        return node.settings.addresses()

    def _check_empty(self) -> None:
        """A joining server brings nothing: its containers and images would be lost."""
        view = self._node.store.view()
        containers = [record.name for _id, record in view.all(CONTAINERS)]
        images = self._node.images.fingerprints(view)
        if containers or images:
            kept = [f"containers: {', '.join(containers)}"] if containers else []
            kept += [f"images: {', '.join(images)}"] if images else []
            raise Invalid(f"This server still has {' and '.join(kept)}. Delete them, then join")

    # Leaving

    async def remove(self, name: str, force: bool, author: str) -> None:
        """Takes a member out: it gives up its vote, its document ends its rights, and it is told to reset itself."""
        node = self._node
        await node.store.barrier()
        view = node.store.view()
        leaving = rules.named(view, name)
        if not force:
            containers = [record.name for _id, record in view.all(CONTAINERS) if record.member == leaving.number]
            rules.check_removable(view, leaving, sorted(containers), node.images.only_on(view, leaving.number))
            node.storage.check_removable(view, leaving.number)
        await node.store.transact(
            lambda draft: rules.set_phase(draft, leaving.number, "leaving"), author=author, request="remove member"
        )
        await self._until(lambda: not self._votes(leaving.number), f"{name} did not give up its vote")

        def rule(draft: Draft) -> None:
            rules.remove(draft, leaving)
            node.storage.remove_member(draft, leaving.number)
            node.networks.remove_member(draft, leaving.number)
            node.images.remove_member(draft, leaving.number)
            node.containers.remove_member(draft, leaving.number)

        reset = None if force else await self._connect(leaving)
        await node.store.transact(rule, author=author, request="remove member")
        if reset is not None:
            await self._tell_reset(leaving, reset)

    def _votes(self, number: int) -> bool:
        found = rules.member(self._node.store.view(), number)
        return found is not None and found.voter

    async def _connect(self, leaving: Member) -> trio.abc.Stream:
        """A connection to the leaving member, made while it still takes part."""
        try:
            return await self._node.peers.connect(leaving.number)
        except Unavailable as error:
            raise Unavailable(f"{error}. Remove it with force if it is gone for good") from error

    async def _tell_reset(self, leaving: Member, stream: trio.abc.Stream) -> None:
        try:
            (await request(stream, "PUT", "/1.0/cluster", {"enabled": False})).metadata()
        except NodeError as error:
            log.warning("a removed member did not reset itself", member=leaving.name, error=str(error))
        finally:
            await trio.aclose_forcefully(stream)

    async def leave(self) -> None:
        """Makes this server one of its own again, with nothing in it. The cluster is not told: it told us."""
        if not rules.is_clustered(self._node.store.view()):
            raise Invalid("This server is not in a cluster")
        async with self._node.locks.hold("cluster", "leave"):
            # Who removed this member asks it to leave, and the others' logs tell it as well.
            if rules.is_clustered(self._node.store.view()):
                await self._leave()

    async def _leave(self) -> None:
        node = self._node
        await node.storage.remove_own()
        await node.networks.remove_own()
        fresh = await node.sessions.fresh(node.own, node.settings.addresses())
        await node.sessions.adopt(fresh)
        node.become(fresh.log, FIRST)
        keypair.remove(node.directory, "cluster")
        node.show(node.own)
        node.sessions.follow()
        node.sessions.forget()

    async def heed_removal(self, own: Log) -> None:
        """Leaves the cluster once the others say that this is no member any more: whoever removed it may have died
        before it could ask for that. A member that holds what nobody else has stays as it is, for somebody to look."""
        if not await own.removal():
            return
        kept = self._held()
        if kept:
            log.error("this server was removed from its cluster, and keeps what only it has", kept=kept)
            return
        log.warning("this server was removed from its cluster: it is one of its own again")
        # Not in this task, which ends with the log that is left.
        self._node.operations.create(kind="task", description="Leaving cluster", run=lambda _operation: self.leave())

    def _held(self) -> list[str]:
        """Containers and volumes of this member, those included that no document speaks of any more."""
        node, view = self._node, self._node.store.view()
        found = [record.name for _id, record in view.all(CONTAINERS) if record.member == node.member]
        return sorted({*found, *node.storage.custom_volumes(view, node.member), *node.storage.unknown(view)})

    # Raft

    async def serve_raft(self, stream: trio.abc.Stream, peer: Peer) -> None:
        """Takes a stream of a member for the log; of anybody else it is closed."""
        try:
            await self._serve_raft(stream, peer)
        except BROKEN as error:
            # Who dialled may be gone, or be a member of another epoch; it tries again if it likes.
            log.info("a member's stream ended", address=peer.address, error=str(error))

    async def _serve_raft(self, stream: trio.abc.Stream, peer: Peer) -> None:
        join = self._join
        number = join.number_of(peer.fingerprint) if join is not None else 0
        if join is not None and number:
            await join.serve_raft(stream, number)
            return
        trust = self._node.trust
        if peer.fingerprint and (number := trust.member_of(peer.fingerprint)):
            await self._node.log.serve(stream, number)
        elif peer.fingerprint and (number := trust.former_member_of(peer.fingerprint)):
            await self._node.log.dismiss(stream, number)
        else:
            log.warning("a stream of no member was refused", address=peer.address, fingerprint=peer.fingerprint)

    async def _until(self, condition: Callable[[], bool], words: str) -> None:
        """Waits until applied documents make a condition true. Unavailable with `words` after LEAVE_LIMIT seconds."""
        async with self._node.log.watch(MEMBERS.name) as changes:
            with trio.move_on_after(LEAVE_LIMIT):
                while not condition():
                    await anext(changes)
                return
        raise Unavailable(f"{words} within {LEAVE_LIMIT:g} s; try again")
