"""Custom objects: dicts in wire form whose metadata is typed, so that the handlers treat them as any other object."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import meta_v1
from podling.api.struct import to_dict
from podling.apiserver.crd.structural import Node, embedded_problems, unknown_fields
from podling.machinery import merge_schema, schema
from podling.machinery.schema import DecodeError, WithDuplicates

_HEAD = ("kind", "apiVersion", "metadata")
_KEYS = frozenset(_HEAD)


class CustomObject(dict[str, Any]):
    """`kind`, `apiVersion`, `metadata` (a meta_v1.ObjectMeta), and the rest as it came. Never mixed with plain dicts:
    what reads one may rely on the first three."""

    __slots__ = ()
    #: As generated types have it: what there is besides metadata.
    __struct_fields__ = ("content",)

    @property
    def kind(self) -> str:
        kind: str = self["kind"]
        return kind

    @kind.setter
    def kind(self, value: str) -> None:
        self["kind"] = value

    @property
    def api_version(self) -> str:
        version: str = self["apiVersion"]
        return version

    @api_version.setter
    def api_version(self, value: str) -> None:
        self["apiVersion"] = value

    @property
    def metadata(self) -> meta_v1.ObjectMeta:
        metadata: meta_v1.ObjectMeta = self["metadata"]
        return metadata

    @metadata.setter
    def metadata(self, value: meta_v1.ObjectMeta) -> None:
        self["metadata"] = value

    @property
    def content(self) -> dict[str, Any]:
        """Everything but kind, version and metadata."""
        return {key: value for key, value in self.items() if key not in _KEYS}

    @content.setter
    def content(self, value: dict[str, Any]) -> None:
        for key in self.keys() - _KEYS:
            del self[key]
        self.update(value)

    @property
    def status(self) -> Any:
        """None if there is none."""
        return self.get("status")

    @status.setter
    def status(self, value: Any) -> None:
        if value is None:
            self.pop("status", None)
        else:
            self["status"] = value

    def __copy__(self) -> CustomObject:
        return CustomObject(self)


def make(kind: str, api_version: str, metadata: meta_v1.ObjectMeta, content: dict[str, Any]) -> CustomObject:
    """An object; `content` is not copied and must not have the first three keys."""
    return CustomObject({"kind": kind, "apiVersion": api_version, "metadata": metadata, **content})


def copied(value: Any) -> Any:
    """A copy of JSON data."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


class CustomCodec:
    """The codec of one version of a custom resource; without a schema that of the stored objects of all versions."""

    def __init__(self, kind: str, api_version: str, node: Node | None = None) -> None:
        self.kind = kind
        self.api_version = api_version
        self.node = node
        self.schema = node.schema if node is not None else None
        #: How objects merge in server-side apply.
        self.merge_schema = merge_schema.of_openapi(node.schema) if node is not None else merge_schema.DEDUCED
        self._parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self._meta = msgspec.json.Decoder(meta_v1.ObjectMeta)
        self._text = msgspec.json.Decoder(str)
        self._encoder = msgspec.json.Encoder(order="deterministic")

    def decode(self, data: bytes) -> CustomObject:
        """Stored or wire bytes."""
        parts = self._parts.decode(data)
        obj = CustomObject(
            kind=self._text.decode(parts.pop("kind")),
            apiVersion=self._text.decode(parts.pop("apiVersion")),
            metadata=self._meta.decode(parts.pop("metadata")),
        )
        for key, raw in parts.items():
            obj[key] = msgspec.json.decode(raw)
        return obj

    def encode(self, obj: CustomObject) -> bytes:
        """The same bytes for the same object, in whatever order its fields came."""
        encode = self._encoder.encode
        head = b'{"kind":%b,"apiVersion":%b,"metadata":%b' % (
            encode(obj["kind"]),
            encode(obj["apiVersion"]),
            msgspec.json.encode(obj["metadata"]),
        )
        rest = encode(obj.content)
        return head + (b"}" if rest == b"{}" else b"," + rest[1:])

    def read(self, data: bytes) -> CustomObject:
        return self.convert(schema.parse(data))

    def convert(self, raw: Any) -> CustomObject:
        """What a client sent. Unknown fields go only later, with defaulting: warnings are about them."""
        if not isinstance(raw, dict):
            raise DecodeError("json: cannot unmarshal array into Go value of type map[string]interface {}")
        for name in ("kind", "apiVersion"):
            if not isinstance(raw.get(name, ""), str):
                raise DecodeError(f"Object '{name}' is not a string")
        if not raw.get("kind"):
            raise DecodeError("Object 'Kind' is missing")
        metadata = raw.get("metadata")
        if metadata is None:
            metadata = {}
        elif not isinstance(metadata, dict):
            kind = {list: "array", str: "string", bool: "bool"}.get(type(metadata), "number")
            raise DecodeError(f"json: cannot unmarshal {kind} into Go value of type v1.ObjectMeta")
        content = {key: value for key, value in raw.items() if key not in _KEYS}
        if self.node is not None:
            problem = embedded_problems(content, self.node)
            if problem:
                raise DecodeError(problem)
        typed = schema.convert(metadata, meta_v1.ObjectMeta)
        return make(raw["kind"], raw.get("apiVersion") or "", typed, content)

    def problems(self, raw: Any) -> list[str]:
        """Duplicate fields, then unknown ones: of metadata, of the schema, of embedded metadata."""
        if not isinstance(raw, dict):
            return []
        found = [f'duplicate field "{path}"' for path in _duplicates(raw, "")]
        metadata = raw.get("metadata")
        if isinstance(metadata, dict):
            said = schema.problems(metadata, meta_v1.ObjectMeta)
            found += [p.replace('field "', 'field "metadata.', 1) for p in said if p.startswith("unknown")]
        content = {key: value for key, value in raw.items() if key not in _KEYS}
        return found + [f'unknown field "{path}"' for path in unknown_fields(content, self.node)]

    def to_dict(self, obj: CustomObject) -> dict[str, Any]:
        found: dict[str, Any] = copied(dict(obj, metadata=None))
        found["metadata"] = to_dict(obj.metadata)
        return found

    def empty(self) -> CustomObject:
        return make(self.kind, self.api_version, meta_v1.ObjectMeta(), {})


def _duplicates(value: Any, path: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, WithDuplicates):
        found += [f"{path}{key}" for key in value.duplicates]
    if isinstance(value, dict):
        for key, item in value.items():
            found += _duplicates(item, f"{path}{key}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _duplicates(item, f"{path.removesuffix('.')}[{index}].")
    return found
