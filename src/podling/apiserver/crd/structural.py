"""Structural schemas, compiled: what becomes of an object before anyone looks at its values.

Unknown fields are pruned, nulls that a field may not have are dropped, embedded metadata gets its types, and defaults
are filled in. `settled` does it all in one walk that copies only what changes: of most objects, nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podling.api import meta_v1
from podling.api.struct import to_dict
from podling.machinery import schema as decoding

_META = frozenset(("apiVersion", "kind", "metadata"))
_ABSENT: Any = object()


class Node:
    """One place in a schema. `schema` is its wire form."""

    __slots__ = ("default", "embedded", "items", "more", "nullable", "preserve", "properties", "schema")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self.properties = {name: Node(field) for name, field in (schema.get("properties") or {}).items()}
        more = schema.get("additionalProperties")
        #: None if there are no other fields; of a mere `true` or `false`, what is in the others is unknown.
        self.more = Node(more) if isinstance(more, Mapping) else Node(_UNSAID) if more is not None else None
        items = schema.get("items")
        self.items = Node(items) if isinstance(items, Mapping) else None
        self.preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        self.nullable = bool(schema.get("nullable"))
        default = schema.get("default")
        self.default = default if default is not None else _ABSENT

    def child(self, name: str) -> Node | None:
        return self.properties.get(name) or self.more


#: The schema of other fields if `additionalProperties` is none.
_UNSAID: dict[str, Any] = {"nullable": True}


def compiled(schema: Mapping[str, Any]) -> Node:
    """The schema of a whole object; its defaults are pruned and complete themselves."""
    root = Node(schema)
    _prune_defaults(root)
    return root


def _prune_defaults(node: Node) -> None:
    if node.default is not _ABSENT:
        node.default = settled(node.default, node, defaults=False)
    for child in (*node.properties.values(), node.more, node.items):
        if child is not None:
            _prune_defaults(child)


def settled(value: Any, node: Node | None, *, root: bool = False, defaults: bool = True, preserve: bool = False) -> Any:
    """`value` as the schema has it; the same object if nothing had to change. `value` itself is never changed."""
    if isinstance(value, dict):
        return _settled_map(value, node, root, defaults, preserve)
    if isinstance(value, list):
        items = node.items if node is not None else None
        keep = preserve or (node is not None and node.preserve)
        return value if items is None and keep else _settled_list(value, items, defaults, keep)
    return value


def _settled_map(
    value: dict[str, Any], node: Node | None, root: bool, defaults: bool, preserve: bool
) -> dict[str, Any]:
    if node is None:
        return value if not value or (root and value.keys() <= _META) else {}
    result: dict[str, Any] | None = None

    def changing() -> dict[str, Any]:
        nonlocal result
        if result is None:
            result = dict(value)
        return result

    keeps_meta = node.embedded or root
    for key, item in value.items():
        child = node.properties.get(key) or node.more
        if keeps_meta and key in _META:
            if node.embedded and key == "metadata" and (coerced := _coerced(item)) != item:
                changing()[key] = coerced
            continue
        if child is None:
            if not (node.preserve or preserve):
                del changing()[key]
            continue
        if item is None and not child.nullable:
            if child.default is _ABSENT:
                del changing()[key]
                continue
            item = _copied(child.default)
        new = settled(item, child, defaults=defaults) if type(item) in _WALKED else item
        if new is not value[key]:
            changing()[key] = new
    if defaults:
        for key, child in node.properties.items():
            if child.default is not _ABSENT and key not in value and not (root and key in _META):
                changing()[key] = settled(_copied(child.default), child)
    return value if result is None else result


_WALKED = (dict, list, decoding.WithDuplicates)


def _settled_list(value: list[Any], items: Node | None, defaults: bool, preserve: bool) -> list[Any]:
    result: list[Any] | None = None
    for index, item in enumerate(value):
        if item is None and items is not None and not items.nullable and items.default is not _ABSENT:
            item = _copied(items.default)
        new = settled(item, items, defaults=defaults, preserve=preserve) if type(item) in _WALKED else item
        if new is not value[index]:
            if result is None:
                result = list(value)
            result[index] = new
    return value if result is None else result


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


# -- embedded resources -----------------------------------------------------------------------------------------------


def _coerced(metadata: Any) -> Any:
    """Metadata of an embedded object with only the fields that metadata has."""
    if not isinstance(metadata, dict):
        return metadata
    try:
        found = to_dict(decoding.convert(metadata, meta_v1.ObjectMeta))
    except decoding.DecodeError:
        return metadata
    return {key: found[key] for key in metadata if key in found}


def embedded_problems(value: Any, node: Node | None, path: str = "") -> str:
    """What is wrong with the types of embedded objects' kind, version and metadata; "" if nothing is."""
    if node is None:
        return ""
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            if node.embedded and key in ("apiVersion", "kind") and not isinstance(item, str):
                return f"{at}: Invalid value: {_shown(item)}: must be a string"
            if node.embedded and key == "metadata":
                problem = _metadata_problem(item)
                if problem:
                    return f"{at}: Invalid value: {_shown(item)}: {problem}"
                continue
            named = node.properties.get(key)
            found = embedded_problems(item, named or node.more, at if named is not None else f"{path}[{key}]")
            if found:
                return found
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found = embedded_problems(item, node.items, f"{path}[{index}]")
            if found:
                return found
    return ""


def _metadata_problem(metadata: Any) -> str:
    if metadata is None:
        return ""
    if not isinstance(metadata, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(metadata), "number")
        return f"json: cannot unmarshal {kind} into Go value of type v1.ObjectMeta"
    try:
        decoding.convert(metadata, meta_v1.ObjectMeta)
    except decoding.DecodeError as error:
        return str(error)
    return ""


def _shown(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


# -- unknown fields ---------------------------------------------------------------------------------------------------


def unknown_fields(content: Any, node: Node | None) -> list[str]:
    """Paths of fields that pruning drops, then those of embedded metadata; each part in order."""
    found: list[str] = []
    embedded: list[str] = []
    if node is None or not node.preserve:
        _unknown(content, node, "", found, embedded, root=True)
    else:
        _skipped(content, node, "", found, embedded)
    return sorted(found) + sorted(embedded)


def _unknown(
    value: Any, node: Node | None, path: str, found: list[str], embedded: list[str], *, root: bool = False
) -> None:
    if node is not None and node.preserve:
        _skipped(value, node, path, found, embedded)
        return
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            if node is not None and node.embedded and key in _META:
                _unknown_metadata(key, item, at, embedded)
                continue
            child = node.child(key) if node is not None else None
            if child is not None:
                _unknown(item, child, at, found, embedded)
            elif not root or key not in _META:
                found.append(at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _unknown(item, node.items if node is not None else None, f"{path}[{index}]", found, embedded)


def _skipped(value: Any, node: Node | None, path: str, found: list[str], embedded: list[str]) -> None:
    """Under x-kubernetes-preserve-unknown-fields: what is specified may still have unknown fields of its own."""
    if node is None:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            if node.embedded and key in _META:
                _unknown_metadata(key, item, at, embedded)
            elif (child := node.child(key)) is not None:
                _unknown(item, child, at, found, embedded)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _skipped(item, node.items, f"{path}[{index}]", found, embedded)


def _unknown_metadata(key: str, value: Any, path: str, embedded: list[str]) -> None:
    if key == "metadata" and isinstance(value, dict):
        for problem in decoding.problems(value, meta_v1.ObjectMeta):
            kind, _, name = problem.partition(' field "')
            if kind == "unknown":
                embedded.append(f"{path}.{name.removesuffix(chr(34))}")
