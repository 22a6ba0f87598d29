"""AES: GCM, which authenticates, CBC, which does not, and GCM with a key of its own for each value
(pkg/storage/value/encrypt/aes)."""

from __future__ import annotations

import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from podling.apiserver.encryption.transformer import Opened, TransformError

_BLOCK = 16
_NONCE = 12
#: Bytes of a seed, of what a key is derived with, and of that key.
SEED = 32

_SHORT = "the stored data was shorter than the required size"


class Gcm:
    """A random nonce, then the ciphertext with its tag."""

    def __init__(self, key: bytes, label: str) -> None:
        self._cipher = AESGCM(key)
        self.label = label
        self.labels = frozenset({label})

    async def open(self, data: bytes, context: bytes) -> Opened:
        return Opened(gcm_open(self._cipher, data, context), self.label)

    def seal(self, value: bytes, context: bytes) -> bytes:
        return gcm_seal(self._cipher, value, context)


class Cbc:
    """A random initialization vector, then the padded ciphertext. `context` is not authenticated."""

    def __init__(self, key: bytes, label: str) -> None:
        self._algorithm = algorithms.AES(key)
        self.label = label
        self.labels = frozenset({label})

    async def open(self, data: bytes, context: bytes) -> Opened:
        if len(data) < _BLOCK:
            raise TransformError(_SHORT)
        vector, body = data[:_BLOCK], data[_BLOCK:]
        if len(body) % _BLOCK:
            raise TransformError("the stored data is not a multiple of the block size")
        if not body:
            raise TransformError("invalid PKCS7 data (empty or not padded)")
        decryptor = Cipher(self._algorithm, modes.CBC(vector)).decryptor()
        plain = decryptor.update(body) + decryptor.finalize()
        unpadder = padding.PKCS7(8 * _BLOCK).unpadder()
        try:
            return Opened(unpadder.update(plain) + unpadder.finalize(), self.label)
        except ValueError:
            raise TransformError("invalid padding on input") from None

    def seal(self, value: bytes, context: bytes) -> bytes:
        vector = os.urandom(_BLOCK)
        padder = padding.PKCS7(8 * _BLOCK).padder()
        encryptor = Cipher(self._algorithm, modes.CBC(vector)).encryptor()
        return vector + encryptor.update(padder.update(value) + padder.finalize()) + encryptor.finalize()


class ExtendedNonceGcm:
    """A key for each value, expanded from a seed and random bytes, which come first in what is stored."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) < SEED:
            raise TransformError(f"invalid seed length {len(seed)} used for key generation")
        self._seed = seed
        self._derived = lru_cache(maxsize=256)(self._derive)

    def open(self, data: bytes, context: bytes) -> bytes:
        if len(data) < SEED:
            raise TransformError(_SHORT)
        return gcm_open(self._derived(data[:SEED]), data[SEED:], context)

    def seal(self, value: bytes, context: bytes) -> bytes:
        info = os.urandom(SEED)
        return info + gcm_seal(self._derive(info), value, context)

    def _derive(self, info: bytes) -> AESGCM:
        return AESGCM(HKDFExpand(SHA256(), SEED, info).derive(self._seed))


def gcm_open(cipher: AESGCM, data: bytes, context: bytes) -> bytes:
    if len(data) < _NONCE:
        raise TransformError(_SHORT)
    try:
        return cipher.decrypt(data[:_NONCE], data[_NONCE:], context)
    except InvalidTag:
        raise TransformError("cipher: message authentication failed") from None


def gcm_seal(cipher: AESGCM, value: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, value, context)
