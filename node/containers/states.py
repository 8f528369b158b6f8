"""How the containers of all members are now: each member is asked for its own, all at the same time (container_full).

Owns who is asked and for how long; refuses to measure (`state.py` does)."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import structlog
import trio

from lxdnode.drivers.errors import DriverError
from lxdnode.node.containers import state
from lxdnode.node.containers.expansion import expand
from lxdnode.node.containers.records import CONTAINERS
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError

if TYPE_CHECKING:
    from lxdnode.node.node import Node

log = structlog.get_logger(__name__)

PATH = "/internal/containers/states"
ASK_LIMIT = 2.0
"""Seconds after which a list goes out without the states of a member."""
States = dict[str, Any]
"""State objects by the ids of their containers."""


async def here(node: "Node", view: View) -> States:
    """The states of the containers of this member; one that ends just now is left out."""
    found: States = {}

    async def read(id: str) -> None:
        try:
            found[id] = await state.read(node, expand(view, id))
        except (OSError, DriverError, NodeError) as error:
            log.info("state of a container is left out", container=id, error=str(error))

    async with trio.open_nursery() as nursery:
        for id, container in view.all(CONTAINERS):
            if container.member == node.member:
                nursery.start_soon(read, id)
    return found


async def of_members(node: "Node", view: View, members: Collection[int]) -> dict[int, States]:
    """The states on each member that answers within ASK_LIMIT; one that was not heard lately is not asked."""
    found: dict[int, States] = {}

    async def ask(number: int) -> None:
        try:
            found[number] = (await node.peers.request(number, "GET", PATH)).metadata()
        except NodeError as error:
            log.warning("states of a member are left out", member=number, error=str(error))

    async def read_here() -> None:
        found[node.member] = await here(node, view)

    with trio.move_on_after(ASK_LIMIT):
        async with trio.open_nursery() as nursery:
            for number in set(members) & node.cluster.reachable() - {node.member}:
                nursery.start_soon(ask, number)
            if node.member in members:
                nursery.start_soon(read_here)
    return found
