"""Key pairs of a member: `server.crt`/`.key` are its own, `cluster.crt`/`.key` what all members show as servers.

Owns making, checking and keeping them; refuses to decide whom to trust (`trust.py` does)."""

import datetime
import getpass
import ipaddress
import json
import os
import socket
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lxdnode.node.durable import sync_folder
from lxdnode.node.errors import Invalid
from lxdnode.node.fingerprint import fingerprint_of_pem

_YEARS = 10
_WARNED = datetime.timedelta(days=30)
VALID = "valid"


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its key, both PEM."""

    certificate: str
    key: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate's DER, in hex."""
        return fingerprint_of_pem(self.certificate)

    @property
    def der(self) -> bytes:
        """The certificate in DER form."""
        return x509.load_pem_x509_certificate(self.certificate.encode()).public_bytes(serialization.Encoding.DER)


def load(directory: Path, name: str) -> KeyPair | None:
    """The pair NAME.crt and NAME.key of a state directory, or None when it is not there. A `save` that was interrupted
    is finished first."""
    begun = directory / f"{name}.new"
    if begun.exists():
        _place(directory, name, KeyPair(*json.loads(begun.read_text())))
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    if not (certificate.exists() and key.exists()):
        return None
    return KeyPair(certificate.read_text(), key.read_text())


def save(directory: Path, name: str, pair: KeyPair) -> None:
    """Writes a pair durably, the key readable by its owner alone. Both or neither, also in a crash: a certificate
    beside another one's key would not load."""
    _write(directory / f"{name}.new", json.dumps([pair.certificate, pair.key]), 0o600)
    _place(directory, name, pair)


def _place(directory: Path, name: str, pair: KeyPair) -> None:
    _write(directory / f"{name}.key", pair.key, 0o600)
    _write(directory / f"{name}.crt", pair.certificate, 0o644)
    (directory / f"{name}.new").unlink()


def remove(directory: Path, name: str) -> None:
    """Removes a pair; one that is not there is fine."""
    for suffix in ("new", "crt", "key"):
        (directory / f"{name}.{suffix}").unlink(missing_ok=True)


def load_or_make(directory: Path, name: str, addresses: Iterable[str] = ()) -> KeyPair:
    """The pair of a state directory, made at the first start."""
    pair = load(directory, name)
    if pair is None:
        pair = make(addresses)
        save(directory, name, pair)
    return pair


def make(addresses: Iterable[str] = ()) -> KeyPair:
    """A new self-signed pair for servers and clients, valid for ten years (spec/security.md 2).

    P-384 and not LXD's RSA 4096: a handshake costs a tenth, and every client of LXD takes it."""
    key = ec.generate_private_key(ec.SECP384R1())
    host = socket.gethostname()
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "linuxcontainers.org"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{getpass.getuser()}@{host}"[:64]),
        ]
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(host)]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA384())
    )
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def check(certificate: str, key: str) -> KeyPair:
    """The pair that somebody brings, both PEM; the certificate may be a chain. Invalid for what no server can show, or
    no client would take: no PEM, a key of another certificate, a time that is not now, a key that is too weak."""
    try:
        first = x509.load_pem_x509_certificates(certificate.encode())[0]
    except ValueError as error:
        raise Invalid(f"Certificate must be base64 encoded PEM certificate: {error}") from None
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(f"Private key must be base64 encoded PEM key: {error}") from None
    if private.public_key() != first.public_key():
        raise Invalid("The private key does not belong to the certificate")
    now = datetime.datetime.now(datetime.UTC)
    if not first.not_valid_before_utc <= now <= first.not_valid_after_utc:
        since, until = first.not_valid_before_utc, first.not_valid_after_utc
        raise Invalid(f"The certificate is valid from {since:%Y-%m-%d} to {until:%Y-%m-%d}, and not now")
    with tempfile.TemporaryDirectory() as place:
        save(Path(place), "tried", pair := KeyPair(certificate, key))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"{place}/tried.crt", f"{place}/tried.key")
        except ssl.SSLError as error:
            raise Invalid(f"TLS cannot use this certificate: {error.reason or error}") from None
    return pair


def validity(certificate: str) -> str:
    """How long a certificate (PEM) is still good: valid, expired, or from 30 days before `expires in N days`."""
    left = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc - datetime.datetime.now(
        datetime.UTC
    )
    if left < datetime.timedelta():
        return "expired"
    return VALID if left > _WARNED else f"expires in {left.days} days"


def _write(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(path.name + ".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)
