"""Raises the cluster's level when the programs of all members can apply it: made by whoever leads.

Owns when to look, and the words in the log; the rule is in `rules.py`."""

import structlog
import trio

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import common_level, raise_level
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError
from lxdnode.node.node import Node
from lxdnode.raft.log import Log

log = structlog.get_logger(__name__)

_AGAIN = 0.5
"""Seconds until the next attempt when one has failed."""


async def keep(node: Node, own: Log) -> None:
    """Raises the level whenever that is due and this member leads, until cancelled."""
    async with own.watch(MEMBERS.name) as changes:
        while True:
            await own.leading()
            if common_level(View(own.state)) <= own.state.level:
                await anext(changes)
                continue
            try:
                await node.store.transact(raise_level, author="leader", request="raise level")
            except NodeError as error:
                # The lead or the quorum was lost meanwhile: who leads next goes on.
                log.info("level not raised", error=str(error))
                await trio.sleep(_AGAIN)
            else:
                log.info("the cluster speaks another level: older members must be upgraded now", level=own.state.level)
