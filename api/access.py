"""Who may call what: the trust decision of a request, and whose request it is when a member passes it on.

Owns the order of checks in front of a handler (spec/security.md 3) and the identity headers between members; refuses
to know certificates: `node.trust` judges them."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from lxdnode.node.callers import Caller, Peer
from lxdnode.node.errors import Forbidden

AUTHOR = "x-lxd-node-author"
"""Whose request a member passes on; believed from members only."""
GUEST = "x-lxd-node-guest"
"""Set when that client is not trusted."""


class Trust(Protocol):
    """What the node must offer: the trusted caller behind a connection, or None (spec/security.md 3, steps 1 to 6).

    `headers` has lower-case names. It must be quick (each request asks) and needs no barrier (DESIGN.md 3.6)."""

    def judge(self, peer: Peer, headers: Mapping[str, str]) -> Caller | None: ...


def identify(trust: Trust, peer: Peer, headers: Mapping[str, str]) -> Caller:
    """Who asks; untrusted when nobody vouches. A member's request may carry its client's identity."""
    caller = trust.judge(peer, headers)
    if caller is None:
        return Caller(peer=peer)
    if caller.member is None or AUTHOR not in headers:
        return caller
    return msgspec.structs.replace(caller, author=headers[AUTHOR], trusted=GUEST not in headers)


def identity_headers(caller: Caller) -> list[tuple[bytes, bytes]]:
    """What tells another member whose request it gets."""
    headers = [(AUTHOR.encode(), caller.author.encode())]
    return headers if caller.trusted else [*headers, (GUEST.encode(), b"1")]


def admit(caller: Caller, headers: Mapping[str, str], guest: bool) -> None:
    """Forbidden unless the caller is trusted, or the route is open and the client does not think that it is trusted."""
    if caller.trusted:
        return
    if not guest or headers.get("x-lxd-authenticated"):
        raise Forbidden
