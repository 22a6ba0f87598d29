"""Kubernetes' protobuf: what typed Go clients send and ask for unless told otherwise.

A document is four magic bytes and a `runtime.Unknown` with the kind and the object's message. In a watch each event is
a `WatchEvent`, with such a document in it, behind four bytes that tell its length.
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from podling.api import meta_v1, registry
from podling.api.registry import Resource
from podling.apiserver.wire import proto_reader, proto_writer
from podling.apiserver.wire.proto_reader import Malformed
from podling.apiserver.wire.proto_writer import delimited, varint
from podling.machinery.schema import DecodeError, UnreadableError

MAGIC = b"k8s\x00"
_META_KINDS = frozenset(
    (
        "DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "Status", "WatchEvent", "APIVersions",
        "APIGroup", "APIGroupList", "APIResourceList",
    )
)  # fmt: skip


# -- bodies ------------------------------------------------------------------------------------------------------------


def decode(data: bytes, kind: str = "", version: str = "") -> dict[str, Any]:
    """The object in a body as its JSON would be; kind and version are these if it has none. Raises UnreadableError."""
    if not data:
        raise UnreadableError("empty data")
    if not data.startswith(MAGIC):
        raise UnreadableError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    if len(data) == len(MAGIC):
        raise UnreadableError("empty body")
    said, its_version, message = _envelope(data[len(MAGIC) :])
    kind, version = said or kind, its_version or version
    if not kind:
        raise UnreadableError(f"Object 'Kind' is missing in '{_type_meta(said, its_version)}'")
    if not version:
        raise UnreadableError(f"Object 'apiVersion' is missing in '{_type_meta(said, its_version)}'", kind)
    try:
        found = proto_reader.read(message, type_of(version, kind))
    except DecodeError as error:
        raise UnreadableError(str(error), kind, version) from None
    return {"kind": kind, "apiVersion": version, **found}


def _type_meta(kind: str, version: str) -> str:
    return f'runtime.TypeMeta{{APIVersion:"{version}", Kind:"{kind}"}}'


def _envelope(data: bytes) -> tuple[str, str, bytes]:
    """Kind, version and message of a runtime.Unknown."""
    version = kind = ""
    message = b""
    try:
        for number, wire, value in proto_reader.scan(data):
            if number in (1, 2, 3, 4) and wire != 2:
                name = ("TypeMeta", "Raw", "ContentEncoding", "ContentType")[number - 1]
                raise Malformed(f"proto: wrong wireType = {wire} for field {name}")
            if number == 1:
                for part, wire_type, text in proto_reader.scan(value):
                    if part in (1, 2) and wire_type != 2:
                        name = ("APIVersion", "Kind")[part - 1]
                        raise Malformed(f"proto: wrong wireType = {wire_type} for field {name}")
                    if part == 1:
                        version = text.decode()
                    elif part == 2:
                        kind = text.decode()
            elif number == 2:
                message = value
    except UnicodeDecodeError:
        raise UnreadableError("proto: invalid UTF-8 string") from None
    except Malformed as error:
        raise UnreadableError(str(error)) from None
    return kind, version, message


def type_of(version: str, kind: str) -> type[Any]:
    """The generated class of a built-in kind. Raises DecodeError in Go's words if there is none."""
    group, _, number = version.rpartition("/")
    row = Resource(group=group, version=number, name="", kind=kind)
    module = "meta_v1" if kind in _META_KINDS else registry.module_name(row)
    found: type[Any] | None = None
    if kind.isidentifier() and module.isidentifier():
        try:
            found = getattr(importlib.import_module(f"podling.api.{module}"), kind, None)
        except ImportError:
            found = None
    if not isinstance(found, type) or "kind" not in getattr(found, "__struct_fields__", ()):
        raise DecodeError(
            f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/api/legacyscheme/scheme.go:30"'
        )
    return found


# -- answers -----------------------------------------------------------------------------------------------------------


def wrap(version: str, kind: str, message: bytes) -> bytes:
    """A document: the message of an object, with its kind."""
    meta = delimited(1, version.encode()) + delimited(2, kind.encode())
    return b"%b%b\x12%b%b\x1a\0\x22\0" % (MAGIC, delimited(1, meta), varint(len(message)), message)


def encode(obj: Any) -> bytes:
    """An object of a generated class as a document."""
    return wrap(obj.api_version, obj.kind, proto_writer.body(obj))


def encode_discovery(document: dict[str, Any]) -> bytes:
    """Aggregated discovery, which is built without its classes."""
    from podling.apiserver.wire.apidiscovery_v2 import APIGroupDiscoveryList

    return encode(msgspec.convert(document, APIGroupDiscoveryList))


def encode_dict(document: dict[str, Any]) -> bytes:
    """A document of a kind of meta/v1, which may have no version."""
    kind = document["kind"]
    obj = msgspec.convert(document, getattr(meta_v1, kind))
    return wrap(document.get("apiVersion", ""), kind, proto_writer.body(obj))


def list_message(meta: meta_v1.ListMeta, messages: list[bytes]) -> bytes:
    """The message of a list: its metadata and the messages of its items. All lists have the same numbers."""
    heads = [b"\x12" + varint(len(m)) for m in messages]
    items = b"".join([part for pair in zip(heads, messages, strict=True) for part in pair])
    return delimited(1, proto_writer.body(meta)) + items


def event(type_: str, document: bytes) -> bytes:
    """An event of a watch, with the length before it."""
    found = delimited(1, type_.encode()) + delimited(2, delimited(1, document))
    return len(found).to_bytes(4, "big") + found
