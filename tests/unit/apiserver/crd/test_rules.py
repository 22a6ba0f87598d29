"""x-kubernetes-validations over objects and their changes."""

from __future__ import annotations

from typing import Any

import pytest

from podling.apiserver.crd import rules

I, S = {"type": "integer"}, {"type": "string"}  # noqa: E741


def obj(*said: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "x-kubernetes-validations": list(said)}


def rule(text: str, **more: Any) -> dict[str, Any]:
    return {"rule": text, **more}


def found(spec: dict[str, Any], value: Any, *old: Any) -> list[str]:
    compiled = rules.compiled({"type": "object", "properties": {"spec": spec}}, root=True)
    assert compiled is not None
    before = [{"metadata": {}, "spec": o} for o in old]
    return [str(f) for f in compiled.findings({"metadata": {}, "spec": value}, *before)]


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (obj(rule("self.a > 1"), a=I), {"a": 2}, []),
        (obj(rule("self.a > 1"), a=I), {"a": 1}, ["spec: Invalid value: failed rule: self.a > 1"]),
        (obj(rule("self.a > 1", message="too small"), a=I), {"a": 1}, ["spec: Invalid value: too small"]),
        (obj(rule("self.a > 1", messageExpression="'got ' + string(self.a)"), a=I), {"a": 1},
         ["spec: Invalid value: got 1"]),
        (obj(rule("self.a > 1", message="m", messageExpression="''"), a=I), {"a": 1}, ["spec: Invalid value: m"]),
        (obj(rule("self.a > 1", reason="FieldValueForbidden", fieldPath=".a"), a=I), {"a": 1},
         ["spec.a: Forbidden: failed rule: self.a > 1"]),
        (obj(rule("self.a > 1", reason="FieldValueRequired"), a=I), {"a": 1},
         ["spec: Required value: failed rule: self.a > 1"]),
        (obj(a=I | {"x-kubernetes-validations": [rule("self != 3", message="not three")]}), {"a": 3},
         ["spec.a: Invalid value: 3: not three"]),
        (obj(a={"type": "array", "items": I | {"x-kubernetes-validations": [rule("self < 5")]}}), {"a": [1, 9]},
         ["spec.a[1]: Invalid value: 9: failed rule: self < 5"]),
        (obj(a={"type": "object", "additionalProperties": S | {"x-kubernetes-validations": [rule("self != ''")]}}),
         {"a": {"k": ""}}, ["spec.a[k]: Invalid value: \"\": failed rule: self != ''"]),
        (obj(rule("self.a[0] > 1"), a={"type": "array", "items": I}), {"a": []},
         ["spec: Invalid value: \"object\": index out of bounds: 0 evaluating rule: self.a[0] > 1"]),
        (obj(rule("has(self.b) || self.a > 1"), a=I, b=S), {"a": 0, "b": ""}, []),
        (obj(rule("self.x__dash__y == 'a'"), **{"x-y": S}), {"x-y": "a"}, []),
        (obj(rule("self.a == oldSelf.a"), a=I), {"a": 1}, []),
    ],
)  # fmt: skip
def test_new_objects(schema: Any, value: Any, expected: list[str]) -> None:
    assert found(schema, value) == expected


@pytest.mark.parametrize(
    ("schema", "old", "new", "expected"),
    [
        (obj(rule("self.a == oldSelf.a", message="fixed"), a=I), {"a": 1}, {"a": 2}, ["spec: Invalid value: fixed"]),
        (obj(rule("self.a >= oldSelf.a"), a=I), {"a": 1}, {"a": 2}, []),
        # What is as it was may stay wrong, but not by a rule about changes.
        (obj(rule("self.a > 5"), a=I), {"a": 1}, {"a": 1}, []),
        (obj(rule("self.a > 5"), a=I, b=I), {"a": 1}, {"a": 1, "b": 1},
         ["spec: Invalid value: failed rule: self.a > 5"]),
        (obj(rule("oldSelf.hasValue() ? self.a > oldSelf.value().a : true", optionalOldSelf=True), a=I), {"a": 1},
         {"a": 1}, ["spec: Invalid value: failed rule: oldSelf.hasValue() ? self.a > oldSelf.value().a : true"]),
    ],
)  # fmt: skip
def test_changes(schema: Any, old: Any, new: Any, expected: list[str]) -> None:
    assert found(schema, new, old) == expected


def test_optional_old_is_asked_of_new_objects_too() -> None:
    schema = obj(rule("oldSelf.hasValue() || self.a == 1", optionalOldSelf=True, message="starts at 1"), a=I)
    assert found(schema, {"a": 2}) == ["spec: Invalid value: starts at 1"]
    assert found(schema, {"a": 2}, {"a": 1}) == []


def test_items_of_a_list_that_is_a_map_have_a_past() -> None:
    item = obj(rule("self.v >= oldSelf.v", message="only up"), k=S, v=I)
    schema = obj(l={
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item,
    })  # fmt: skip
    old = {"l": [{"k": "a", "v": 5}, {"k": "b", "v": 5}]}
    new = {"l": [{"k": "c", "v": 0}, {"k": "b", "v": 4}, {"k": "a", "v": 6}]}
    assert found(schema, new, old) == ["spec.l[1]: Invalid value: only up"]


def test_rules_see_the_names_of_an_object() -> None:
    compiled = rules.compiled(
        {"type": "object", "x-kubernetes-validations": [rule("self.metadata.name == 'a'")]}, root=True
    )
    assert compiled is not None
    assert not compiled.findings({"metadata": {"name": "a"}})
    assert [str(f) for f in compiled.findings({"metadata": {"name": "b"}})] == [
        "<nil>: Invalid value: failed rule: self.metadata.name == 'a'"
    ]


def test_no_rules_no_work() -> None:
    assert (
        rules.compiled({"type": "object", "properties": {"spec": obj(a=I) | {"x-kubernetes-validations": []}}}) is None
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (".a.b", [("field", "a"), ("field", "b")]),
        (".a['x.y']", [("field", "a"), ("field", "x.y")]),
        (".m['k']", [("field", "m"), ("key", "k")]),
        (".missing", None),
        ("a", None),
        (".a[0]", None),
    ],
)
def test_field_paths(text: str, parts: Any) -> None:
    inner = {"type": "object", "properties": {"b": S, "x.y": S}}
    schema = {"properties": {"a": inner, "m": {"type": "object", "additionalProperties": S}}}
    assert rules.field_path(text, schema) == parts
