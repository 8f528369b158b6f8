"""TLS for servers, as LXD wants it: every client certificate gets through, and is judged later by its fingerprint.

Owns the context of pyOpenSSL (the standard `ssl` refuses self-signed client certificates during the handshake) and
which protocol is chosen; refuses to decide who is trusted. The stream is `node/tls.py`."""

from collections.abc import Sequence
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from lxdnode.node.keypair import KeyPair

RAFT = b"lxd-node-raft/1"
HTTP = b"http/1.1"
_CIPHERS = (
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)


def make_context(pair: KeyPair, authority: str | None = None) -> SSL.Context:
    """The context of servers that show `pair`: TLS 1.2 or later, a client certificate asked for but not required.

    `authority` (PEM) is the CA of PKI mode, which clients are told so that they choose a certificate of it."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # A resumed session would carry a client's certificate past a change of the trust store's server key.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    first, *others = x509.load_pem_x509_certificates(pair.certificate.encode())
    context.use_certificate(first)
    for certificate in others:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(cast(EllipticCurvePrivateKey, load_pem_private_key(pair.key.encode(), None)))
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_alpn_select_callback(_choose)
    if authority is not None:
        context.add_client_ca(x509.load_pem_x509_certificate(authority.encode()))
    return context


def _choose(_connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """The first protocol that we speak; a client that offers only others goes on without ALPN, as HTTP/1.1."""
    for protocol in (RAFT, HTTP):
        if protocol in offered:
            return protocol
    return SSL.NO_OVERLAPPING_PROTOCOLS  # type: ignore[return-value]


def is_signed(certificate: bytes, authority: str) -> bool:
    """Whether a certificate (DER), which may be anything, was issued by the CA (PEM)."""
    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.encode())
        )
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        return False
    return True
