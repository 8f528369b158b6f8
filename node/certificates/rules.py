"""What may be written about trusted certificates (spec/security.md 4, spec/rest.md 2)."""

import base64
import binascii
import ssl

from cryptography import x509

from lxdnode.node.certificates.records import CERTIFICATES, Certificate
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid, NotFound
from lxdnode.node.fingerprint import fingerprint_of


def check_type(kind: str) -> None:
    """Only client certificates exist."""
    if kind != "client":
        raise Invalid(f"Unknown request type {kind}")


def decode(text: str) -> bytes:
    """The DER of a certificate given as base64, also in lines, as pylxd sends it. Invalid when it is none."""
    try:
        der = base64.b64decode("".join(text.splitlines()), validate=True)
    except binascii.Error as error:
        raise Invalid(f"illegal base64 data in certificate: {error}") from None
    try:
        x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise Invalid(f"invalid certificate material: {error}") from None
    return der


def find(view: View, prefix: str, missing: str = "not found") -> tuple[str, Certificate]:
    """(fingerprint, record) of the certificate whose fingerprint begins with `prefix`. NotFound with `missing`."""
    exact = view.get(CERTIFICATES, prefix)
    if exact is not None:
        return prefix, exact
    found = [item for item in view.all(CERTIFICATES) if item[0].startswith(prefix)]
    if not prefix or not found:
        raise NotFound(missing)
    if len(found) > 1:
        raise Invalid(f"Partial fingerprint {prefix} matches more than one certificate, give more digits")
    return found[0]


def add(draft: Draft, der: bytes, name: str) -> str:
    """Trusts a certificate; returns its fingerprint."""
    fingerprint = fingerprint_of(der)
    if draft.get(CERTIFICATES, fingerprint) is not None:
        raise Invalid("Certificate already in trust store")
    draft.put(CERTIFICATES, fingerprint, Certificate(name=name, certificate=ssl.DER_cert_to_PEM_cert(der)))
    return fingerprint


def change(draft: Draft, fingerprint: str, name: str | None, kind: str | None) -> None:
    """Renames a certificate; a field that is None stays."""
    full, record = find(draft, fingerprint)
    if kind is not None:
        check_type(kind)
    draft.put(
        CERTIFICATES,
        full,
        Certificate(name=record.name if name is None else name, type="client", certificate=record.certificate),
    )


def remove(draft: Draft, fingerprint: str) -> str:
    """Ends the trust in a certificate; returns its full fingerprint."""
    full, _record = find(draft, fingerprint)
    draft.delete(CERTIFICATES, full)
    return full
