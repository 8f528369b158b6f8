"""Who asks, and whether to trust them (spec/security.md 3).

Owns the judgement of a connection; refuses transport (the listener says who is at the other end)."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cryptography import x509

from lxdnode.node.certificates.records import CERTIFICATES
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.store import Store

NOTIFIER = "lxd-cluster-notifier"
AUTHOR_HEADER = "x-lxd-node-author"
"""Names the user on whose behalf a member asks; believed from members only, and adds no rights."""


@dataclass(frozen=True)
class Peer:
    """The other end of a connection: a process on the unix socket (uid, gid, pid), or a TLS client, with the
    fingerprint and DER of its certificate if it showed one, and its address."""

    kind: Literal["unix", "tls"]
    fingerprint: str | None = None
    certificate: bytes | None = None
    address: str = ""
    uid: int = -1
    gid: int = -1
    pid: int = 0


@dataclass(frozen=True)
class Caller:
    """Who a request is from: `author` for the history, `member` the number of the member that sent it or 0."""

    trusted: bool
    author: str
    peer: Peer
    member: int = 0


class Trust:
    """Judges connections by what this member has applied: no barrier, so that nobody waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def judge(self, peer: Peer, headers: Mapping[str, str]) -> Caller:
        """The caller of a request. `headers` has lower-case names."""
        member = self._member(peer)
        if member:
            return Caller(True, headers.get(AUTHOR_HEADER, f"member:{member}"), peer, member)
        if headers.get("user-agent") == NOTIFIER:
            return Caller(False, "", peer)
        if peer.kind == "unix":
            return Caller(True, f"unix:{peer.uid}", peer)
        if peer.fingerprint is None or not self._is_client(peer):
            return Caller(False, "", peer)
        return Caller(True, f"certificate:{peer.fingerprint}", peer)

    def member_of(self, fingerprint: str) -> int:
        """The number of the member that owns a key, joining ones included; 0 for any other."""
        for _id, member in self._store.view().all(MEMBERS):
            if member.fingerprint == fingerprint and member.phase != "removed":
                return member.number
        return 0

    def _member(self, peer: Peer) -> int:
        return self.member_of(peer.fingerprint) if peer.fingerprint else 0

    def _is_client(self, peer: Peer) -> bool:
        assert peer.fingerprint is not None and peer.certificate is not None
        if self._store.view().get(CERTIFICATES, peer.fingerprint) is None:
            return False
        certificate = x509.load_der_x509_certificate(peer.certificate)
        now = datetime.datetime.now(datetime.UTC)
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
