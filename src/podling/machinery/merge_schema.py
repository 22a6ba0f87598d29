"""How each part of an object merges in server-side apply: what a walk over an object must know of its schema.

A `Node` stands for a value. Generated types answer through their metadata (`of_type`); custom resources through their
OpenAPI schema (`of_openapi`); anything else is deduced: maps merge by key, lists are replaced (`DEDUCED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from podling.machinery import typeinfo

Shape = Literal["scalar", "map", "list", "atomic"]

#: Key fields that may be left out, and what they then are (the schema's defaults).
KEY_DEFAULTS = {"protocol": "TCP"}


class Node:
    """A value's schema.

    `shape`: "scalar", "map" (merges by field), "list" (merges by `keys`, or as a set if there are none), "atomic"
    (replaced as a whole). `struct` says whether a map's fields are declared (labels, say, are not).
    """

    shape: Shape = "atomic"
    keys: tuple[str, ...] = ()
    struct = False

    def child(self, name: str) -> Node:
        """Of a field of a map."""
        return DEDUCED

    def item(self) -> Node:
        """Of an item of a list."""
        return DEDUCED

    def resolve(self, value: Any) -> Node:
        """The node itself, unless the schema is silent and the value decides."""
        return self


class _Plain(Node):
    def __init__(self, shape: Shape) -> None:
        self.shape = shape


SCALAR = _Plain("scalar")
ATOMIC = _Plain("atomic")


class _Deduced(Node):
    def resolve(self, value: Any) -> Node:
        if isinstance(value, dict):
            return _DEDUCED_MAP
        return ATOMIC if isinstance(value, list) else SCALAR


DEDUCED = _Deduced()


class _DeducedMap(Node):
    shape: Shape = "map"


_DEDUCED_MAP = _DeducedMap()


class _Struct(Node):
    """An object of a generated type."""

    shape: Shape = "map"
    struct = True

    def __init__(self, type_: type[Any]) -> None:
        self._type = type_
        self._children: dict[str, Node] = {}

    def child(self, name: str) -> Node:
        known = self._children.get(name)
        if known is None:
            info = typeinfo.fields(self._type).get(name)
            known = self._children[name] = _of_field(info) if info is not None else DEDUCED
        return known


class _Map(Node):
    """A map of any keys to values of one schema."""

    shape: Shape = "map"

    def __init__(self, values: Node) -> None:
        self._values = values

    def child(self, name: str) -> Node:
        return self._values


class _List(Node):
    """A list that merges."""

    shape: Shape = "list"

    def __init__(self, items: Node, keys: tuple[str, ...]) -> None:
        self._items = items
        self.keys = keys

    def item(self) -> Node:
        return self._items


@typeinfo.cached
def of_type(type_: type[Any]) -> Node:
    """The schema of a generated class."""
    return _Struct(type_)


def _of_field(info: typeinfo.FieldInfo) -> Node:
    if info.struct is not None:
        value: Node = of_type(info.struct)
    elif info.scalar is object and not info.meaning and info.shape == "":
        value = DEDUCED
    else:
        value = SCALAR
    if info.list_type == "atomic":
        return ATOMIC
    if info.shape == "list":
        if info.list_type == "map":
            return _List(value, info.map_keys)
        return _List(value, ()) if info.list_type == "set" else ATOMIC
    return _Map(value) if info.shape == "map" else value


class _OpenApi(Node):
    """A part of a custom resource's structural schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        kind = schema.get("type")
        self.struct = bool(schema.get("properties"))
        if kind == "object" or (kind is None and self.struct):
            self.shape = "atomic" if schema.get("x-kubernetes-map-type") == "atomic" else "map"
        elif kind == "array":
            list_type = schema.get("x-kubernetes-list-type", "atomic")
            self.shape = "atomic" if list_type == "atomic" else "list"
            self.keys = tuple(schema.get("x-kubernetes-list-map-keys", ())) if list_type == "map" else ()
        else:
            self.shape = "scalar"

    def child(self, name: str) -> Node:
        properties = self._schema.get("properties") or {}
        if name in properties:
            return of_openapi(properties[name])
        additional = self._schema.get("additionalProperties")
        return of_openapi(additional) if isinstance(additional, dict) else DEDUCED

    def item(self) -> Node:
        return of_openapi(self._schema.get("items") or {})


def of_openapi(schema: Mapping[str, Any]) -> Node:
    """The schema of a custom resource; a schema that says nothing is deduced."""
    if schema.get("x-kubernetes-preserve-unknown-fields") and not schema.get("properties"):
        return DEDUCED
    if not schema.get("type") and not schema.get("properties") and not schema.get("x-kubernetes-int-or-string"):
        return DEDUCED
    return _OpenApi(schema)
