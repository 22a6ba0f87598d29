"""CBOR (KEP-4222): the data model is that of JSON, so whatever JSON can't say is refused.

Strings are written as byte strings, which need not be proven to be UTF-8, and read as either kind; a byte string
under the tag of a later encoding is that text. Maps are written in the order of their encoded keys, floats as short as
they go.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import msgspec

from podling.machinery import nesting
from podling.machinery.schema import DecodeError, UnreadableError

#: "This is CBOR", the tag before every document.
SELF_DESCRIBED = b"\xd9\xd9\xf7"
_INT64 = range(-(1 << 63), 1 << 63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode(data: bytes) -> bytes:
    """JSON as a CBOR document."""
    import cbor2

    return SELF_DESCRIBED + cbor2.dumps(_packed(msgspec.json.decode(data)), canonical=True)


def _packed(value: Any) -> Any:
    """With strings as byte strings."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict):
        return {key.encode(): _packed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_packed(item) for item in value]
    return value


def decode(data: bytes) -> Any:
    """A CBOR document as dicts and lists. Raises UnreadableError."""
    import cbor2

    try:
        decoder = cbor2.CBORDecoder(
            BytesIO(data),
            max_depth=nesting.MAX_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_TAGS,
            tag_hook=lambda tag, immutable: tag.value,
        )
        found = _plain(decoder.decode())
    except (cbor2.CBORDecodeError, DecodeError, ValueError, OverflowError, RecursionError) as error:
        why = error.__cause__ if isinstance(error.__cause__, DecodeError) else error
        raise UnreadableError(f"unable to determine group/version/kind: {_said(why, data)}") from None
    try:
        decoder.read(1)
    except cbor2.CBORDecodeEOF:
        return found
    raise UnreadableError("unable to determine group/version/kind: cbor: bytes of extraneous data after the document")


def _said(error: BaseException, data: bytes) -> str:
    return f"cbor: {error}" if data else "EOF"


def _plain(value: Any) -> Any:
    """As JSON has it."""
    match value:
        case None | bool() | str():
            return value
        case bytes():
            return value.decode()
        case dict():
            return _map(value)
        case list():
            return [_plain(item) for item in value]
        case int() if value in _INT64:
            return value
        case int():
            raise DecodeError(f"cannot unmarshal integer into Go value of type int64 ({value} overflows Go's int64)")
        case float() if math.isfinite(value):
            return value
        case float():
            raise DecodeError("floating-point NaN and infinity have no JSON representation")
    raise DecodeError(f"{type(value).__name__} is not a recognized type of value")


def _map(value: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = key.decode() if isinstance(key, bytes) else key
        if not isinstance(name, str):
            raise DecodeError(f"cannot unmarshal {type(key).__name__} into Go value of type string")
        if name in found:
            raise DecodeError(f'found duplicate map key "{name}"')
        found[name] = _plain(item)
    return found


# -- tags --------------------------------------------------------------------------------------------------------------


def _content(value: Any, immutable: bool) -> Any:
    """A tag that says nothing here."""
    return value


def _refused(value: Any, immutable: bool) -> Any:
    raise DecodeError("cannot unmarshal bignum into Go value of type interface {}")


def _time_text(value: Any, immutable: bool) -> str:
    """Tag 0."""
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise DecodeError("tag number 0 must be followed by text string")
    return text


def _time_number(value: Any, immutable: bool) -> str:
    """Tag 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DecodeError("tag number 1 must be followed by integer or floating-point number")
    try:
        when = _EPOCH + timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise DecodeError(f"cannot set {value} as a time") from None
    return f"{when:%Y-%m-%dT%H:%M:%S}{f'.{when:%f}'.rstrip('0').rstrip('.')}Z"


def _encoded(encode: Callable[[bytes], str]) -> Callable[[Any, bool], Any]:
    """A tag that says how bytes become text."""

    def convert(value: Any, immutable: bool) -> Any:
        return encode(value) if isinstance(value, bytes) else value

    return convert


_TAGS: dict[int, Callable[[Any, bool], Any]] = {
    # What the library would make of these is no JSON; shared values and references to strings least of all.
    **dict.fromkeys((*range(4, 21), *range(24, 41), *range(52, 55), 100, 256, 258, 260, 261, 1004, 43000), _content),
    0: _time_text,
    1: _time_number,
    2: _refused,
    3: _refused,
    21: _encoded(lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()),
    22: _encoded(lambda data: base64.b64encode(data).decode()),
    23: _encoded(lambda data: data.hex().upper()),
    55799: _content,
}
