"""On which member a new container is made (spec/clustering.md 6).

Owns that choice; refuses to send the request there (`api/forward.py` does)."""

from collections import Counter
from typing import TYPE_CHECKING

from lxdnode.node.cluster import rules as cluster
from lxdnode.node.containers.records import CONTAINERS, SNAPSHOTS
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError, NotFound

if TYPE_CHECKING:
    from lxdnode.node.node import Node


def choose(view: View, node: "Node", target: str, forwarded: bool) -> int:
    """The number of the member: the one named `target`, else of those online the one with the fewest containers
    and snapshots (pending ones count). A request that another member sent here stays here. NodeError for an unknown
    target."""
    if target:
        try:
            return cluster.named(view, target).number
        except NotFound:
            raise NodeError(f"No cluster member called '{target}'") from None
    if forwarded:
        return node.member
    held = Counter(container.member for _, container in view.all(CONTAINERS))
    for id in view.state.groups(SNAPSHOTS.name):
        if container := view.get(CONTAINERS, id):
            held[container.member] += len(view.documents(SNAPSHOTS.name, id))
    online = {member.number for member in node.cluster.online()} or {node.member}
    return min(online, key=lambda number: (held[number], number))
