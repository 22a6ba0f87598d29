"""Which fields an object has, as a field set: by its schema, lists by their keys."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec

from podling.api import meta_v1
from podling.errors import PodlingError
from podling.machinery.field_set import LEAF, SELF, FieldSet, Path, Tree, keyed, text, valued
from podling.machinery.merge_schema import KEY_DEFAULTS, Node, of_type

Object = dict[str, Any]
Struct = msgspec.Struct


class SchemaMismatch(PodlingError):
    """The object does not have the shape of its schema: a field that is not there, a list's item without its keys."""


NOTHING = FieldSet()

#: Fields of metadata that somebody can own (all but upstream's stripSet).
_OWNABLE = frozenset(
    ("annotations", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "labels",
     "ownerReferences")
)  # fmt: skip
_META = of_type(meta_v1.ObjectMeta)
META_FIELDS = tuple(f for f in _META.fields if f.name in _OWNABLE)
meta_values = attrgetter(*(f.attribute for f in META_FIELDS))


def child_of(node: Node, name: str, *, root: bool) -> Node:
    return _META if root and name == "metadata" else node.child(name)


def fields_of(obj: Object, node: Node) -> FieldSet:
    """The fields that an author set, those that nobody can own included. Raises SchemaMismatch."""
    return FieldSet.of(_set_of(obj, node.resolve(obj), root=True))


def _set_of(value: Object, node: Node, *, root: bool = False) -> Tree:
    found: Tree = {}
    for name, child in value.items():
        if root and name in ("apiVersion", "kind"):
            continue
        inner = child_of(node, name, root=root).resolve(child)
        below = _set_below(child, inner)
        whole = child is None or (isinstance(child, dict) and not child) or name not in node.names
        if below is LEAF or whole:
            found[f"f:{name}"] = {SELF: LEAF, **below} if below else LEAF
        elif below:
            found[f"f:{name}"] = below
    return found


def _set_below(value: Any, node: Node) -> Tree:
    """LEAF itself if the value is a leaf; another empty tree if there is nothing to own in it."""
    if node.shape == "map" and isinstance(value, dict):
        return _set_of(value, node)
    if node.shape == "list" and isinstance(value, list):
        found: Tree = {}
        inner = node.item()
        for element, several in by_element(value, node).items():
            below = LEAF if len(several) > 1 or not node.keys else _set_below(several[0], inner.resolve(several[0]))
            found[element] = {SELF: LEAF, **below} if below else LEAF
        return found
    if value is None and node.shape in ("map", "list"):
        return {}
    return LEAF


def by_element(values: list[Any], node: Node, path: Path = ()) -> dict[str, list[Any]]:
    """The items of a merging list by their path elements; live lists may hold one twice. Raises SchemaMismatch."""
    found: dict[str, list[Any]] = {}
    for n, value in enumerate(values):
        element = element_of(value, node, path, n)
        if element in found:
            found[element].append(value)
        else:
            found[element] = [value]
    return found


def items(values: list[Any], node: Node, path: Path = ()) -> list[tuple[str, Any]]:
    """The items of a merging list, none of which may be there twice, with their elements. Raises SchemaMismatch."""
    found = by_element(values, node, path)
    for element, several in found.items():
        if len(several) > 1:
            raise SchemaMismatch(f"{text(path)}: duplicate entries for key {text((element,))}")
    return [(element, several[0]) for element, several in found.items()]


def element_of(value: Any, node: Node, path: Path, position: int) -> str:
    if not node.keys:
        if isinstance(value, dict | list) or value is None:
            kind = "a map type" if isinstance(value, dict) else "an explicit null"
            why = f"associative list without keys has an element that's {kind}"
            if isinstance(value, list):
                why = "not supported: associative list with lists as elements"
            raise SchemaMismatch(f"{text(path)}: element {position}: {why}")
        return valued(value)
    keys: dict[str, Any] = {}
    if isinstance(value, Struct):
        for key, attribute in node.key_attributes:
            said = getattr(value, attribute)
            keys[key] = KEY_DEFAULTS.get(key) if said is None else said
            if keys[key] is None:
                del keys[key]
    elif isinstance(value, dict):
        for key in node.keys:
            if value.get(key) is not None:
                keys[key] = value[key]
            elif key in KEY_DEFAULTS and key in (node.item().names or node.keys):
                keys[key] = KEY_DEFAULTS[key]
    else:
        what = "a null element" if value is None else "non-map elements"
        raise SchemaMismatch(f"{text(path)}: element {position}: associative list with keys may not have {what}")
    if not keys:
        listed = " ".join(f'"{key}"' for key in node.keys)
        raise SchemaMismatch(
            f"{text(path)}: element {position}: associative list with keys has an element that omits all key fields "
            f"[{listed}] (and doesn't have default values for any key fields)"
        )
    return keyed(keys)
