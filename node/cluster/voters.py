"""Keeps the voters as many and as reachable as wanted: one step at a time, made by whoever leads.

Owns when to look and the transaction; which step is next is `raft/membership.py`'s."""

from functools import partial

import msgspec
import structlog
import trio

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import member
from lxdnode.node.documents import Draft
from lxdnode.node.errors import NodeError
from lxdnode.node.node import Node
from lxdnode.raft import membership
from lxdnode.raft.errors import LogError
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

LOOK = 0.5
"""Seconds between two looks, when no member's document changes: liveness is a clock's matter, there is no event for a
member that stays away, and who leads has to hear the others first."""
REPLACE_AFTER = 10.0
"""Seconds after which a voter that is not heard is replaced; a restart must not cost it its vote."""
PROMOTE_WITHIN = 1.0
"""Seconds within which a spare must have been heard to get a vote."""
JOIN_LIMIT = 60.0
"""Seconds after which a join whose server is not heard is forgotten."""
AUTHOR, REQUEST = "leader", "voters"


async def keep(node: Node, own: Log) -> None:
    """Makes the next change whenever this member leads, until cancelled."""
    async with own.watch(MEMBERS.name) as changes:
        while True:
            await own.leading()
            with trio.move_on_after(LOOK):
                await anext(changes)
            try:
                await _step(node, own)
            except (NodeError, LogError) as error:
                # The lead or the quorum was lost meanwhile: who leads next goes on.
                log.info("voters not changed", error=str(error))


async def _step(node: Node, own: Log) -> None:
    """Makes the changes that are due, one right after the other: between two promotions an even number votes, and the
    loss of one member more than before would cost the quorum."""
    while (change := membership.plan(own.state, *_situation(node, own), node.member)) is not None:
        if isinstance(change, membership.HandOver):
            await own.hand_over()
            break
        await node.store.transact(partial(_vote, change=change), author=AUTHOR, request=REQUEST)
    for number in [number for number, age in own.liveness().items() if age > JOIN_LIMIT]:
        await node.store.transact(partial(node.cluster.forget_join, number=number), author=AUTHOR, request=REQUEST)


def _situation(node: Node, own: Log) -> tuple[int, set[int], frozenset[int]]:
    """How many voters are wanted, who is there, and who holds the log. Who shall get a vote must be linked and heard
    just now: a vote for one that has just died would cost the quorum. Who has one may be away for a restart."""
    status, ages = own.status(), own.liveness()
    present = {number for number in status.connected if ages.get(number, PROMOTE_WITHIN) < PROMOTE_WITHIN}
    patient = {number for number in status.members.voters if ages.get(number, REPLACE_AFTER) < REPLACE_AFTER}
    return node.settings.number("cluster.max_voters"), present | patient, own.caught_up_members()


def _vote(draft: Draft, change: membership.VoteChange) -> None:
    found = member(draft, change.member)
    if found is not None and found.voter != change.voter:
        draft.put(MEMBERS, str(change.member), msgspec.structs.replace(found, voter=change.voter))
