"""Key pairs that are good for a chosen time, or are not: what a server with a good clock would never make."""

import datetime
import ipaddress
import ssl
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lxdnode.node.keypair import KeyPair, make


def pair_until(days: float, weak: bool = False) -> KeyPair:
    """A pair whose certificate expires in so many days, or has expired; a `weak` key is one that TLS refuses."""
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
    if weak:
        private = rsa.generate_private_key(65537, 1024)
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"until {until:%Y-%m-%d}")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - datetime.timedelta(days=365))
        .not_valid_after(until)
        .sign(private, hashes.SHA256())
    )
    return _pair(made, private)


def pair_of_odd_version() -> KeyPair:
    """A pair whose certificate OpenSSL takes and `cryptography` refuses to read: its version is none that exists."""
    pair = make()
    der = bytearray(pair.der)
    version = der.index(bytes([0xA0, 3, 2, 1, 2])) + 4
    der[version] = 3  # so the signature is wrong as well, which nobody looks at
    return KeyPair(ssl.DER_cert_to_PEM_cert(bytes(der)), pair.key)


def issued(authority: KeyPair, address: str = "127.0.0.1") -> KeyPair:
    """A pair whose certificate another one has signed, for a server at `address` or for a client."""
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    key = ec.generate_private_key(ec.SECP384R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder(issuer.subject, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issued")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(names, critical=False)
        .sign(_private(authority), hashes.SHA384())
    )
    return _pair(made, key)


def authority() -> KeyPair:
    """A pair that may sign others."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA384())
    )
    return _pair(made, key)


def _private(pair: KeyPair) -> ec.EllipticCurvePrivateKey:
    return cast(ec.EllipticCurvePrivateKey, serialization.load_pem_private_key(pair.key.encode(), None))


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> KeyPair:
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(certificate.public_bytes(serialization.Encoding.PEM).decode(), text.decode())
