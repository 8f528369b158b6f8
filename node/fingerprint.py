"""Fingerprints of certificates: SHA-256 of the DER bytes in lower-case hex, as LXD shows them."""

import hashlib
import ssl


def fingerprint_of(der: bytes) -> str:
    """The fingerprint of a certificate in DER form."""
    return hashlib.sha256(der).hexdigest()


def fingerprint_of_pem(pem: str) -> str:
    """The fingerprint of a certificate in PEM form. ValueError when it is none."""
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(pem))
