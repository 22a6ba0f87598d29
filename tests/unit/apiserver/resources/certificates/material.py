"""Keys, requests and certificates for tests."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def request(encoding: Encoding = Encoding.PEM) -> str:
    """A signed request, base64."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(_name("alice")).sign(KEY, None)
    return base64_of(csr.public_bytes(encoding))


def certificate(start: datetime, hours: float = 24, *, ca: bool | None = None, key: Ed25519PrivateKey = KEY) -> str:
    """PEM, issued to `key`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name("alice"))
        .issuer_name(_name("ca"))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(hours=hours))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(OTHER_KEY, None).public_bytes(Encoding.PEM).decode()
