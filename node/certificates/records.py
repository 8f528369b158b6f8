"""What is replicated of a trusted client certificate; its id is its fingerprint."""

from lxdnode.node.documents import Record, Table


class Certificate(Record, frozen=True):
    """`(certificates, "", FINGERPRINT)`. `certificate` is PEM; the fingerprint is the SHA-256 of its DER, in hex."""

    name: str
    certificate: str
    type: str = "client"


CERTIFICATES = Table("certificates", Certificate)
