"""`?target=MEMBER`: which member a request is meant for (spec/clustering.md 5).

Owns the names that it takes; refuses to send the request there (`api/forward.py` does)."""

from lxdnode.api.route import Call
from lxdnode.node.cluster.records import STANDALONE
from lxdnode.node.cluster.rules import is_clustered, members
from lxdnode.node.documents import View
from lxdnode.node.errors import NodeError


def target_of(call: Call, view: View) -> int | None:
    """The number of the member that `?target` names, or None without it. NodeError with LXD's words.

    On a server that is not clustered `none` is the server itself."""
    name = call.query.get("target", "")
    if not name:
        return None
    if name == STANDALONE and not is_clustered(view):
        return call.node.member
    for member in members(view):
        if member.name == name:
            return member.number
    raise NodeError(f"No cluster member called '{name}'")


def other_target(call: Call, view: View) -> int | None:
    """The number of another member that `?target` names; None when the request is meant for this one."""
    number = target_of(call, view)
    return None if number == call.node.member else number
