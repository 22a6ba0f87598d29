"""Values against schemas: paths, types of findings and texts are upstream's."""

from __future__ import annotations

from typing import Any

import pytest

from podling.apiserver.crd.validation import Validator, findings

S, I, N, B = ({"type": t} for t in ("string", "integer", "number", "boolean"))  # noqa: E741
A = {"type": "array", "items": {"type": "string"}}
INT_OR_STRING = {"x-kubernetes-int-or-string": True}


def said(schema: Any, value: Any, *old: Any) -> list[str]:
    """The findings about spec.x; the schema is that of the field."""
    root = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": schema}}}}
    before = [{"spec": {"x": o}} for o in old]
    return [str(f) for f in findings(Validator(root), {"spec": {"x": value}}, *before)]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (S, "a"), (I, 1), (I, 1.0), (N, 1), (N, 1.5), (B, True), (A, []), (A, ["a"]), (S | {"nullable": True}, None),
        (INT_OR_STRING, 1), (INT_OR_STRING, "a"), (S | {"enum": ["a", "b"]}, "b"), (I | {"enum": [1, 2]}, 2),
        (S | {"pattern": "^a+$"}, "aa"), (S | {"minLength": 2, "maxLength": 2}, "äö"), (I | {"multipleOf": 3}, 9),
        (N | {"multipleOf": 0.1}, 0.3), (I | {"minimum": 1, "maximum": 1}, 1), ({"type": "object"}, {"any": 1}),
        (S | {"format": "nonsense"}, "x"), (I | {"format": "int32"}, 5), ({}, {"a": [None]}),
        (S | {"format": "date-time"}, "2020-01-01T00:00:00Z"), (S | {"format": "ipv4"}, "10.0.0.1"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"}, {"a": 1}),
        ({"anyOf": [{"minimum": 5}, {"maximum": 1}], "type": "integer"}, 0),
        ({"not": {"enum": ["a"]}, "type": "string"}, "b"),
    ],
)  # fmt: skip
def test_accepts(schema: Any, value: Any) -> None:
    assert said(schema, value) == []


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (S, 1, 'spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer"'),
        (I, "1", 'spec.x: Invalid value: "string": spec.x in body must be of type integer: "string"'),
        (I, True, 'spec.x: Invalid value: "boolean": spec.x in body must be of type integer: "boolean"'),
        (I, 1.5, 'spec.x: Invalid value: "number": spec.x in body must be of type integer: "number"'),
        (S, None, 'spec.x: Invalid value: "null": spec.x in body must be of type string: "null"'),
        (A, ["a", 1], 'spec.x[1]: Invalid value: "integer": spec.x[1] in body must be of type string: "integer"'),
        (INT_OR_STRING, True,
         'spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean"'),
        (S | {"enum": ["a", "b"]}, "c", 'spec.x: Unsupported value: "c": supported values: "a", "b"'),
        (I | {"enum": [1]}, 2, 'spec.x: Unsupported value: 2: supported values: "1"'),
        (S | {"pattern": "^a$"}, "b", "spec.x: Invalid value: \"b\": spec.x in body should match '^a$'"),
        (S | {"pattern": "^a$"}, "a\n", "spec.x: Invalid value: \"a\\n\": spec.x in body should match '^a$'"),
        (S | {"pattern": r"\p{Lu}+\z"}, "a", "spec.x: Invalid value: \"a\": spec.x in body should match '\\p{Lu}+\\z'"),
        (S | {"maxLength": 1}, "ab", "spec.x: Too long: may not be more than 1 byte"),
        (S | {"minLength": 3}, "ab", 'spec.x: Invalid value: "ab": spec.x in body should be at least 3 chars long'),
        (I | {"minimum": 1.0}, 0, "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1"),
        (I | {"maximum": 5.0}, 6, "spec.x: Invalid value: 6: spec.x in body should be less than or equal to 5"),
        (N | {"maximum": 1.5, "exclusiveMaximum": True}, 1.5,
         "spec.x: Invalid value: 1.5: spec.x in body should be less than 1.5"),
        (N | {"minimum": 0, "exclusiveMinimum": True}, 0,
         "spec.x: Invalid value: 0: spec.x in body should be greater than 0"),
        (I | {"multipleOf": 3.0}, 4, "spec.x: Invalid value: 4: spec.x in body should be a multiple of 3"),
        (A | {"minItems": 1}, [], "spec.x: Invalid value: 0: spec.x in body should have at least 1 items"),
        (A | {"maxItems": 1}, ["a", "b"], "spec.x: Too many: 2: must have at most 1 item"),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2}, "spec.x: Too many: 2: must have at most 1 item"),
        ({"type": "object", "minProperties": 1}, {},
         "spec.x: Invalid value: 0: spec.x in body should have at least 1 properties"),
        ({"type": "object", "required": ["a"]}, {}, "spec.x.a: Required value"),
        ({"type": "object", "additionalProperties": I}, {"k": "v"},
         'spec.x.k: Invalid value: "string": spec.x.k in body must be of type integer: "string"'),
        (S | {"format": "date"}, "soon", 'spec.x: Invalid value: "soon": spec.x in body must be of type date: "soon"'),
        (I | {"format": "int32"}, 1 << 40,
         '<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.x'),
        ({"not": {"enum": ["a"]}, "type": "string"}, "a",
         '<nil>: Invalid value: "": "spec.x" must not validate the schema (not)'),
    ],
)  # fmt: skip
def test_refuses(schema: Any, value: Any, expected: str) -> None:
    assert said(schema, value) == [expected]


def test_of_alternatives_the_one_that_was_meant_explains() -> None:
    schema = {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert said(schema, {}) == [
        '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found none valid',
        "spec.x.a: Required value",
    ]
    assert said(schema, {"a": 1, "b": 1}) == [
        '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). Found 2 valid alternatives'
    ]
    assert said({"type": "integer", "anyOf": [{"minimum": 5}]}, 1) == [
        '<nil>: Invalid value: "": "spec.x" must validate at least one schema (anyOf)',
        "spec.x: Invalid value: 1: spec.x in body should be greater than or equal to 5",
    ]
    assert said({"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 9}]}, 1) == [
        "spec.x: Invalid value: 1: spec.x in body should be greater than or equal to 5",
        '<nil>: Invalid value: "": "spec.x" must validate all the schemas (allOf)',
    ]


def test_what_is_left_as_it_was_may_stay_wrong() -> None:
    schema = {"type": "object", "properties": {"a": I | {"minimum": 5}, "b": I | {"minimum": 5}}}
    assert said(schema, {"a": 1, "b": 5}, {"a": 1, "b": 6}) == []
    assert said(schema, {"a": 1, "b": 2}, {"a": 1, "b": 6}) == [
        "spec.x.b: Invalid value: 2: spec.x.b in body should be greater than or equal to 5"
    ]
    assert len(said(schema, {"a": 1}, {})) == 1, "what was not there before is new"


def test_items_are_known_again_only_in_lists_that_are_maps() -> None:
    item = {"type": "object", "properties": {"k": S, "v": I | {"minimum": 5}}}
    as_map = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item}
    old, new = [{"k": "a", "v": 1}], [{"k": "b", "v": 9}, {"k": "a", "v": 1}]
    assert said(as_map, new, old) == []
    assert len(said({"type": "array", "items": item}, new, old)) == 1


def test_a_part_has_its_own_prefix() -> None:
    found = findings(Validator({"type": "object", "properties": {"phase": S}}), {"phase": 1}, prefix="status")
    assert [str(f) for f in found] == [
        'status.phase: Invalid value: "integer": phase in body must be of type string: "integer"'
    ]
    assert found[0].type == "FieldValueTypeInvalid"
