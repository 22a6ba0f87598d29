"""XSalsa20 and Poly1305, by PyNaCl (pkg/storage/value/encrypt/secretbox). The key in the store is not authenticated."""

from __future__ import annotations

import os

from podling.apiserver.encryption.transformer import Opened, TransformError

_NONCE = 24
_OVERHEAD = 16


class Secretbox:
    """Raises TransformError if PyNaCl is not installed."""

    def __init__(self, key: bytes, label: str) -> None:
        try:
            from nacl.secret import SecretBox
        except ImportError:
            raise TransformError("secretbox needs PyNaCl: pip install podling[secretbox]") from None
        self._box = SecretBox(key)
        self.label = label
        self.labels = frozenset({label})

    async def open(self, data: bytes, context: bytes) -> Opened:
        from nacl.exceptions import CryptoError

        if len(data) < _OVERHEAD + _NONCE:
            raise TransformError("the stored data was shorter than the required size")
        try:
            return Opened(self._box.decrypt(data), self.label)
        except CryptoError:
            # Upstream's words for a wrong key.
            raise TransformError("output array was not large enough for encryption") from None

    def seal(self, value: bytes, context: bytes) -> bytes:
        return bytes(self._box.encrypt(value, os.urandom(_NONCE)))
