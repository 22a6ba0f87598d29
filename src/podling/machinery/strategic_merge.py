"""Strategic merge patches: lists merge by key, driven by the merge keys on the generated types.

The rules are those of k8s.io/apimachinery's strategicpatch, directives included: `$patch` (replace, delete, merge),
`$retainKeys`, `$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>`. Failures carry its texts.
"""

from __future__ import annotations

import copy
from typing import Any

from podling.errors import PodlingError
from podling.machinery import typeinfo

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PREFIX = "$deleteFromPrimitiveList"
_ORDER_PREFIX = "$setElementOrder"

Object = dict[str, Any]


class PatchError(PodlingError):
    """The patch can't be applied (upstream: HTTP 500 unless one of the subclasses)."""


class MalformedPatch(PatchError):
    """A directive has the wrong shape (HTTP 400)."""


class UnprocessablePatch(PatchError):
    """The patch asks for what can't be done (HTTP 422)."""


def apply(original: Object, patch: Object, type_: type[Any]) -> Object:
    """The patched object. `type_` is the generated class of both; neither argument is changed. Raises PatchError."""
    return _merge_map(copy.deepcopy(original), copy.deepcopy(patch), type_)


# In this module `struct` is the generated class of a map, or None for a map without declared fields (labels).


def _field(struct: type[Any] | None, name: str) -> typeinfo.FieldInfo | None:
    return None if struct is None else typeinfo.fields(struct).get(name)


def _strategy(field: typeinfo.FieldInfo | None) -> str:
    return next((s for s in field.patch if s != "retainKeys"), "") if field else ""


def _merge_map(original: Object, patch: Object, struct: type[Any] | None) -> Object:
    if _DIRECTIVE in patch:
        directive = patch[_DIRECTIVE]
        if directive == "replace":
            return {k: v for k, v in patch.items() if k != _DIRECTIVE}
        if directive == "delete":
            return {}
        raise PatchError(f"unknown patch type: {directive} in map: {_go_map(patch)}")
    _retain_keys(original, patch)
    _apply_orders(original, patch, struct)
    for name, value in patch.items():
        _merge_value(original, name, value, struct)
    return original


def _merge_value(original: Object, name: str, value: Any, struct: type[Any] | None) -> None:
    deletions = name.startswith(_DELETE_PREFIX)
    if deletions:
        name = _directive_key(name, _DELETE_PREFIX, "invalid patch format of primitive list")
    if value is None:
        original.pop(name, None)
        return
    current: Any = original.get(name)
    if name not in original or _kind(current) != _kind(value):
        if not deletions:
            kept = _without_directives(_without_nulls(value))
            if kept is None:
                original.pop(name, None)
            else:
                original[name] = kept
        return
    field = _field(struct, name)
    if isinstance(value, dict):
        child = field.struct if field and not field.shape else None
        if _strategy(field) == "replace":
            original[name] = value
        else:
            original[name] = _merge_map(current, value, child)
    elif isinstance(value, list):
        original[name] = _merge_list(current, value, field, deletions=deletions)
    else:
        original[name] = value


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _retain_keys(original: Object, patch: Object) -> None:
    if _RETAIN not in patch:
        return
    kept = patch.pop(_RETAIN)
    if not isinstance(kept, list):
        raise MalformedPatch("invalid patch format of retainKeys")
    for name, value in patch.items():
        if value is not None and not name.startswith((_DELETE_PREFIX, _ORDER_PREFIX)) and name not in kept:
            raise MalformedPatch("invalid patch format of retainKeys")
    for name in [n for n in original if n not in kept]:
        del original[name]


def _directive_key(name: str, prefix: str, problem: str) -> str:
    head, slash, key = name.partition("/")
    if not slash or head != prefix:
        raise MalformedPatch(problem)
    return key


def _apply_orders(original: Object, patch: Object, struct: type[Any] | None) -> None:
    """Lists that come with an order: merge, then sort what the order names, keeping the server's own in place."""
    for directive in [n for n in patch if n.startswith(_ORDER_PREFIX)]:
        order = patch.pop(directive)
        if not isinstance(order, list):
            raise PatchError(f"expected a []interface {{}}, but received a {_go_type(order)}")
        name = _directive_key(directive, _ORDER_PREFIX, "invalid patch format of setElementOrder list")
        field = _field(struct, name)
        key = field.key if field else ""
        before, changes = original.get(name), patch.get(name)
        for value in (before, changes):
            if value is not None and not isinstance(value, list):
                raise PatchError(f"expected a []interface {{}}, but received a {_go_type(value)}")
        _check_order(changes or [], order, key)
        if before is None and changes is None:
            continue
        # A key of the patch may need the old list after the merge changed it.
        server_order = list(before or [])
        if before is not None and changes is not None:
            merged = _merge_list(before, changes, field, deletions=False)
        else:
            merged = before if before is not None else _without_directives(changes)
        original[name] = _ordered(merged, order, server_order, key)
        patch.pop(name, None)


def _check_order(changes: list[Any], order: list[Any], key: str) -> None:
    if not order or not changes:
        return
    wanted = [_identity(item, key) for item in changes if not (isinstance(item, dict) and _DIRECTIVE in item)]
    given = iter([_identity(item, key) for item in order])
    if not all(any(w == g for g in given) for w in wanted):
        listed = f"{_ORDER_PREFIX} list:\n{_go_value(order)}\n"
        raise PatchError(f"The order in patch list:\n{_go_value(changes)}\n doesn't match {listed}")


def _identity(item: Any, key: str) -> Any:
    """What tells items of a list apart: the value under the merge key, or the item itself."""
    if not key:
        return item
    if not isinstance(item, dict):
        raise PatchError(f"expected a map[string]interface {{}}, but received a {_go_type(item)}")
    if key not in item:
        raise PatchError(f"map: {_go_map(item)} does not contain declared merge key: {key}")
    return item[key]


def _merge_list(
    original: list[Any], patch: list[Any], field: typeinfo.FieldInfo | None, *, deletions: bool
) -> list[Any]:
    if not deletions and _strategy(field) != "merge":
        return patch
    if not original and not patch:
        return original
    maps = _are_maps([*original, *patch])
    if not maps:
        if deletions:
            return [item for item in original if item not in patch]
        merged = list(dict.fromkeys([*original, *patch]))
        return _ordered(merged, patch, original, "")
    if field is None or not field.key:
        raise PatchError(f"cannot merge lists without merge key for {field.name if field else ''}")
    key = field.key
    server_order = list(original)
    original, patch, replaced = _apply_special_items(original, patch, key)
    if replaced:
        return original
    for item in patch:
        identity = _identity(item, key)
        for index, existing in enumerate(original):
            if existing.get(key) == identity:
                original[index] = _merge_map(existing, item, field.struct)
                break
        else:
            original.append(_without_directives(item))
    return _ordered(original, patch, server_order, key)


def _are_maps(items: list[Any]) -> bool:
    kinds = {_kind(item) for item in items}
    if list in kinds:
        raise UnprocessablePatch("lists of lists are not supported")
    if len(kinds) > 1:
        raise PatchError(f"list element types are not identical: {_go_value(items)}")
    return kinds == {dict}


def _apply_special_items(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any], bool]:
    """Items with `$patch`: deletions are done, a replacement makes the rest of the patch the list."""
    plain: list[Any] = []
    replaced = False
    for item in patch:
        match item.get(_DIRECTIVE):
            case None if _DIRECTIVE not in item:
                plain.append(item)
            case "delete":
                identity = _identity(item, key)
                original = [existing for existing in original if existing.get(key) != identity]
            case "replace":
                replaced = True
            case "merge":
                raise PatchError("merging lists cannot yet be specified in the patch")
            case other:
                raise PatchError(f"unknown patch type: {other} in map: {_go_map(item)}")
    return (plain if replaced else original), plain, replaced


def _ordered(merged: list[Any], patch_order: list[Any], server_order: list[Any], key: str) -> list[Any]:
    """`merged` with the patch's items in the patch's order; the others keep their place before or after those."""
    of_patch = _positions(patch_order, key)
    of_server = _positions(server_order, key)
    identities = [_identity(item, key) for item in merged]
    mine = [i for i, identity in enumerate(identities) if _hashable(identity) in of_patch]
    theirs = [i for i, identity in enumerate(identities) if _hashable(identity) not in of_patch]
    mine.sort(key=lambda i: of_patch[_hashable(identities[i])])
    theirs.sort(key=lambda i: of_server.get(_hashable(identities[i]), len(of_server)))
    result: list[Any] = []
    left, right = 0, 0
    while left < len(theirs) or right < len(mine):
        take_left = right >= len(mine)
        if left < len(theirs) and right < len(mine):
            a = of_server.get(_hashable(identities[theirs[left]]))
            b = of_server.get(_hashable(identities[mine[right]]))
            take_left = a is not None and b is not None and a < b
        if take_left:
            result.append(merged[theirs[left]])
            left += 1
        else:
            result.append(merged[mine[right]])
            right += 1
    return result


def _positions(items: list[Any], key: str) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for index, item in enumerate(items):
        found.setdefault(_hashable(_identity(item, key)), index)
    return found


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else (type(value) is bool, value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


def _without_directives(value: Any) -> Any:
    """`value` as data; None if it is itself nothing but an order to do something."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return None
        kept = {k: _without_directives(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None and not k.startswith((_ORDER_PREFIX, _DELETE_PREFIX))}
    if isinstance(value, list):
        return [kept for v in value if (kept := _without_directives(v)) is not None]
    return value


def _go_type(value: Any) -> str:
    names = {dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64"}
    return names.get(type(value), "float64")


def _go_value(value: Any) -> str:
    """As Go's %v prints it."""
    if isinstance(value, dict):
        return _go_map(value)
    if isinstance(value, list):
        return f"[{' '.join(map(_go_value, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _go_map(value: Object) -> str:
    return f"map[{' '.join(f'{k}:{_go_value(v)}' for k, v in sorted(value.items()))}]"
