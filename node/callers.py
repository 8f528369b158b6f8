"""Who is at the other end of a connection, and who asks.

Owns the two records that the listener, the trust decision and the routes share; refuses to decide anything
(`node/trust.py` judges, `api/access.py` asks it)."""

from typing import Literal

import msgspec


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other end of one connection, as the listener saw it once.

    `certificate` is the DER of the certificate that the client presented, b"" when it presented none, `fingerprint`
    its SHA-256 in hex. uid, gid and pid come from SO_PEERCRED."""

    kind: Literal["unix", "tls"]
    address: str = ""
    certificate: bytes = b""
    fingerprint: str = ""
    signed: bool = True
    """False in PKI mode for a certificate that the CA did not sign: it makes no trusted client (spec/security.md 5)."""
    uid: int = -1
    gid: int = -1
    pid: int = -1


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `author` is written into the history: `unix:UID`, `certificate:FINGERPRINT` or `member:NUMBER`.

    `member` is the number of the member whose connection this is, None for a client. A request that a member passes
    on keeps the author of its client, and adds no rights to it (DESIGN.md 3.4)."""

    peer: Peer
    trusted: bool = False
    author: str = ""
    member: int | None = None
