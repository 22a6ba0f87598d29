"""Kubernetes' protobuf on the way in: what typed Go clients send unless told otherwise.

A body is four magic bytes and a `runtime.Unknown` with the kind and the object. The object is read into the same dicts
and lists that its JSON would give. Field numbers come from a generated table, all else from the generated types.
Answers are JSON, which such clients take as well.
"""

from __future__ import annotations

import base64
import importlib
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

from podling.api import registry, times
from podling.api.registry import Resource
from podling.machinery import typeinfo
from podling.machinery.schema import DecodeError

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_META_KINDS = frozenset({"DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "Status"})


def decode(data: bytes) -> dict[str, Any]:
    """The object in a body as its JSON would be. Raises schema.DecodeError."""
    if not data.startswith(_MAGIC):
        raise DecodeError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        unknown = dict(_scan(data[4:]))
        meta = {number: value.decode() for number, value in _scan(unknown.get(1, b""))}
        version, kind = meta.get(1, ""), meta.get(2, "")
        type_ = _type(version, kind)
        found = _message(unknown.get(2, b""), type_, f"{type_.__module__.rpartition('.')[2]}.{kind}")
    except (IndexError, ValueError, AttributeError, struct.error) as error:
        raise DecodeError(f"proto: {error}") from None
    return {"kind": kind, "apiVersion": version, **found}


def _type(version: str, kind: str) -> type[Any]:
    group, _, number = version.rpartition("/")
    module = "meta_v1" if kind in _META_KINDS else registry.module_name(
        Resource(group=group, version=number, name="", kind=kind)
    )  # fmt: skip
    try:
        found: type[Any] = getattr(importlib.import_module(f"podling.api.{module}"), kind)
    except (ImportError, AttributeError):
        raise DecodeError(f'no kind "{kind}" is registered for version "{version}"') from None
    return found


@cache
def _tables() -> dict[str, str]:
    text = (files("podling.apiserver") / "protobuf_fields.txt").read_text()
    return {name: rest for name, _, rest in (line.partition(" ") for line in text.splitlines())}


@cache
def _table(name: str) -> dict[int, tuple[str, str]]:
    """Of a message: field number -> (`=`, `*`, `|` or `>`, wire name or message)."""
    found = {}
    for item in _tables().get(name, "").split():
        at = next(i for i, c in enumerate(item) if not c.isdigit())
        found[int(item[:at])] = item[at], item[at + 1 :]
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise ValueError("wrong varint")


def _scan(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values: int for numbers, bytes for the rest."""
    at, end = 0, len(data)
    value: Any
    while at < end:
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                if value >= 1 << 63:
                    value -= 1 << 64
            case 1:
                value, at = struct.unpack_from("<d", data, at)[0], at + 8
            case 2:
                size, at = _varint(data, at)
                if at + size > end:
                    raise ValueError("unexpected EOF")
                value, at = data[at : at + size], at + size
            case 5:
                value, at = struct.unpack_from("<f", data, at)[0], at + 4
            case kind:
                raise ValueError(f"wrong wireType = {kind}")
        yield tag >> 3, value


def _message(data: bytes, type_: type[Any], name: str) -> dict[str, Any]:
    table, fields = _table(name), typeinfo.fields(type_)
    found: dict[str, Any] = {}
    for number, raw in _scan(data):
        how, wire = table.get(number, ("", ""))
        if how == ">":
            found.update(_message(raw, type_, wire))
            continue
        field = fields.get(wire)
        if field is None:
            continue
        if field.name == "fieldsV1":
            found[wire] = _raw(raw)
        elif how == "|" and field.shape == "map":
            key, value = _entry(raw)
            found.setdefault(wire, {})[key] = _alternative(value, wire, type_, name)
        elif how == "|":
            found[wire] = _alternative(raw, wire, type_, name)
        elif field.shape == "list":
            found.setdefault(wire, []).append(_value(raw, field))
        elif field.shape == "map":
            key, value = _entry(raw)
            found.setdefault(wire, {})[key] = _value(value, field)
        else:
            value = _value(raw, field)
            # What Go's JSON leaves out when it is zero is written in protobuf.
            if value or value == {} or how == "*":
                found[wire] = value
    return found


def _entry(raw: bytes) -> tuple[str, bytes]:
    """Key and value of a map's entry."""
    key, value = "", b""
    for part, item in _scan(raw):
        if part == 1:
            key = item.decode()
        else:
            value = item
    return key, value


def _alternative(raw: bytes, wire: str, type_: type[Any], name: str) -> Any:
    """A JSON schema, or what stands in its place: whether anything goes, a list of schemas, names of properties."""
    parts = list(_scan(raw))
    first, second = ([value for number, value in parts if number == n] for n in (1, 2))
    if wire in ("additionalProperties", "additionalItems"):
        return _message(second[0], type_, name) if second else bool(first and first[0])
    if not second:
        return _message(first[0], type_, name) if first else None
    return [v.decode() if wire == "dependencies" else _message(v, type_, name) for v in second]


def _value(raw: Any, field: typeinfo.FieldInfo) -> Any:
    if field.struct is not None:
        return _message(raw, field.struct, f"{field.struct.__module__.rpartition('.')[2]}.{field.struct.__name__}")
    match field.meaning:
        case "Quantity":
            return b"".join(v for n, v in _scan(raw) if n == 1).decode()
        case "Time" | "MicroTime":
            return _time(raw, micro=field.meaning == "MicroTime")
        case "IntOrString":
            parts = dict(_scan(raw))
            return parts.get(3, b"").decode() if parts.get(1) == 1 else parts.get(2, 0)
        case "Base64":
            return base64.b64encode(raw).decode()
    match field.scalar.__name__:
        case "str":
            return raw.decode()
        case "bool":
            return bool(raw)
        case "int" | "float":
            return raw
    if field.shape == "map":
        # A map of lists of strings, such as a user's extra.
        return [v.decode() for n, v in _scan(raw) if n == 1]
    return _raw(raw)


def _time(raw: bytes, *, micro: bool) -> str:
    parts = dict(_scan(raw))
    if not parts:
        return ""
    when = _EPOCH + timedelta(seconds=parts.get(1, 0), microseconds=parts.get(2, 0) // 1000)
    return times.format_micro(when) if micro else times.format(when)


def _raw(data: bytes) -> Any:
    """RawExtension, FieldsV1, JSON: a message with JSON in it."""
    text = b"".join(v for n, v in _scan(data) if n == 1)
    return json.loads(text) if text else None
