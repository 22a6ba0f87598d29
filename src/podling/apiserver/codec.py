"""How objects of a resource become bytes and back, and where their resourceVersion stands in the bytes.

Stored bytes are JSON without resourceVersion: the store's revision is the version. What goes over the wire has it
spliced in right behind `"metadata":{`, which is the first place where these words can occur, since every object is
encoded in the order kind, apiVersion, metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from podling.api import meta_v1
from podling.api.registry import Resource
from podling.api.struct import encode, to_dict
from podling.machinery import schema
from podling.machinery.merge_schema import Node, of_type

_METADATA = b'"metadata":{'


def metadata_offset(stored: bytes) -> int:
    """Where the first field of metadata begins."""
    return stored.index(_METADATA) + 12


def splice(stored: bytes, revision: int) -> bytes:
    """Stored bytes as they go over the wire, at `revision`."""
    cut = stored.index(_METADATA) + 12
    return b'%b"resourceVersion":"%d",%b' % (stored[:cut], revision, stored[cut:])


def unsplice(wire: bytes, revision: int) -> bytes:
    """The stored bytes of what `splice` made at `revision`."""
    cut = wire.index(_METADATA) + 12
    return wire[:cut] + wire[cut + len(b'"resourceVersion":"%d",' % revision) :]


class Codec(Protocol):
    """Objects have at least `kind`, `api_version` and `metadata` (a meta_v1.ObjectMeta)."""

    def decode(self, data: bytes) -> Any: ...

    def encode(self, obj: Any) -> bytes: ...

    def read(self, data: bytes) -> Any:
        """What a client sent: more leniently than `decode`, and into canonical form. Raises schema.DecodeError."""

    def convert(self, raw: Any) -> Any:
        """As `read`, of dicts and lists."""

    def problems(self, raw: Any) -> list[str]:
        """Unknown and duplicate fields of what a client sent."""

    def to_dict(self, obj: Any) -> dict[str, Any]: ...

    def empty(self) -> Any:
        """A new object with nothing in it but its kind and version."""


class StructCodec:
    """Generated types."""

    def __init__(self, type_: type[Any], api_version: str) -> None:
        self.type = type_
        self.api_version = api_version
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(type_).decode
        self.encode = encode
        self.to_dict = to_dict

    @property
    def merge_schema(self) -> Node:
        """How objects merge when they are applied."""
        return of_type(self.type)

    def read(self, data: bytes) -> Any:
        return schema.decode(data, self.type)

    def convert(self, raw: Any) -> Any:
        return schema.convert(raw, self.type)

    def problems(self, raw: Any) -> list[str]:
        return schema.problems(raw, self.type)

    def empty(self) -> Any:
        obj = self.type()
        obj.kind = self.type.__name__
        obj.api_version = self.api_version
        if obj.metadata is None:
            obj.metadata = meta_v1.ObjectMeta()
        return obj


class LazyCodec:
    """A codec whose type (and the module that it is generated into) is only built when it is first needed."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        real = StructCodec(self._resource.type, self._resource.group_version)
        self.__dict__.update(
            real.__dict__,
            read=real.read,
            convert=real.convert,
            problems=real.problems,
            empty=real.empty,
            merge_schema=real.merge_schema,
        )
        return self.__dict__[name]
