"""Sets of fields of an object, as managedFields keeps them (sigs.k8s.io/structured-merge-diff's fieldpath, KEP-555).

A path is a tuple of elements in their wire form: `f:name` for a field, `k:{"name":"c"}` for the item of a list with
keys, `v:"x"` for the item of a set, `i:3` for a position. On the wire (fieldsV1) a set is a tree: the keys are
elements, and the key "." says that the path so far is itself in the set; an element with nothing below it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

#: A tree of elements; a leaf is an empty dict.
Tree = dict[str, Any]
Path = tuple[str, ...]

SELF = "."


def field(name: str) -> str:
    return f"f:{name}"


def keyed(keys: Mapping[str, Any]) -> str:
    """`k:{"name":"c"}`; keys are sorted."""
    return "k:" + json.dumps(dict(sorted(keys.items())), separators=(",", ":"), ensure_ascii=False)


def valued(value: Any) -> str:
    """`v:"x"`."""
    return "v:" + json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class FieldSet:
    """A set of paths. Operations give new sets; trees are never shared with what is changed."""

    __slots__ = ("_members",)

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._members: frozenset[Path] = frozenset(paths)

    @classmethod
    def from_wire(cls, tree: Tree | None) -> FieldSet:
        """Of a fieldsV1 document."""
        return cls(_walk(tree or {}, ()))

    def to_wire(self) -> Tree:
        """As a fieldsV1 document, elements sorted."""
        root: Tree = {}
        for path in sorted(self._members):
            node = root
            for element in path:
                node = node.setdefault(element, {})
            node[SELF] = {}
        _drop_selves(root)
        return root

    def __contains__(self, path: Path) -> bool:
        return path in self._members

    def __iter__(self) -> Iterator[Path]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSet) and self._members == other._members

    def __hash__(self) -> int:
        return hash(self._members)

    def __or__(self, other: FieldSet) -> FieldSet:
        return FieldSet(self._members | other._members)

    def __and__(self, other: FieldSet) -> FieldSet:
        return FieldSet(self._members & other._members)

    def __sub__(self, other: FieldSet) -> FieldSet:
        return FieldSet(self._members - other._members)

    def without(self, removed: FieldSet) -> FieldSet:
        """Without `removed` and all that lies below its paths (upstream's RecursiveDifference)."""
        return FieldSet(p for p in self._members if not any(p[:n] in removed for n in range(1, len(p) + 1)))

    def filter(self, keep: Callable[[Path], bool]) -> FieldSet:
        return FieldSet(p for p in self._members if keep(p))


def _walk(tree: Tree, path: Path) -> Iterator[Path]:
    for element, below in tree.items():
        if element == SELF:
            yield path
        elif below:
            yield from _walk(below, (*path, element))
        else:
            yield (*path, element)


def _drop_selves(node: Tree) -> None:
    """Where an element has nothing but itself, the wire form is empty."""
    for below in node.values():
        if list(below) == [SELF]:
            below.clear()
        else:
            _drop_selves({k: v for k, v in below.items() if k != SELF})


def text(path: Path) -> str:
    """As people read it: `.spec.containers[name="c"].image`."""
    parts = []
    for element in path:
        kind, _, value = element.partition(":")
        if kind == "f":
            parts.append(f".{value}")
        elif kind == "k":
            keys = json.loads(value)
            parts.append("[" + ",".join(f"{k}={json.dumps(v)}" for k, v in keys.items()) + "]")
        elif kind == "v":
            parts.append(f"[={value}]")
        else:
            parts.append(f"[{value}]")
    return "".join(parts)
