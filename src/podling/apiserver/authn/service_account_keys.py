"""The key pair that signs ServiceAccount tokens, and the documents by which others verify them (OpenID Connect)."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey
    PublicKey = EllipticCurvePublicKey | RSAPublicKey


class VerificationKey:
    """A public key with its id: the SHA-256 of its DER form, as upstream derives it."""

    def __init__(self, key: PublicKey) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.key = key
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = _base64url(hashlib.sha256(der).digest())
        self.algorithm = "RS256"
        if isinstance(key, ec.EllipticCurvePublicKey):
            self.algorithm = {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]

    def jwk(self) -> dict[str, str]:
        """RFC 7517."""
        from cryptography.hazmat.primitives.asymmetric import ec

        common = {"use": "sig", "kid": self.id, "alg": self.algorithm}
        numbers = self.key.public_numbers()
        if isinstance(numbers, ec.EllipticCurvePublicNumbers):
            size = (numbers.curve.key_size + 7) // 8
            curve = {256: "P-256", 384: "P-384", 521: "P-521"}[numbers.curve.key_size]
            x, y = _base64url(numbers.x.to_bytes(size, "big")), _base64url(numbers.y.to_bytes(size, "big"))
            return {**common, "kty": "EC", "crv": curve, "x": x, "y": y}
        return {**common, "kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}


def load_private(pem: bytes) -> PrivateKey:
    """The signing key of a PEM file (EC or RSA)."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("a service account signing key must be an EC or RSA key")
    return key


def jwks(keys: list[VerificationKey]) -> bytes:
    """What /openid/v1/jwks serves, as application/jwk-set+json."""
    return json.dumps({"keys": [key.jwk() for key in keys]}, separators=(",", ":")).encode()


def discovery(issuer: str, jwks_uri: str, keys: list[VerificationKey]) -> bytes:
    """What /.well-known/openid-configuration serves, as application/json (OpenID Connect Discovery 1.0)."""
    document: dict[str, Any] = {
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.algorithm for key in keys}),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _integer(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
