"""The base of all API types.

Every generated type is a `msgspec.Struct` with snake_case attributes and Kubernetes' exact names on the wire. A field
that the schema requires has its zero value and is always written; an optional one is None and left out. So what is
decoded and encoded again keeps what its author wrote, explicit zeros included.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec


class ApiStruct(msgspec.Struct, omit_defaults=True, kw_only=True, rename="camel"):
    """A part of an API object. Objects that come from a cache are read-only: `clone()` before you change one."""


S = TypeVar("S", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()
_decoders: dict[type, msgspec.json.Decoder[Any]] = {}


def encode(obj: Any) -> bytes:
    """`obj` as compact JSON."""
    return _encoder.encode(obj)


def decode(data: bytes | str, type_: type[S]) -> S:
    """JSON as a `type_`; unknown fields are ignored. Raises msgspec.ValidationError with the path of what is wrong."""
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.json.Decoder(type_)
    result: S = decoder.decode(data)
    return result


def clone(obj: S) -> S:
    """A deep copy, by way of JSON: a pod takes 10 µs, a tenth of copy.deepcopy."""
    return decode(_encoder.encode(obj), type(obj))


def to_dict(obj: Any) -> dict[str, Any]:
    """`obj` as wire-named dicts and lists."""
    result: dict[str, Any] = msgspec.to_builtins(obj, enc_hook=_json)
    return result


def _json(value: Any) -> Any:
    """What msgspec does not take apart by itself: JSON that is kept as bytes."""
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    raise NotImplementedError(f"objects of type {type(value).__name__} have no wire form")


def from_dict(data: Any, type_: type[S]) -> S:
    """Wire-named dicts and lists as a `type_`. Raises msgspec.ValidationError with the path of what is wrong."""
    try:
        return msgspec.convert(data, type_)
    except msgspec.ValidationError as error:
        if "Expected `raw`" not in str(error):
            raise
        return msgspec.convert(_with_json(data), type_)


def _with_json(value: Any) -> Any:
    """`value` with the field sets of managedFields as bytes, which is how they are kept."""
    if isinstance(value, list):
        return [_with_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: msgspec.Raw(_encoder.encode(item)) if key == "fieldsV1" and isinstance(item, dict) else _with_json(item)
        for key, item in value.items()
    }


def empty_list() -> list[Any]:
    """The default of a required list: unlike a plain `list` it is written even when empty, which clients rely on."""
    return []


#: Marks metadata, spec and status where the schema lets an author leave them out: they are always there in Python.
OPTIONAL = msgspec.Meta(extra={"optional": True})


def merge_list(
    list_type: str | None = None, *, map_keys: tuple[str, ...] = (), patch: str | None = None, key: str | None = None
) -> msgspec.Meta:
    """How a list or map merges, as metadata on its field.

    `list_type` is x-kubernetes-list-type or -map-type (atomic, set, map, granular), `map_keys` the wire names of
    x-kubernetes-list-map-keys; `patch` is x-kubernetes-patch-strategy (merge, replace, retainKeys, comma-separated)
    and `key` x-kubernetes-patch-merge-key.
    """
    return msgspec.Meta(extra={"list_type": list_type, "map_keys": map_keys, "patch": patch, "key": key})
