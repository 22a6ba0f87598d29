"""The few protobuf messages of KMS v2 (k8s.io/kms/apis/v2) and of what is stored with it (kmsv2/v2/api.proto)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

#: How the plaintext of `EncryptedObject.source` is used: as the key itself, or as a seed.
KEY, SEED = 0, 1


class EncryptedObject(msgspec.Struct, kw_only=True):
    data: bytes = b""
    key_id: str = ""
    source: bytes = b""
    annotations: dict[str, bytes] = {}
    source_type: int = KEY


class Status(msgspec.Struct):
    version: str
    healthz: str
    key_id: str


class Encrypted(msgspec.Struct):
    """A seed as the plugin encrypts it."""

    ciphertext: bytes
    key_id: str
    annotations: dict[str, bytes]


def encrypted_object(obj: EncryptedObject) -> bytes:
    return (
        _field(1, obj.data)
        + _field(2, obj.key_id.encode())
        + _field(3, obj.source)
        + _map(4, obj.annotations)
        + (b"\x28" + _varint(obj.source_type) if obj.source_type else b"")
    )


def read_encrypted_object(data: bytes) -> EncryptedObject:
    """Raises ValueError."""
    obj = EncryptedObject(annotations={})
    for number, value in _fields(data):
        if number == 5 and isinstance(value, int):
            obj.source_type = value
        elif isinstance(value, bytes):
            if number == 1:
                obj.data = value
            elif number == 2:
                obj.key_id = value.decode()
            elif number == 3:
                obj.source = value
            elif number == 4:
                obj.annotations.update([_entry(value)])
    return obj


def encrypt_request(plaintext: bytes, uid: str) -> bytes:
    return _field(1, plaintext) + _field(2, uid.encode())


def decrypt_request(obj: EncryptedObject, uid: str) -> bytes:
    return _field(1, obj.source) + _field(2, uid.encode()) + _field(3, obj.key_id.encode()) + _map(4, obj.annotations)


def read_status(data: bytes) -> Status:
    """Raises ValueError."""
    found = _texts(data)
    return Status(*(found.get(number, b"").decode() for number in (1, 2, 3)))


def read_encrypted(data: bytes) -> Encrypted:
    """Raises ValueError."""
    found = _texts(data)
    annotations = dict(_entry(v) for n, v in _fields(data) if n == 3 and isinstance(v, bytes))
    return Encrypted(found.get(1, b""), found.get(2, b"").decode(), annotations)


def read_plaintext(data: bytes) -> bytes:
    """Raises ValueError."""
    return _texts(data).get(1, b"")


def _texts(data: bytes) -> dict[int, bytes]:
    return {number: value for number, value in _fields(data) if isinstance(value, bytes)}


def _entry(data: bytes) -> tuple[str, bytes]:
    found = _texts(data)
    return found.get(1, b"").decode(), found.get(2, b"")


def _map(number: int, values: dict[str, bytes]) -> bytes:
    return b"".join(_field(number, _field(1, k.encode()) + _field(2, v), always=True) for k, v in values.items())


def _field(number: int, value: bytes, *, always: bool = False) -> bytes:
    """A field of bytes or text; an empty one is left out."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value if value or always else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Raises ValueError for what is no message."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _read_varint(data, at)
            yield number, value
        elif kind == 2:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                raise ValueError("unexpected EOF")
            yield number, data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("cannot parse invalid wire-format data")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("unexpected EOF")
