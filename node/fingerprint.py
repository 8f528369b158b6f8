"""Fingerprints of certificates: SHA-256 of the DER bytes in lower-case hex, as LXD shows them."""

import hashlib
import ssl


def fingerprint_of(der: bytes) -> str:
    """The fingerprint of a certificate in DER form."""
    return hashlib.sha256(der).hexdigest()


def fingerprint_of_pem(pem: str) -> str:
    """The fingerprint of a certificate in PEM form, the first one of a chain. ValueError when it is none."""
    end = pem.find(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return fingerprint_of(ssl.PEM_cert_to_DER_cert(pem[:end]))
