"""How deep and how wide documents may be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.machinery import nesting
from podling.machinery.nesting import MAX_DEPTH


def nested(depth: int) -> Any:
    value: Any = 1
    for index in range(depth):
        value = {"a": value} if index % 2 else [value, "]{"]
    return value


@pytest.mark.parametrize("depth", [0, 1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 5000])
def test_depth(depth: int) -> None:
    expected = depth > MAX_DEPTH
    value = nested(depth)
    assert nesting.deeper(value) is expected
    text = "[" * depth + "]" * depth if depth == 5000 else json.dumps(value)
    assert nesting.too_deep(text.encode()) is expected


json_values = st.recursive(
    st.text(alphabet='{}[]"\\a', max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='{}"', max_size=3), inner, max_size=3),
)


def test_a_mapping_in_lists_is_a_level_of_its_own() -> None:
    for more, expected in ((MAX_DEPTH - 1, False), (MAX_DEPTH, True)):
        assert nesting.too_deep(b"[" * more + b"{}" + b"]" * more) is expected


@given(json_values, st.integers(min_value=0, max_value=MAX_DEPTH + 10))
def test_brackets_in_strings_do_not_count(value: Any, more: int) -> None:
    text = "[" * more + json.dumps(value) + "]" * more
    assert nesting.too_deep(text.encode()) is nesting.deeper(json.loads(text))


@pytest.mark.parametrize("text", [b'"' * 1000, b"}" * 1000, b'{"a":"' + b"}{" * 1000, b"\xff[", b""])
def test_what_is_no_json_does_no_harm(text: bytes) -> None:
    assert not nesting.too_deep(text)
