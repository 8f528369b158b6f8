"""Going on when the majority is gone for good, and going back to a backup: a new epoch with this member alone.

Owns which survivor may do so, and what the documents of the new epoch say; `raft/recovery.py` makes its files. The
store before is kept beside the new one, so that nothing is lost by a mistake."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import trio

from lxdnode.node.cluster import rules
from lxdnode.node.cluster.records import MEMBERS, Member
from lxdnode.node.containers.records import CONTAINERS
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid, NodeError, PreconditionFailed
from lxdnode.node.node import Node
from lxdnode.raft import recovery
from lxdnode.raft.framing import Damaged
from lxdnode.raft.recovery import Contents, Position

ASK_LIMIT = 4.0
"""Seconds in which the other survivors must say how far their logs reach."""


class Standing(msgspec.Struct):
    """How far a survivor's log reaches."""

    epoch: int
    term: int
    index: int


@dataclass(frozen=True)
class Renewed:
    """What the new epoch was made of: all entries up to `index`; of those above `commit` nobody knows whether they were
    acknowledged. `kept` is where the store before lies, `asked` which survivors were compared."""

    epoch: int
    index: int
    commit: int
    kept: str
    asked: list[str]


class Recovery:
    """What `lxd-node cluster recover`, `backup` and `restore` ask of this member."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def standing(self) -> Standing:
        """How far this member's log reaches, committed or not."""
        position = self._node.log.position()
        return Standing(self._node.log.identity.epoch, position.term, position.index)

    async def recover(self) -> Renewed:
        """Makes this survivor writable. PreconditionFailed, naming it, when another one holds more."""
        node, view = self._node, self._node.store.view()
        if not rules.is_clustered(view):
            raise Invalid("This server is not in a cluster: there is nothing to recover")
        status = node.log.status()
        if status.leader is not None and not status.missing:
            raise Invalid(
                f"The cluster has a majority and {rules.name_of(view, status.leader)} leads: nothing to recover"
            )
        others = [member for member in rules.members(view) if member.number != node.member]
        standings = await self._ask(others)
        self._check_best(standings)
        contents = await trio.to_thread.run_sync(recovery.read, node.directory / "raft")
        return await self._renew(contents, contents.identity.epoch + 1, sorted(member.name for member, _ in standings))

    async def _ask(self, others: list[Member]) -> list[tuple[Member, Standing]]:
        """What those say that can be reached at all."""
        found: list[tuple[Member, Standing]] = []

        async def ask(member: Member) -> None:
            with trio.move_on_after(ASK_LIMIT):
                try:
                    answer = await self._node.peers.request(member.number, "GET", "/internal/cluster/standing")
                    found.append((member, msgspec.convert(answer.metadata(), Standing)))
                except NodeError:
                    # Not to be reached: that it holds less cannot be proven, and the caller is told who was asked.
                    return

        async with trio.open_nursery() as nursery:
            for member in others:
                nursery.start_soon(ask, member)
        return found

    def _check_best(self, standings: list[tuple[Member, Standing]]) -> None:
        own = self.standing()
        for member, other in standings:
            if (other.epoch, Position(other.term, other.index)) > (own.epoch, Position(own.term, own.index)):
                raise PreconditionFailed(
                    f"{member.name} ({member.address}) holds more than this member (index {other.index} of term "
                    f"{other.term} against {own.index} of {own.term}): run lxd-node cluster recover there"
                )

    def back_up(self) -> Iterator[bytes]:
        """All documents as they are now, as one file, in parts."""
        return self._node.log.back_up()

    async def restore(self, data: bytes) -> Renewed:
        """Makes the documents of a backup those of this member, alone. What is on the host and not in the backup stays,
        and is listed as unknown."""
        node = self._node
        try:
            contents = await trio.to_thread.run_sync(recovery.read_backup, data)
        except Damaged as error:
            raise Invalid(str(error)) from error
        own = node.log.identity
        if contents.identity.cluster != own.cluster and any(True for _ in node.store.view().all(CONTAINERS)):
            raise Invalid(
                "The backup is of another cluster, and this server has containers: restore it on an empty one"
            )
        known = rules.member(View(contents.state), node.member)
        if known is None or known.phase not in ("member", "leaving"):
            raise Invalid(
                f"The backup knows no member with the number of this one ({node.member}): restore it on another"
            )
        contents = replace(contents, identity=msgspec.structs.replace(contents.identity, member=node.member))
        return await self._renew(contents, max(own.epoch, contents.identity.epoch) + 1, [])

    async def _renew(self, contents: Contents, epoch: int, asked: list[str]) -> Renewed:
        """Begins the new epoch and makes it this member's store."""
        node = self._node
        draft = Draft(contents.state)
        self._survive(draft)
        change = draft.transaction("recovery", f"epoch {epoch}", node.member)
        session = await node.sessions.begin(lambda target: recovery.renew(target, contents, epoch, change))
        await node.sessions.adopt(session)
        kept = node.sessions.keep(f"raft.before-epoch-{epoch}")
        node.become(session.log, node.member)
        node.sessions.follow()
        return Renewed(epoch, contents.position.index, contents.commit, str(kept), asked)

    def _survive(self, draft: Draft) -> None:
        """This member is the only one; what the others had goes from the documents as if they were removed by force."""
        for _id, member in list(draft.all(MEMBERS)):
            if member.number == self._node.member:
                draft.put(MEMBERS, str(member.number), msgspec.structs.replace(member, phase="member", voter=True))
            elif member.phase != "removed":
                rules.remove(draft, member)
                for noun in (self._node.storage, self._node.networks, self._node.images, self._node.containers):
                    noun.remove_member(draft, member.number)
