"""What expressions may cost at most."""

from __future__ import annotations

from typing import Any

import pytest

from podling.machinery import cel
from podling.machinery.cel import cost as cel_cost
from podling.machinery.cel import schema as cel_schema

STRING = {"type": "string"}


def estimated(expression: str, schema: dict[str, Any]) -> float:
    type_ = cel_schema.type_of(schema)
    assert type_ is not None
    return cel_cost.estimate(cel.compile(expression, {"self": type_}))


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("expression", "schema", "cost"),
    [
        ("true", of(), 0),
        ("self.a", of(a={"type": "boolean"}), 2),
        ("has(self.a)", of(a={"type": "boolean"}), 1),
        ("self.a == 1", of(a={"type": "integer"}), 3),
        ("self.a == self.a", of(a={**STRING, "maxLength": 10}), 4 + 4),
        ("self.a.startsWith('abcdefghijk')", of(a=STRING), 2 + 2),
        ("self.a.matches('abcdefgh')", of(a={**STRING, "maxLength": 10}), 2 + 5 * 2),
        ("self.a.all(x, x > 0)", of(a={"type": "array", "items": {"type": "integer"}, "maxItems": 10}), 2 + 10 * 5 + 1),
        ("'x' in self.a", of(a={"type": "array", "items": STRING, "maxItems": 7}), 2 + 7),
        ("self.a ? self.b : 1", of(a={"type": "boolean"}, b={"type": "integer"}), 4),
        ("[1, 2, 3].all(x, x > 0)", of(), 10 + 3 * 5 + 1),
    ],
)
def test_estimates(expression: str, schema: dict[str, Any], cost: int) -> None:
    assert estimated(expression, schema) == cost


def test_bounds_decide_what_is_too_expensive() -> None:
    inner = {"type": "array", "items": STRING}
    nested = "self.a.all(x, self.a.all(y, x == y))"
    assert estimated(nested, of(a=inner)) > cel_cost.RULE_LIMIT
    bounded = {"type": "array", "items": {**STRING, "maxLength": 20}, "maxItems": 50}
    assert estimated(nested, of(a=bounded)) < cel_cost.RULE_LIMIT


def test_what_a_request_can_hold_bounds_what_has_no_bound() -> None:
    type_ = cel_schema.type_of(of(a={"type": "array", "items": STRING}, b=STRING, c=of(d=STRING, e=STRING)))
    assert isinstance(type_, cel.ObjectType)
    found = type_.lookup("a")
    assert found is not None and found.most == (cel_schema.MAX_REQUEST - 2) // 3
    required = cel_schema.type_of({**of(abc=STRING), "required": ["abc"]})
    assert required is not None and required.least == 2 + 3 + 4 + 2


@pytest.mark.parametrize("expression", ["self.a.map(x, x.b).sum() > 1", "self.a.filter(x, x.b > 1).size() < 3"])
def test_the_estimate_is_never_below_the_real_cost(expression: str) -> None:
    schema = of(a={"type": "array", "maxItems": 20, "items": of(b={"type": "integer"})})
    type_ = cel_schema.type_of(schema)
    assert type_ is not None
    program = cel.compile(expression, {"self": type_})
    _, real = program.measure({"self": {"a": [{"b": 1}] * 20}})
    assert real <= cel_cost.estimate(program)
