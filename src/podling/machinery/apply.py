"""Server-side apply: who owns which field, and what an apply or an update makes of an object (KEP-555).

Pure: objects are wire-form dicts, the schema is a `merge_schema.Node`, managers are field sets by manager. `apply`
merges an author's intent into the live object; `update` finds out what a plain write changed. What the managers own is
kept in metadata.managedFields (see `managed_fields`).
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from podling.errors import PodlingError
from podling.machinery.field_set import FieldSet, Path, field, keyed, text, valued
from podling.machinery.merge_schema import KEY_DEFAULTS, Node

Object = dict[str, Any]


class Manager(NamedTuple):
    """Who wrote: a field manager by operation (Apply or Update), API version and subresource."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""


Managers = dict[Manager, FieldSet]


class Conflict(NamedTuple):
    """A field that another manager owns with another value."""

    manager: Manager
    path: Path

    def __str__(self) -> str:
        return text(self.path)


class ApplyConflict(PodlingError):
    """The intent contradicts other managers; nothing was changed."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts


class SchemaMismatch(PodlingError):
    """The object does not have the shape of its schema (a list with keys holds an item without them, or one twice)."""


# -- which fields an object has --------------------------------------------------------------------------------------


def fields_of(obj: Object, node: Node) -> FieldSet:
    """The fields that an author set."""
    found: list[Path] = []
    _collect(obj, node.resolve(obj), (), found)
    return FieldSet(found)


def _collect(value: Any, node: Node, path: Path, found: list[Path]) -> None:
    if node.shape == "map" and isinstance(value, dict):
        for name, child in value.items():
            below = (*path, field(name))
            inner = node.child(name).resolve(child)
            if child is None or (isinstance(child, dict) and not child) or not node.struct:
                found.append(below)
            _collect(child, inner, below, found)
    elif node.shape == "list" and isinstance(value, list):
        inner = node.item()
        for element, child in items(value, node, path):
            below = (*path, element)
            found.append(below)
            if node.keys:
                _collect(child, inner.resolve(child), below, found)
    elif path and value is not None:
        found.append(path)


def items(values: list[Any], node: Node, path: Path = ()) -> list[tuple[str, Any]]:
    """The items of a merging list with their path elements. Raises SchemaMismatch."""
    named: dict[str, Any] = {}
    for n, value in enumerate(values):
        element = _element(value, node, path, n)
        if element in named:
            raise SchemaMismatch(f"{text(path)}: duplicate entries for key {text((element,))}")
        named[element] = value
    return list(named.items())


def _element(value: Any, node: Node, path: Path, position: int) -> str:
    if not node.keys:
        return valued(value)
    if not isinstance(value, dict):
        raise SchemaMismatch(f"{text(path)}: element {position}: expected map, got {value!r}")
    keys: dict[str, Any] = {}
    for key in node.keys:
        if value.get(key) is not None:
            keys[key] = value[key]
        elif key in KEY_DEFAULTS:
            keys[key] = KEY_DEFAULTS[key]
    if not keys:
        listed = ", ".join(f'"{key}"' for key in node.keys)
        raise SchemaMismatch(f"{text(path)}: element {position}: associative list with keys has an element that omits "
                             f"key field {listed} (and doesn't have default value)")  # fmt: skip
    return keyed(keys)


# -- merging and comparing -------------------------------------------------------------------------------------------


def merge(live: Any, intent: Any, node: Node) -> Any:
    """`live` with all that `intent` says; neither is changed."""
    node = node.resolve(intent)
    if node.shape == "map" and isinstance(live, dict) and isinstance(intent, dict):
        merged = {name: copy.deepcopy(value) for name, value in live.items() if name not in intent}
        both = {n: merge(live.get(n), v, node.child(n)) for n, v in intent.items()}
        return {**{n: both.pop(n) if n in both else merged[n] for n in live}, **both}
    if node.shape == "list" and isinstance(live, list) and isinstance(intent, list):
        return _merge_lists(live, intent, node)
    return copy.deepcopy(intent)


def _merge_lists(live: list[Any], intent: list[Any], node: Node) -> list[Any]:
    """The intent's order wins among its own items; the others keep their places between them."""
    old, new = dict(items(live, node)), dict(items(intent, node))
    order: list[str] = []
    wanted = list(new)
    for element in old:
        if element not in new:
            order.append(element)
            continue
        # An item of both: everything that the intent has before it comes first.
        if element in wanted:
            cut = wanted.index(element) + 1
            order += wanted[:cut]
            wanted = wanted[cut:]
    order += wanted
    inner = node.item()
    return [
        merge(old.get(e), new[e], inner) if e in new and e in old else copy.deepcopy(new.get(e, old.get(e)))
        for e in order
    ]


class Difference(NamedTuple):
    """Fields that only the new object has, that both have with different values, and that only the old one had."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet


def compare(old: Object, new: Object, node: Node) -> Difference:
    """What changed between two objects."""
    added: list[Path] = []
    modified: list[Path] = []
    removed: list[Path] = []
    _compare(old, new, node, (), added, modified, removed)
    return Difference(FieldSet(added), FieldSet(modified), FieldSet(removed))


def _compare(
    old: Any, new: Any, node: Node, path: Path, added: list[Path], modified: list[Path], removed: list[Path]
) -> None:
    if old == new:
        return
    if old is None or new is None:
        value, into = (new, added) if old is None else (old, removed)
        if path:
            _whole(value, node.resolve(value), path, into)
        return
    shape = node.resolve(new)
    if shape.shape == "map" and isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            below = (*path, field(name))
            _compare(old.get(name), new.get(name), shape.child(name), below, added, modified, removed)
    elif shape.shape == "list" and isinstance(old, list) and isinstance(new, list):
        before, after = dict(items(old, shape, path)), dict(items(new, shape, path))
        for element in {**before, **after}:
            _compare(before.get(element), after.get(element), shape.item(), (*path, element), added, modified, removed)
    else:
        modified.append(path)


def _whole(value: Any, node: Node, path: Path, into: list[Path]) -> None:
    """A value that is new, or gone, as a whole: its fields, and the containers without declared fields themselves."""
    if node.shape == "map" and isinstance(value, dict):
        if not node.struct or not value:
            into.append(path)
        for name, child in value.items():
            _whole(child, node.child(name).resolve(child), (*path, field(name)), into)
    elif node.shape == "list" and isinstance(value, list):
        into.append(path)
        inner = node.item()
        for element, child in items(value, node, path):
            if node.keys:
                into.append((*path, element))
                _whole(child, inner.resolve(child), (*path, element), into)
            else:
                into.append((*path, element))
    else:
        into.append(path)


# -- who owns what ---------------------------------------------------------------------------------------------------

#: Fields that nobody owns (upstream's stripSet).
UNOWNED = frozenset(
    [(field("apiVersion"),), (field("kind"),), (field("metadata"),)]
    + [
        (field("metadata"), field(name))
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
            "resourceVersion",
        )
    ]
)  # fmt: skip


def _owned(fields: FieldSet) -> FieldSet:
    return fields.filter(lambda path: path[:2] not in UNOWNED and path not in UNOWNED)


class Applied(NamedTuple):
    """The object as it is to be, and who then owns what."""

    object: Object
    managers: Managers


def apply(
    live: Object, intent: Object, node: Node, managers: Managers, manager: Manager, *, force: bool, ignored: FieldSet
) -> Applied:
    """Merge `intent` into `live` as `manager`. `ignored` are fields that this endpoint does not write.

    Raises ApplyConflict unless `force`, SchemaMismatch.
    """
    stripped = {k: v for k, v in intent.items() if k not in ("apiVersion", "kind")}
    mine = _owned(fields_of(stripped, node)).without(ignored)
    merged = merge(live, stripped, node)
    before = managers.get(manager, FieldSet())
    others = {m: fields for m, fields in managers.items() if m != manager}
    elsewhere = FieldSet(path for fields in others.values() for path in fields)
    remove(merged, node, _leaving(before, mine, elsewhere))
    changed = compare(live, merged, node)
    touched = changed.added | changed.modified
    conflicts = [
        Conflict(other, path) for other, fields in others.items() for path in sorted(fields & touched) if path in mine
    ]
    if conflicts and not force:
        raise ApplyConflict(conflicts)
    lost = FieldSet(c.path for c in conflicts)
    result = {m: kept for m, fields in others.items() if (kept := (fields - lost).without(changed.removed))}
    if mine:
        result[manager] = mine
    return Applied(merged, result)


def _leaving(before: FieldSet, mine: FieldSet, elsewhere: FieldSet) -> FieldSet:
    """What the manager owned and no longer says, and nobody else owns, nor anything below it."""
    kept: set[Path] = set()
    for path in (*mine, *elsewhere):
        kept.update(path[:n] for n in range(1, len(path) + 1))
    return FieldSet(path for path in before if path not in kept)


def remove(obj: Object, node: Node, paths: FieldSet) -> None:
    """Take the fields away, in place; containers that this empties go only if they are named themselves."""
    for path in paths:
        # What lies below something that goes, goes with it.
        if not any(path[:n] in paths for n in range(1, len(path))):
            _remove(obj, node, path)


def _remove(value: Any, node: Node, path: Path) -> None:
    node = node.resolve(value)
    element, rest = path[0], path[1:]
    if element.startswith("f:") and isinstance(value, dict):
        name = element[2:]
        if name not in value:
            return
        if rest:
            _remove(value[name], node.child(name), rest)
        else:
            del value[name]
    elif node.shape == "list" and isinstance(value, list):
        for n, (found, child) in enumerate(items(value, node)):
            if found == element:
                if rest:
                    _remove(child, node.item(), rest)
                else:
                    del value[n]
                return


def update(
    live: Object, new: Object, node: Node, managers: Managers, manager: Manager, *, ignored: FieldSet
) -> Managers:
    """Who owns what after a plain write of `new` over `live` by `manager`."""
    changed = compare(live, new, node)
    touched = _owned(changed.added | changed.modified).without(ignored)
    gone = _owned(changed.removed)
    result: Managers = {}
    for other, fields in managers.items():
        kept = fields.without(gone)
        if other != manager:
            kept = kept - touched
        if kept:
            result[other] = kept
    mine = result.get(manager, FieldSet()) | touched
    if mine:
        result[manager] = mine
    return result
