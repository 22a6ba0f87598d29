"""Who owns what after an apply or an update, and what an apply takes away."""

from __future__ import annotations

from typing import Any, NamedTuple

from podling.machinery.apply.compare import Difference, compare
from podling.machinery.apply.fields import META_FIELDS, NOTHING, Object, child_of, element_of, fields_of
from podling.machinery.apply.intent import check
from podling.machinery.apply.managers import ApplyConflict, Conflict, Manager, Managers
from podling.machinery.apply.merge import merge
from podling.machinery.field_set import LEAF, SELF, FieldSet, Tree
from podling.machinery.merge_schema import Node


def update(
    live: Any, new: Any, node: Node, managers: Managers, manager: Manager, *, ignored: FieldSet = NOTHING
) -> Managers:
    """Who owns what after a plain write of `new` over `live` by `manager`. Raises SchemaMismatch."""
    return taken(compare(live, new, node, ignored), managers, manager)


def taken(changed: Difference, managers: Managers, manager: Manager) -> Managers:
    """Who owns what after `manager` changed so much; a set that stays the same stays the same object."""
    touched = changed.added | changed.modified
    result: Managers = {}
    for other, fields in managers.items():
        kept = fields - changed.removed
        if other != manager:
            kept = kept - touched
        if kept:
            result[other] = kept
    mine = result.get(manager, NOTHING) | touched
    if mine:
        result[manager] = mine
    return result


class Applied(NamedTuple):
    """The object as it is to be, and who then owns what."""

    object: Object
    managers: Managers


def apply(
    live: Object,
    intent: Object,
    node: Node,
    managers: Managers,
    manager: Manager,
    *,
    force: bool,
    ignored: FieldSet = NOTHING,
) -> Applied:
    """Merge `intent` into `live` as `manager`. `ignored` are fields that this endpoint does not write.

    Raises ApplyConflict unless `force`, SchemaMismatch.
    """
    check(intent, node)
    said = fields_of(intent, node).without(ignored)
    merged: Object = merge(live, {k: v for k, v in intent.items() if k not in ("apiVersion", "kind")}, node, root=True)
    others = {m: fields for m, fields in managers.items() if m != manager}
    merged = _prune(merged, node, managers.get(manager, NOTHING), said, list(others.values()))
    changed = compare(live, merged, node, ignored)
    touched = changed.added | changed.modified
    conflicts = {m: both for m, fields in others.items() if (both := fields & touched)}
    if conflicts and not force:
        raise ApplyConflict(
            [Conflict(m, path) for m in sorted(conflicts) for path in FieldSet.from_wire(conflicts[m].to_wire())]
        )
    result: Managers = {}
    for other, fields in others.items():
        kept = (fields - conflicts[other] if other in conflicts else fields) - changed.removed
        if kept:
            result[other] = kept
    mine = _owned(said)
    if mine:
        result[manager] = mine
    return Applied(merged, result)


def _owned(fields: FieldSet) -> FieldSet:
    """Without what nobody can own."""
    tree = {e: below for e, below in fields.tree.items() if e not in ("f:apiVersion", "f:kind", "f:metadata")}
    meta = fields.tree.get("f:metadata", LEAF)
    kept = {f.element: meta[f.element] for f in META_FIELDS if f.element in meta}
    if kept:
        tree["f:metadata"] = kept
    return FieldSet.of(tree)


def _prune(merged: Object, node: Node, before: FieldSet, said: FieldSet, others: list[FieldSet]) -> Object:
    """Without what the manager owned and no longer says, unless somebody else owns it or something in it.

    First everything goes that it owned, then what others own comes back, then what nobody owned comes back.
    """
    if not before - said:
        return merged
    owned = said
    for fields in others:
        owned = owned | fields
    last = _named(before, node)
    everything = _named(fields_of(merged, node), node)
    kept = _named(fields_of(remove(merged, node, last), node), node) | _named(owned, node)
    remaining = _named(fields_of(remove(merged, node, everything - kept), node), node)
    pruned = remove(merged, node, (everything - remaining) & last)
    _drop_nulls(pruned, merged)
    return pruned


def _drop_nulls(pruned: Object, merged: Object) -> None:
    """Take away what is null because it lost all that was in it."""
    for name in list(pruned):
        value, was = pruned[name], merged.get(name)
        if value is None and was is not None:
            del pruned[name]
        elif value is not was and isinstance(value, dict) and isinstance(was, dict):
            _drop_nulls(value, was)


def _named(fields: FieldSet, node: Node) -> FieldSet:
    """With the declared fields on the way to its paths, such as .spec of .spec.replicas."""
    return FieldSet.of(_name(fields.tree, node, root=True))


def _name(tree: Tree, node: Node, *, root: bool = False) -> Tree:
    found: Tree = {}
    for element, below in tree.items():
        if not below:
            found[element] = below
            continue
        name = element[2:]
        is_field = element.startswith("f:")
        inner = child_of(node, name, root=root) if is_field else node.item()
        named = _name(below, inner)
        if is_field and (name in node.names or (root and name == "metadata")) and SELF not in named:
            named = {SELF: LEAF, **named}
        found[element] = named
    return found


def remove(obj: Object, node: Node, paths: FieldSet) -> Object:
    """A copy without the fields. A list or map that loses all that is in it is null then."""
    left = _without(obj, node.resolve(obj), paths.tree, root=True)
    return left if left is not None else {}


def _without(value: Any, node: Node, paths: Tree, *, root: bool = False) -> Any:
    """None if nothing is left."""
    if node.shape == "map" and isinstance(value, dict) and value:
        left: Object = {}
        for name, child in value.items():
            below = paths.get(f"f:{name}")
            if below is None:
                left[name] = child
            elif below and SELF not in below:
                left[name] = _without(child, child_of(node, name, root=root).resolve(child), below)
        return left or None
    if node.shape == "list" and isinstance(value, list) and value:
        kept = []
        inner_node = node.item()
        for n, item in enumerate(value):
            below = paths.get(element_of(item, node, (), n))
            if below is None:
                kept.append(item)
            elif below and SELF not in below:
                kept.append(_without(item, inner_node.resolve(item), below))
        return kept or None
    return value if node.shape == "scalar" or not value else None
