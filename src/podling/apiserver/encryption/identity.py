"""The provider that does not encrypt; it refuses what is encrypted (pkg/storage/value/encrypt/identity)."""

from __future__ import annotations

from podling.apiserver.encryption.transformer import ENCRYPTED, Opened, TransformError

LABEL = "identity"


class Identity:
    label = LABEL
    labels = frozenset({LABEL})

    async def open(self, data: bytes, context: bytes) -> Opened:
        if data.startswith(ENCRYPTED):
            raise TransformError("identity transformer tried to read encrypted data")
        return Opened(data, LABEL)

    def seal(self, value: bytes, context: bytes) -> bytes:
        return value
