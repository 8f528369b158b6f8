"""Key pairs that are good for a chosen time, or are not: what a server with a good clock would never make."""

import datetime
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
    key = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(cast(bytes, made.public_bytes(serialization.Encoding.PEM)).decode(), key.decode())


def pair_of_odd_version() -> KeyPair:
    """A pair whose certificate OpenSSL takes and `cryptography` refuses to read: its version is none that exists."""
    pair = make()
    der = bytearray(pair.der)
    version = der.index(bytes([0xA0, 3, 2, 1, 2])) + 4
    der[version] = 3  # so the signature is wrong as well, which nobody looks at
    return KeyPair(ssl.DER_cert_to_PEM_cert(bytes(der)), pair.key)
