"""Says in the log when the clock of a member is wrong, while this member leads.

Owns the bound; raft measures, and nothing in the cluster is decided by a clock of the wall."""

from collections.abc import Mapping

import structlog
import trio

from lxdnode.node.cluster.rules import name_of
from lxdnode.node.documents import View
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

LIMIT = 1.0
"""Seconds that two clocks may differ: certificates, expiry and what people read of times go by them."""
LOOK = 1.0
"""Seconds between two looks: a clock that goes wrong makes no event."""


def wrong(skews: Mapping[int, float]) -> dict[int, str]:
    """The members whose clocks differ too much from the leader's, with how far, in words."""
    beyond = {number: skew for number, skew in skews.items() if abs(skew) > LIMIT}
    return {number: f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'}" for number, skew in beyond.items()}


async def keep(own: Log) -> None:
    """Warns once each time that a clock goes wrong, until cancelled."""
    known: set[int] = set()
    while True:
        await own.leading()
        await trio.sleep(LOOK)
        found = wrong(own.skews())
        for number in found.keys() - known:
            name = name_of(View(own.state), number)
            log.warning("a member's clock is wrong", member=name, clock=f"{found[number]} the leader's")
        known = set(found)
