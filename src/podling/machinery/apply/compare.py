"""What changed between two versions of an object: what was added, modified and removed, as field sets."""

from __future__ import annotations

from typing import Any, NamedTuple

from podling.machinery.apply.fields import META_FIELDS, NOTHING, Struct, by_element, meta_values
from podling.machinery.field_set import LEAF, SELF, FieldSet, Tree
from podling.machinery.merge_schema import Node


class Difference(NamedTuple):
    """Fields that only the new object has, that both have with different values, and that only the old one had."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet


def compare(old: Any, new: Any, node: Node, ignored: FieldSet = NOTHING) -> Difference:
    """What changed between two objects, but for the `ignored` fields and those that nobody can own.

    Both are dicts or both objects of the same generated type. Raises SchemaMismatch.
    """
    added: Tree = {}
    modified: Tree = {}
    removed: Tree = {}
    node = node.resolve(new)
    whole = ignored.tree
    for name, element, a, b, inner, always in _pairs(old, new, node):
        if name == "metadata":
            _compare_meta(a, b, added, modified, removed)
        elif name not in ("kind", "apiVersion") and (element not in whole or whole[element]):
            _step(a, b, inner, always, element, added, modified, removed)
    if any(whole.values()):
        fields = FieldSet.of(added), FieldSet.of(modified), FieldSet.of(removed)
        return Difference(*(f.without(ignored) for f in fields))
    return Difference(*(FieldSet.of(tree) if tree else NOTHING for tree in (added, modified, removed)))


def _compare_meta(old: Any, new: Any, added: Tree, modified: Tree, removed: Tree) -> None:
    trees: tuple[Tree, Tree, Tree] = ({}, {}, {})
    for f, a, b in zip(META_FIELDS, _meta_of(old), _meta_of(new), strict=True):
        if a is not b and a != b:
            _step(a, b, f.node, f.always, f.element, *trees)
    for into, tree in zip((added, modified, removed), trees, strict=True):
        if tree:
            into["f:metadata"] = tree


def _meta_of(meta: Any) -> tuple[Any, ...]:
    """The values of what can be owned in metadata."""
    if isinstance(meta, Struct):
        found: tuple[Any, ...] = meta_values(meta)
        return found
    return tuple((meta or {}).get(f.name) for f in META_FIELDS)


_Pair = tuple[str, str, Any, Any, Node, bool]


def _pairs(old: Any, new: Any, node: Node) -> list[_Pair]:
    """The fields of two maps that differ: name, element, old and new value, schema, whether it is always there."""
    if isinstance(old, dict) and isinstance(new, dict):
        always = node.always
        names = [n for n in new if n not in old or old[n] != new[n]] + [n for n in old if n not in new]
        return [(n, f"f:{n}", old.get(n), new.get(n), node.child(n), n in always) for n in names]
    found: list[_Pair] = []
    if type(old) is type(new):
        values = node.values
        for f, a, b in zip(node.fields, values(old), values(new), strict=True):
            if a is not b and a != b:
                found.append((f.name, f.element, a, b, f.node, f.always))
        return found
    said = old if isinstance(old, dict) else new if isinstance(new, dict) else None
    for attribute, name, element, child, always_, _ in node.fields:
        if said is not None and name not in said:
            # A dict beside an object in which nobody wrote anything: only what it says differs.
            continue
        a = old[name] if isinstance(old, dict) else getattr(old, attribute)
        b = new[name] if isinstance(new, dict) else getattr(new, attribute)
        if a is not b and a != b:
            found.append((name, element, a, b, child, always_))
    return found


def _step(
    old: Any, new: Any, node: Node, always: bool, element: str, added: Tree, modified: Tree, removed: Tree
) -> None:
    """Compare two values, and put what is found below `element` into the trees."""
    if old is new or old == new:
        return
    if always and (old is None or new is None) and isinstance(old if new is None else new, dict | Struct):
        old, new = node.blank if old is None else old, node.blank if new is None else new
    if old is None:
        added[element] = _whole(new, node)
        return
    if new is None:
        removed[element] = _whole(old, node)
        return
    node = node.resolve(new)
    trees: tuple[Tree, Tree, Tree] = ({}, {}, {})
    if node.shape == "map" and isinstance(old, dict | Struct) and isinstance(new, dict | Struct):
        for _, below, a, b, inner, always_ in _pairs(old, new, node):
            _step(a, b, inner, always_, below, *trees)
    elif node.shape == "list" and isinstance(old, list) and isinstance(new, list):
        _compare_lists(old, new, node, *trees)
    else:
        modified[element] = LEAF
        return
    for into, tree in zip((added, modified, removed), trees, strict=True):
        if tree:
            into[element] = tree


def _compare_lists(old: list[Any], new: list[Any], node: Node, added: Tree, modified: Tree, removed: Tree) -> None:
    before, after = by_element(old, node), by_element(new, node)
    inner = node.item()
    for element in {**before, **after}:
        was, now = before.get(element, []), after.get(element, [])
        if len(was) <= 1 and len(now) <= 1:
            a, b = was[0] if was else None, now[0] if now else None
            if not node.keys:
                if a is None or b is None:
                    (added if a is None else removed)[element] = LEAF
            else:
                _step(a, b, inner, False, element, added, modified, removed)
        elif len(was) > 1 and len(now) > 1:
            if was != now:
                modified[element] = LEAF
        # An item that is there more than once is owned as a whole.
        elif len(was) > 1:
            if now and node.keys:
                added[element] = _whole(now[0], inner)
            removed[element] = LEAF
        else:
            if was and node.keys:
                removed[element] = _whole(was[0], inner)
            added[element] = LEAF


def _whole(value: Any, node: Node) -> Tree:
    """Of a value that is new, or gone, as a whole: itself and everything in it."""
    node = node.resolve(value)
    shape = node.shape
    if shape == "scalar" or shape == "atomic":
        return LEAF
    found: Tree = {SELF: LEAF}
    if shape == "list":
        if isinstance(value, list):
            inner = node.item()
            for element, several in by_element(value, node).items():
                found[element] = _whole(several[0], inner) if node.keys and len(several) == 1 else LEAF
    elif isinstance(value, dict):
        for name, child in value.items():
            found[f"f:{name}"] = _whole(child, node.child(name))
        for name in node.always:
            if name not in value:
                found[f"f:{name}"] = LEAF
    elif isinstance(value, Struct):
        for f, child in zip(node.fields, node.values(value), strict=True):
            if child is not None:
                found[f.element] = LEAF if f.leaf else _whole(child, f.node)
            elif f.always:
                found[f.element] = LEAF
    return found if len(found) > 1 else LEAF
