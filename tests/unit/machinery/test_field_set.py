"""Sets of fields and their wire form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.machinery.field_set import FieldSet, keyed, text, valued

elements = st.one_of(
    st.sampled_from(["f:a", "f:b", "f:c"]), st.sampled_from([keyed({"name": "x"}), valued("y"), valued(1), "i:0"])
)
sets = st.builds(FieldSet, st.lists(st.lists(elements, min_size=1, max_size=4).map(tuple)))


@given(sets)
def test_the_wire_form_is_read_back(fields: FieldSet) -> None:
    assert FieldSet.from_wire(fields.to_wire()) == fields


@given(sets, sets)
def test_nothing_below_what_was_removed_is_left(fields: FieldSet, removed: FieldSet) -> None:
    left = fields.without(removed)
    assert all(path[:n] not in removed for path in left for n in range(1, len(path) + 1))
    assert (fields - left) | left == fields


@pytest.mark.parametrize(
    "wire",
    [
        {},
        {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}},
        {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}}}}},
        {"f:metadata": {"f:finalizers": {".": {}, 'v:"x/y"': {}}}},
    ],
)
def test_upstreams_wire_form(wire: dict[str, Any]) -> None:
    assert FieldSet.from_wire(wire).to_wire() == wire


def test_paths_read_as_upstream_prints_them() -> None:
    path = ("f:spec", "f:ports", keyed({"containerPort": 80, "protocol": "TCP"}), "f:name")
    assert text(path) == '.spec.ports[containerPort=80,protocol="TCP"].name'
    assert text(("f:metadata", "f:finalizers", valued("a"))) == '.metadata.finalizers[="a"]'


def test_elements_are_written_in_upstreams_order() -> None:
    ports = [keyed({"port": n, "protocol": "TCP"}) for n in (443, 80, 8080)]
    fields = FieldSet([("f:b",), ("f:a", valued("y")), ("f:a",), *(("f:ports", port) for port in ports)])
    assert fields.to_bytes() == (
        b'{"f:a":{".":{},"v:\\"y\\"":{}},"f:b":{},"f:ports":{"k:{\\"port\\":80,\\"protocol\\":\\"TCP\\"}":{},'
        b'"k:{\\"port\\":443,\\"protocol\\":\\"TCP\\"}":{},"k:{\\"port\\":8080,\\"protocol\\":\\"TCP\\"}":{}}}'
    )
    assert FieldSet.from_bytes(fields.to_bytes()) == fields


@given(sets, sets)
def test_operations_are_those_of_sets(one: FieldSet, other: FieldSet) -> None:
    a, b = set(one), set(other)
    assert set(one | other) == a | b
    assert set(one & other) == a & b
    assert set(one - other) == a - b
    for result in (one | other, one & other, one - other, one.without(other)):
        assert FieldSet(result) == result
