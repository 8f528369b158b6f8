"""Bodies of /1.0/certificates (spec/security.md 4)."""

import msgspec


class CertificatesPost(msgspec.Struct):
    """`certificate` is base64 of DER; without it the one of the TLS connection is added."""

    type: str = ""
    name: str = ""
    certificate: str = ""
    password: str = ""


class CertificatePut(msgspec.Struct):
    """PUT, and PATCH where a field that is absent stays."""

    name: str | None = None
    type: str | None = None


class Certificate(msgspec.Struct):
    """A trusted certificate; `certificate` is PEM."""

    name: str
    type: str
    certificate: str
    fingerprint: str
