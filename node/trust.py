"""Who asks, and whether to trust them (spec/security.md 3).

Owns the judgement of a connection; refuses transport (the listener says who is at the other end)."""

import datetime
from collections.abc import Mapping

from cryptography import x509

from lxdnode.node.callers import Caller, Peer
from lxdnode.node.certificates.records import CERTIFICATES
from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.store import Store

NOTIFIER = "lxd-cluster-notifier"


class Trust:
    """Judges connections by what this member has applied: no barrier, so that nobody waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def judge(self, peer: Peer, headers: Mapping[str, str]) -> Caller | None:
        """The trusted caller behind a connection, or None. `headers` has lower-case names."""
        member = self.member_of(peer.fingerprint) if peer.fingerprint else 0
        if member:
            return Caller(peer=peer, trusted=True, author=f"member:{member}", member=member)
        if headers.get("user-agent") == NOTIFIER:
            return None
        if peer.kind == "unix":
            return Caller(peer=peer, trusted=True, author=f"unix:{peer.uid}")
        if not peer.fingerprint or not self._is_client(peer):
            return None
        return Caller(peer=peer, trusted=True, author=f"certificate:{peer.fingerprint}")

    def member_of(self, fingerprint: str) -> int:
        """The number of the member that owns a key, joining ones included; 0 for any other."""
        for _id, member in self._store.view().all(MEMBERS):
            if fingerprint in (member.fingerprint, member.next_fingerprint) and member.phase != "removed":
                return member.number
        return 0

    def former_member_of(self, fingerprint: str) -> int:
        """The last number of the removed member that owned a key; 0 for any other."""
        removed = (member for _id, member in self._store.view().all(MEMBERS) if member.phase == "removed")
        return max((member.number for member in removed if member.fingerprint == fingerprint), default=0)

    def _is_client(self, peer: Peer) -> bool:
        if not peer.signed or self._store.view().get(CERTIFICATES, peer.fingerprint) is None:
            return False
        certificate = x509.load_der_x509_certificate(peer.certificate)
        now = datetime.datetime.now(datetime.UTC)
        return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
