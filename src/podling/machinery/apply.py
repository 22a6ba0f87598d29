"""Server-side apply: who owns which field, and what an apply or an update makes of an object (KEP-555).

Pure. The schema is a `merge_schema.Node`, managers are field sets by manager. `apply` merges an author's intent into
the live object, both dicts in wire form; `compare` and `update` find out what a plain write changed, and since that
runs on every write, they take objects of generated types as they are. What nobody can own (the name, the version) is
left out of both from the start. What the managers own is kept in metadata.managedFields (see
`apiserver.managed_fields`).

The rules are those of sigs.k8s.io/structured-merge-diff, and so are the words of what does not fit a schema.
"""

from __future__ import annotations

import copy
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from podling.api import meta_v1
from podling.errors import PodlingError
from podling.machinery.field_set import LEAF, SELF, FieldSet, Path, Tree, keyed, text, valued
from podling.machinery.merge_schema import KEY_DEFAULTS, Node, of_type

Object = dict[str, Any]
Struct = msgspec.Struct


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
    """The object does not have the shape of its schema: a field that is not there, a list's item without its keys."""


NOTHING = FieldSet()

#: Fields of metadata that somebody can own (all but upstream's stripSet).
_OWNABLE = frozenset(
    ("annotations", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "labels",
     "ownerReferences")
)  # fmt: skip
_META = of_type(meta_v1.ObjectMeta)
_META_FIELDS = tuple(f for f in _META.fields if f.name in _OWNABLE)
_meta_values = attrgetter(*(f.attribute for f in _META_FIELDS))


def _child(node: Node, name: str, *, root: bool) -> Node:
    return _META if root and name == "metadata" else node.child(name)


# -- which fields an object has --------------------------------------------------------------------------------------


def fields_of(obj: Object, node: Node) -> FieldSet:
    """The fields that an author set, those that nobody can own included. Raises SchemaMismatch."""
    return FieldSet.of(_set_of(obj, node.resolve(obj), root=True))


def _set_of(value: Object, node: Node, *, root: bool = False) -> Tree:
    found: Tree = {}
    for name, child in value.items():
        if root and name in ("apiVersion", "kind"):
            continue
        inner = _child(node, name, root=root).resolve(child)
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
        for element, several in _by_element(value, node).items():
            below = LEAF if len(several) > 1 or not node.keys else _set_below(several[0], inner.resolve(several[0]))
            found[element] = {SELF: LEAF, **below} if below else LEAF
        return found
    if value is None and node.shape in ("map", "list"):
        return {}
    return LEAF


def _by_element(values: list[Any], node: Node, path: Path = ()) -> dict[str, list[Any]]:
    """The items of a merging list by their path elements; live lists may hold one twice. Raises SchemaMismatch."""
    found: dict[str, list[Any]] = {}
    for n, value in enumerate(values):
        element = _element(value, node, path, n)
        if element in found:
            found[element].append(value)
        else:
            found[element] = [value]
    return found


def items(values: list[Any], node: Node, path: Path = ()) -> list[tuple[str, Any]]:
    """The items of a merging list, none of which may be there twice, with their elements. Raises SchemaMismatch."""
    found = _by_element(values, node, path)
    for element, several in found.items():
        if len(several) > 1:
            raise SchemaMismatch(f"{text(path)}: duplicate entries for key {text((element,))}")
    return [(element, several[0]) for element, several in found.items()]


def _element(value: Any, node: Node, path: Path, position: int) -> str:
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


# -- what an intent may say ------------------------------------------------------------------------------------------


def check(intent: Object, node: Node) -> None:
    """Raises SchemaMismatch with everything that does not fit the schema."""
    found: list[str] = []
    _check(intent, node.resolve(intent), (), found)
    if found:
        raise SchemaMismatch(found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {f}" for f in found))


def _check(value: Any, node: Node, path: Path, found: list[str]) -> None:
    if value is None:
        return
    problem = _misfit(value, node)
    if problem:
        found.append(f"{text(path)}: {problem}")
    elif isinstance(value, dict):
        for name, child in value.items():
            below = (*path, f"f:{name}")
            if not path and name in ("apiVersion", "kind"):
                continue
            inner = _child(node, name, root=not path)
            if not node.open and name not in node.names and (path or name != "metadata"):
                found.append(f"{text(below)}: field not declared in schema")
                return
            _check(child, inner.resolve(child), below, found)
    elif isinstance(value, list):
        inner = node.item()
        try:
            named = items(value, node, path) if node.shape == "list" else [(f"i:{n}", v) for n, v in enumerate(value)]
        except SchemaMismatch as error:
            found.append(str(error))
            return
        for element, child in named:
            _check(child, inner.resolve(child), (*path, element), found)


def _misfit(value: Any, node: Node) -> str:
    """Why a value can't be of this schema, "" if it can. Of what is replaced as a whole little is known."""
    if node.shape == "scalar" and not (node.scalar == "" and isinstance(value, dict | list)):
        if node.scalar == "string" and not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{_go(value)}}}"
        if node.scalar == "numeric" and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"expected numeric (int or float), got {_go_type(value)}"
        if node.scalar == "boolean" and not isinstance(value, bool):
            return f"expected boolean, got &{{{_go(value)}}}"
    if node.shape == "map" and not isinstance(value, dict):
        return f"expected map, got &{{{_go(value)}}}"
    if node.shape == "list" and not isinstance(value, list):
        return f"expected list, got &{{{_go(value)}}}"
    return ""


def _go(value: Any) -> str:
    """As Go prints a value."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{k}:{_go(v)}' for k, v in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def _go_type(value: Any) -> str:
    kinds = {str: "string", bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}
    return next((go for kind, go in kinds.items() if isinstance(value, kind)), "<nil>")


# -- merging ---------------------------------------------------------------------------------------------------------


def merge(live: Any, intent: Any, node: Node, *, root: bool = False) -> Any:
    """`live` with all that `intent` says; neither is changed. Raises SchemaMismatch."""
    node = node.resolve(live if intent is None else intent)
    if intent is None and isinstance(live, dict | list) and node.shape in ("map", "list"):
        return copy.deepcopy(live)
    if node.shape == "map" and isinstance(live, dict) and isinstance(intent, dict):
        merged: Object = {}
        for name, value in live.items():
            if name in intent:
                merged[name] = merge(value, intent[name], _child(node, name, root=root))
            else:
                merged[name] = copy.deepcopy(value)
        for name, value in intent.items():
            if name not in live:
                merged[name] = copy.deepcopy(value)
        return merged
    if node.shape == "list" and isinstance(live, list) and isinstance(intent, list):
        return _merge_lists(live, intent, node)
    return copy.deepcopy(intent)


def _merge_lists(live: list[Any], intent: list[Any], node: Node) -> list[Any]:
    """The intent's order wins among its own items; the others keep their places between them.

    Both lists are read side by side. Where they stand at the same item, it is taken from both. An item that only the
    live list has is taken where it stands. One that both have but that is not the next shared one of the intent is
    passed over in the live list, for the intent will bring it; in all other cases the intent's next item is taken.
    """
    new = dict(items(intent, node))
    old = _by_element(live, node)
    before = [_element(value, node, (), n) for n, value in enumerate(live)]
    after = list(new)
    shared = [element for element in after if element in old]
    inner = node.item()
    taken: set[str] = set()
    merged: list[Any] = []

    def take(element: str) -> None:
        taken.add(element)
        several = old.get(element, ())
        value = new[element]
        merged.append(merge(several[0], value, inner) if len(several) == 1 else copy.deepcopy(value))

    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before):
            element = before[i]
            if j < len(after) and element == after[j]:
                take(element)
                shared = shared[1:]
                i, j = i + 1, j + 1
                continue
            if element not in new:
                merged.append(copy.deepcopy(live[i]))
                i += 1
                continue
            if element in taken or (j < len(after) and shared and shared[0] != element):
                i += 1
                continue
        if j < len(after):
            take(after[j])
            if shared and shared[0] == after[j]:
                shared = shared[1:]
            j += 1
    return merged


# -- comparing -------------------------------------------------------------------------------------------------------


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
    for f, a, b in zip(_META_FIELDS, _meta_of(old), _meta_of(new), strict=True):
        if a is not b and a != b:
            _step(a, b, f.node, f.always, f.element, *trees)
    for into, tree in zip((added, modified, removed), trees, strict=True):
        if tree:
            into["f:metadata"] = tree


def _meta_of(meta: Any) -> tuple[Any, ...]:
    """The values of what can be owned in metadata."""
    if isinstance(meta, Struct):
        found: tuple[Any, ...] = _meta_values(meta)
        return found
    return tuple((meta or {}).get(f.name) for f in _META_FIELDS)


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
    before, after = _by_element(old, node), _by_element(new, node)
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
            for element, several in _by_element(value, node).items():
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


# -- who owns what ---------------------------------------------------------------------------------------------------


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
    kept = {f.element: meta[f.element] for f in _META_FIELDS if f.element in meta}
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
        inner = _child(node, name, root=root) if is_field else node.item()
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
                left[name] = _without(child, _child(node, name, root=root).resolve(child), below)
        return left or None
    if node.shape == "list" and isinstance(value, list) and value:
        kept = []
        inner_node = node.item()
        for n, item in enumerate(value):
            below = paths.get(_element(item, node, (), n))
            if below is None:
                kept.append(item)
            elif below and SELF not in below:
                kept.append(_without(item, inner_node.resolve(item), below))
        return kept or None
    return value if node.shape == "scalar" or not value else None
