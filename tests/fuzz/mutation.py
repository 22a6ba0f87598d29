"""Objects that somebody might send: a valid one of each kind, changed at random places along its type's fields.

Some changes keep to the type, so that defaulting, validation and admission see every field in odd company; some do not,
so that decoding does. hypothesis draws them, so that a failure shrinks to the one change that matters.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from podling.api.registry import Resource
from podling.machinery import typeinfo
from tests.conformance.test_every_resource import STORED as STORED
from tests.conformance.test_every_resource import manifest

NAMESPACE = "default"
DEPTH = 4

_WORDS = st.sampled_from(
    ["", "a", "default", "node-1", "Always", "Never", "ClusterIP", "TCP", "http", "a.b.example.com", "kubernetes.io/x",
     "10.0.0.1", "fd00::1", "10.0.0.0/8", "/tmp", "../x", "1Gi", "100m", "-1", "1e3", "50%", "101%", "*", "[", "v1",
     "2026-01-01T00:00:00Z", "RollingUpdate", "Exists", "In", "x" * 64, "x" * 300, "\u00e4\u00f6", "a b", "\0"]
)  # fmt: skip
_MEANT: dict[str, st.SearchStrategy[Any]] = {
    "Quantity": st.sampled_from(["1", "100m", "1Gi", "-1", "0", "1e18", "1E", "0.0001n", "9" * 30, "x", 1, 0.5]),
    "Time": st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x", None]),
    "MicroTime": st.sampled_from(["2026-01-01T00:00:00.000001Z", "x", None]),
    "IntOrString": st.sampled_from([0, 1, -1, 80, 65536, "http", "50%", "150%", "x" * 20, ""]),
    "Base64": st.sampled_from(["", "YQ==", "a", "====", "\u00e4"]),
}
_SCALARS: dict[type[Any], st.SearchStrategy[Any]] = {
    str: _WORDS,
    int: st.sampled_from([0, 1, 2, -1, 80, 443, 30000, 65536, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)]),
    bool: st.booleans(),
    float: st.sampled_from([0.0, 0.5, -1.0, 1e308]),
}
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def values(draw: st.DrawFn, field: typeinfo.FieldInfo, depth: int) -> Any:
    """A value of a field, mostly of its type."""
    if draw(st.integers(0, 11)) == 0:
        return draw(ANYTHING)
    if field.shape == "list":
        return [draw(_single(field, depth)) for _ in range(draw(st.integers(0, 2)))]
    if field.shape == "map":
        return {draw(_WORDS): draw(_single(field, depth)) for _ in range(draw(st.integers(0, 2)))}
    return draw(_single(field, depth))


def _single(field: typeinfo.FieldInfo, depth: int) -> st.SearchStrategy[Any]:
    if field.struct is not None:
        return structs(field.struct, depth - 1) if depth else st.just({})
    return _MEANT[field.meaning] if field.meaning in _MEANT else _SCALARS.get(field.scalar, ANYTHING)


@st.composite
def structs(draw: st.DrawFn, type_: type[Any], depth: int = DEPTH) -> dict[str, Any]:
    """An object with what it must have, and a few of the fields that it may have."""
    fields = typeinfo.fields(type_)
    names = [name for name, field in fields.items() if field.required]
    names += draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)) if fields else []
    return {name: draw(values(fields[name], depth)) for name in dict.fromkeys(names)}


def minimal(resource: Resource) -> dict[str, Any]:
    """The valid object of this kind."""
    return manifest(resource, 1)


@st.composite
def mutated(draw: st.DrawFn, resource: Resource) -> dict[str, Any]:
    """The valid object with one to four changes."""
    obj = minimal(resource)
    for _ in range(draw(st.integers(1, 4))):
        _change(draw, obj, resource.type)
    return obj


def _change(draw: st.DrawFn, obj: Any, type_: type[Any]) -> None:
    """Set or remove a field, here or, as often as not, further down."""
    fields = typeinfo.fields(type_)
    if not isinstance(obj, dict) or not fields:
        return
    inner = [name for name, field in fields.items() if field.struct is not None and obj.get(name)]
    if inner and draw(st.booleans()):
        name = draw(st.sampled_from(inner))
        field, below = fields[name], obj[name]
        if isinstance(below, dict) and field.shape == "map":
            below = draw(st.sampled_from(list(below.values())))
        elif isinstance(below, list):
            below = draw(st.sampled_from(below))
        assert field.struct is not None
        _change(draw, below, field.struct)
        return
    name = draw(st.sampled_from(sorted(fields)))
    if draw(st.integers(0, 9)) == 0:
        obj.pop(name, None)
    elif name not in ("kind", "apiVersion"):
        obj[name] = draw(values(fields[name], DEPTH))
