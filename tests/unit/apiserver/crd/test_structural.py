"""Pruning, nulls, defaults, embedded metadata; unknown fields by their paths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.apiserver.crd.structural import compiled, embedded_problems, settled, unknown_fields

STRING = {"type": "string"}
OPEN = {"x-kubernetes-preserve-unknown-fields": True}


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (obj(a=STRING), {"a": "x", "b": 1}, {"a": "x"}),
        (obj(a=obj(b=STRING)), {"a": {"b": "x", "c": {"d": 1}}}, {"a": {"b": "x"}}),
        (obj(a=obj(b=STRING) | OPEN), {"a": {"c": 1}}, {"a": {"c": 1}}),
        (obj(a={"type": "object"} | OPEN | {"properties": {"b": obj()}}), {"a": {"b": {"c": 1}, "d": 1}},
         {"a": {"b": {}, "d": 1}}),
        (obj(a={"type": "array", "items": obj(b=STRING)}), {"a": [{"b": "x", "c": 1}]}, {"a": [{"b": "x"}]}),
        (obj(a={"type": "array", "items": obj(b=STRING)} | OPEN), {"a": [{"c": 1}]}, {"a": [{"c": 1}]}),
        (obj(a={"type": "object", "additionalProperties": STRING}), {"a": {"any": "x"}}, {"a": {"any": "x"}}),
        (obj(a={"type": "object", "additionalProperties": obj(b=STRING)}), {"a": {"k": {"b": "x", "c": 1}}},
         {"a": {"k": {"b": "x"}}}),
        (obj(a={"type": "object", "additionalProperties": True}), {"a": {"k": 1, "m": {"n": 1}}},
         {"a": {"k": 1, "m": {}}}),
        # Nulls.
        (obj(a=STRING), {"a": None}, {}),
        (obj(a=STRING | {"nullable": True}), {"a": None}, {"a": None}),
        (obj(a=STRING | {"default": "d"}), {"a": None}, {"a": "d"}),
        (obj(a=STRING | {"default": "d", "nullable": True}), {"a": None}, {"a": None}),
        (obj(a={"type": "array", "items": STRING}), {"a": [None]}, {"a": [None]}),
        (obj(a={"type": "array", "items": STRING | {"default": "d"}}), {"a": [None]}, {"a": ["d"]}),
        # Defaults.
        (obj(a=STRING | {"default": "d"}), {}, {"a": "d"}),
        (obj(a=STRING | {"default": "d"}), {"a": ""}, {"a": ""}),
        (obj(a=obj(b=STRING | {"default": "d"})), {}, {}),
        (obj(a=obj(b=STRING | {"default": "d"}) | {"default": {}}), {}, {"a": {"b": "d"}}),
        (obj(a={"type": "array", "items": obj(b=STRING | {"default": "d"})}), {"a": [{}]}, {"a": [{"b": "d"}]}),
        (obj(a={"type": "object", "additionalProperties": obj(b=STRING | {"default": "d"})}), {"a": {"k": {}}},
         {"a": {"k": {"b": "d"}}}),
        (obj(a=obj(b=STRING) | {"default": {"b": "x", "unknown": 1}}), {}, {"a": {"b": "x"}}),
    ],
)  # fmt: skip
def test_settles(schema: Any, value: Any, expected: Any) -> None:
    before = copy.deepcopy(value)
    node = compiled(schema)
    made = settled(value, node)
    assert made == expected
    assert value == before, "the value itself must not change"
    assert settled(made, node) is made, "what is settled stays the same object"


def test_the_root_keeps_kind_version_and_metadata() -> None:
    value = {"kind": "K", "apiVersion": "g/v", "metadata": {"x": 1}, "other": 1}
    made = settled(value, compiled(obj(metadata={"type": "object"})), root=True)
    assert made == {"kind": "K", "apiVersion": "g/v", "metadata": {"x": 1}}


EMBEDDED = obj(template={"type": "object", "x-kubernetes-embedded-resource": True} | OPEN)


def test_embedded_metadata_has_only_the_fields_of_metadata() -> None:
    value = {"template": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x", "bogus": 1}, "spec": {"a": 1}}}
    made = settled(value, compiled(EMBEDDED))
    assert made["template"]["metadata"] == {"name": "x"}
    assert made["template"]["spec"] == {"a": 1}


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"kind": 5}, "template.kind: Invalid value: 5: must be a string"),
        ({"metadata": {"name": 5}}, "template.metadata: Invalid value"),
        ({"metadata": {"name": "x"}, "kind": "Pod"}, ""),
    ],
)
def test_embedded_objects_have_the_types_that_objects_have(template: Any, problem: str) -> None:
    said = embedded_problems({"template": template}, compiled(EMBEDDED))
    assert said.startswith(problem) and bool(said) == bool(problem)


def test_unknown_fields_are_named_by_their_paths() -> None:
    node = compiled(obj(spec=obj(a=STRING, l={"type": "array", "items": obj(b=STRING)}), **EMBEDDED["properties"]))
    value = {
        "spec": {"z": 1, "l": [{"b": "x"}, {"c": 1}], "y": {"deep": 1}},
        "template": {"metadata": {"bogus": 1, "name": "n"}, "anything": 1},
        "other": {},
    }
    assert unknown_fields(value, node) == ["other", "spec.l[1].c", "spec.y", "spec.z", "template.metadata.bogus"]


_NAMES = st.sampled_from(["a", "b", "c"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


def _schemas() -> st.SearchStrategy[dict[str, Any]]:
    flags = st.fixed_dictionaries(
        {}, optional={"nullable": st.booleans(), "x-kubernetes-preserve-unknown-fields": st.just(True)}
    )
    leaf = st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"default": st.just("d"), "nullable": st.booleans()}
    )

    def deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        fields = st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(_NAMES, inner)})
        maps = st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner | st.just(True)})
        arrays = st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        return st.builds(lambda one, two: one | two, fields | maps | arrays, flags)

    return st.recursive(leaf, deeper, max_leaves=8)


@given(_schemas(), _VALUES)
def test_what_is_settled_needs_nothing_more(schema: dict[str, Any], value: Any) -> None:
    node = compiled(schema)
    before = copy.deepcopy(value)
    made = settled(value, node)
    assert value == before
    assert settled(made, node) is made
    assert unknown_fields(made, node) == []
