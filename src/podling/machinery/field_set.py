"""Sets of fields of an object, as managedFields keeps them (sigs.k8s.io/structured-merge-diff's fieldpath, KEP-555).

A path is a tuple of elements in their wire form: `f:name` for a field, `k:{"name":"c"}` for the item of a list with
keys, `v:"x"` for the item of a set, `i:3` for a position. On the wire (fieldsV1) a set is a tree: the keys are
elements, and the key "." says that the path so far is itself in the set; an element with nothing below it is.

Sets are kept as such trees and computed with as trees: two of them share most of their branches, and branches that are
the same object need no look. So no tree may be changed once it is in a set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

#: A tree of elements; a leaf is an empty dict.
Tree = dict[str, Any]
Path = tuple[str, ...]

SELF = "."
#: A path that is in a set, with nothing below it. Shared: never to be changed.
LEAF: Tree = {}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Tree).decode


def field(name: str) -> str:
    return f"f:{name}"


def keyed(keys: Mapping[str, Any]) -> str:
    """`k:{"name":"c"}`; keys are sorted."""
    return "k:" + _encode(dict(sorted(keys.items()))).decode()


def valued(value: Any) -> str:
    """`v:"x"`."""
    return "v:" + _encode(value).decode()


class FieldSet:
    """A set of paths. Operations give new sets."""

    __slots__ = ("_wire", "tree")

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        root: Tree = {}
        for path in paths:
            node = root
            for element in path:
                node = node.setdefault(element, {})
            node[SELF] = LEAF
        self.tree: Tree = _settled(root)
        self._wire: bytes | None = None

    @classmethod
    def of(cls, tree: Tree) -> FieldSet:
        """Of a tree in wire form, which is taken over."""
        found = cls.__new__(cls)
        found.tree = tree
        found._wire = None
        return found

    @classmethod
    def from_wire(cls, tree: Tree | None) -> FieldSet:
        """Of a fieldsV1 document."""
        return cls.of(_settled(tree or {}))

    @classmethod
    def from_bytes(cls, data: bytes) -> FieldSet:
        """Of a fieldsV1 document in JSON. Raises ValueError (msgspec.DecodeError is one)."""
        return cls.of(_settled(_decode(data)))

    def to_wire(self) -> Tree:
        """As a fieldsV1 document, elements in upstream's order."""
        return _sorted(self.tree)

    def to_bytes(self) -> bytes:
        """As a fieldsV1 document in JSON."""
        if self._wire is None:
            self._wire = _encode(_sorted(self.tree))
        return self._wire

    def __contains__(self, path: Path) -> bool:
        node = self.tree
        for element in path:
            below = node.get(element)
            if below is None:
                return False
            node = below
        return bool(path) and (not node or SELF in node)

    def __iter__(self) -> Iterator[Path]:
        return _walk(self.tree, ())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self.tree)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldSet) and self.tree == other.tree

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __or__(self, other: FieldSet) -> FieldSet:
        return self._or_same(_below_both(self.tree, other.tree), other)

    def __and__(self, other: FieldSet) -> FieldSet:
        return self._or_same(_children_in(self.tree, other.tree), other)

    def __sub__(self, other: FieldSet) -> FieldSet:
        return self._or_same(_children_without(self.tree, other.tree), other)

    def without(self, removed: FieldSet) -> FieldSet:
        """Without `removed` and all that lies below its paths (upstream's RecursiveDifference)."""
        return self._or_same(_cut(self.tree, removed.tree), removed)

    def filter(self, keep: Callable[[Path], bool]) -> FieldSet:
        return FieldSet(p for p in self if keep(p))

    def _or_same(self, tree: Tree, other: FieldSet) -> FieldSet:
        """A set that is one of its operands stays that object, with its bytes."""
        if tree is self.tree:
            return self
        return other if tree is other.tree else FieldSet.of(tree)


# -- trees: every operation gives one of its operands back if that is the result -----------------------------------


def _member(node: Tree) -> bool:
    return not node or SELF in node


def _settled(node: Tree) -> Tree:
    """Where an element has nothing but itself, the wire form is empty; the root is never itself in the set."""
    found: Tree = {}
    for element, below in node.items():
        if element == SELF:
            continue
        if not below or (SELF in below and len(below) == 1):
            found[element] = LEAF
        elif not isinstance(below, dict):
            raise ValueError(f"{element}: expected object")
        else:
            inner = _settled(below)
            if SELF in below:
                inner = {SELF: LEAF, **inner} if inner else LEAF
            elif not inner:
                continue
            found[element] = inner
    return found


def _union(a: Tree, b: Tree) -> Tree:
    """Of what is below one element in two sets."""
    if a is b:
        return a
    if not a:
        return b if _member(b) else {SELF: LEAF, **b}
    if not b:
        return a if SELF in a else {SELF: LEAF, **a}
    return _below_both(a, b)


def _below_both(a: Tree, b: Tree) -> Tree:
    if not a or a is b:
        return b
    if not b:
        return a
    found: Tree | None = None
    for element, below in b.items():
        mine = a.get(element)
        inner = below if mine is None else LEAF if element == SELF else _union(mine, below)
        if inner is not mine and (mine is None or inner != mine):
            if found is None:
                found = dict(a)
            found[element] = inner
    return a if found is None else found


def _children_in(a: Tree, b: Tree) -> Tree:
    """What of `a` is in `b`, of two roots."""
    if a is b:
        return a
    found: Tree = {}
    for element, below in a.items():
        other = b.get(element)
        if other is None or element == SELF:
            continue
        inner = _intersection(below, other)
        if inner is not None:
            found[element] = inner
    return a if found == a else found


def _intersection(a: Tree, b: Tree) -> Tree | None:
    """Below one element; None if nothing is left."""
    if a is b:
        return a
    both = _member(a) and _member(b)
    found = _children_in(a, b)
    if SELF in found:
        found = {k: v for k, v in found.items() if k != SELF}
    if both:
        return {SELF: LEAF, **found} if found else LEAF
    return found or None


def _children_without(a: Tree, b: Tree) -> Tree:
    """What of `a` is not in `b`."""
    if not a or not b:
        return a
    found: Tree | None = None
    for element in b.keys() & a.keys() if len(b) > 8 else [e for e in b if e in a]:
        if element == SELF:
            continue
        below = a[element]
        inner = _difference(below, b[element])
        if inner is below:
            continue
        if found is None:
            found = dict(a)
        if inner is None:
            del found[element]
        else:
            found[element] = inner
    return a if found is None else found


def _difference(a: Tree, b: Tree) -> Tree | None:
    """Below one element; None if nothing is left."""
    if not a:
        return None if _member(b) else a
    left = _children_without(a, b)
    if SELF not in a:
        return left or None
    if _member(b):
        left = {k: v for k, v in left.items() if k != SELF}
        return left or None
    return LEAF if len(left) == 1 else left


def _cut(a: Tree, b: Tree) -> Tree:
    """What of `a` is neither in `b` nor below something that is."""
    if not a or not b:
        return a
    found: Tree | None = None
    for element, other in b.items():
        below = a.get(element)
        if below is None or element == SELF:
            continue
        inner = None if _member(other) else _cut(below, other)
        if inner is below:
            continue
        if found is None:
            found = dict(a)
        if not inner:
            del found[element]
        else:
            found[element] = LEAF if len(inner) == 1 and SELF in inner else inner
    return a if found is None else found


def _walk(tree: Tree, path: Path) -> Iterator[Path]:
    for element, below in tree.items():
        if element == SELF:
            yield path
        elif below:
            yield from _walk(below, (*path, element))
        else:
            yield (*path, element)


_KINDS = {".": 0, "f": 1, "k": 2, "v": 3, "i": 4}


def _sorted(tree: Tree) -> Tree:
    elements: list[str] = sorted(tree)
    if len(elements) > 1 and elements[-1][0] in "kiv" and elements[-2][0] in "kiv":
        elements.sort(key=_rank)
    found: Tree = {}
    for element in elements:
        below = tree[element]
        found[element] = _sorted(below) if below else LEAF
    return found


@lru_cache(8192)
def _rank(element: str) -> tuple[Any, ...]:
    """Fields first, then items by their keys or values; numbers by their size."""
    kind, _, value = element.partition(":")
    rank = _KINDS.get(kind, 9)
    if kind == "k":
        return rank, [(name, _comparable(v)) for name, v in _decode(value).items()]
    if kind in ("v", "i"):
        return rank, _comparable(json.loads(value))
    return rank, value


def _comparable(value: Any) -> tuple[int, Any]:
    """Values of different kinds: numbers, then strings, then booleans."""
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (3, json.dumps(value))


def text(path: Path) -> str:
    """As people read it: `.spec.containers[name="c"].image`."""
    parts = []
    for element in path:
        kind, _, value = element.partition(":")
        if kind == "f":
            parts.append(f".{value}")
        elif kind == "k":
            keys = json.loads(value)
            parts.append("[" + ",".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in keys.items()) + "]")
        elif kind == "v":
            parts.append(f"[={value}]")
        else:
            parts.append(f"[{value}]")
    return "".join(parts)
