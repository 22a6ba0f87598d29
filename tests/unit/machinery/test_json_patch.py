"""JSON patches: RFC 6902's operations, upstream's words for what does not apply."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.machinery import json_patch


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1, 2]}, [{"op": "add", "path": "/a/-1", "value": 9}], {"a": [1, 2, 9]}),
        ({"a": {"b": 1}}, [{"op": "remove", "path": "/a/b"}], {"a": {}}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/-1"}], {"a": [1]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": {"b": None}}], {"a": {"b": None}}),
        ({"a": [1]}, [{"op": "replace", "path": "/a/0", "value": 2}], {"a": [2]}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": {"x": 1}}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": {"x": 1}, "b": {"x": 1}}),
        ({"a/b": 1, "c~d": 2}, [{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/c~0d"}], {}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({}, [{"op": "test", "path": "/a", "value": None}], {}),
        ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    ],
)
def test_operations(document: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(document)
    assert json_patch.apply(document, patch) == expected
    assert document == before


NINES = "9" * 5000


@pytest.mark.parametrize(
    ("document", "operation", "message"),
    [
        (
            {},
            {"op": "add", "path": "/metadata/labels/x", "value": "y"},
            'add operation does not apply: doc is missing path: "/metadata/labels/x": missing value',
        ),
        (
            {"a": {}},
            {"op": "remove", "path": "/a/b"},
            "error in remove for path: '/a/b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            {},
            {"op": "remove", "path": "/a/b"},
            'remove operation does not apply: doc is missing path: "/a/b": missing value',
        ),
        (
            {"a": []},
            {"op": "remove", "path": "/a/3"},
            "error in remove for path: '/a/3': Unable to access invalid index: 3: invalid index referenced",
        ),
        (
            {},
            {"op": "replace", "path": "/a", "value": 1},
            "replace operation does not apply: doc is missing key: /a: missing value",
        ),
        (
            {"a": [1]},
            {"op": "add", "path": "/a/5", "value": 1},
            "error in add for path: '/a/5': Unable to access invalid index: 5: invalid index referenced",
        ),
        (
            {"a": [1]},
            {"op": "add", "path": f"/a/{NINES}", "value": 1},
            f"error in add for path: '/a/{NINES}': value was not a proper array index: '{NINES}': "
            f'strconv.Atoi: parsing "{NINES}": value out of range',
        ),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 2}, "testing value /a failed: test failed"),
        ({"a": 1}, {"op": "test", "path": "/a", "value": True}, "testing value /a failed: test failed"),
        (
            {},
            {"op": "move", "from": "/x/y", "path": "/a"},
            "move operation does not apply: doc is missing from path: /x/y: missing value",
        ),
        ({}, {"op": "frob", "path": "/a"}, "Unexpected kind: frob"),
        ({}, {"path": "/a"}, "Unexpected kind: unknown"),
        ({}, {"op": "add", "value": 1}, "add operation failed to decode path: missing value"),
    ],
)
def test_what_does_not_apply(document: Any, operation: Any, message: str) -> None:
    with pytest.raises(json_patch.PatchError) as error:
        json_patch.apply(document, [operation])
    assert str(error.value) == message


def test_a_failed_patch_changes_nothing() -> None:
    document = {"a": [1]}
    with pytest.raises(json_patch.PatchError):
        json_patch.apply(document, [{"op": "add", "path": "/a/-", "value": 2}, {"op": "remove", "path": "/x"}])
    assert document == {"a": [1]}


def test_too_many_operations() -> None:
    patch = [{"op": "add", "path": "/a", "value": 1}] * 10_001
    with pytest.raises(json_patch.TooLarge) as error:
        json_patch.apply({}, patch)
    assert str(error.value) == "The allowed maximum operations in a JSON patch is 10000, got 10001"
    assert json_patch.apply({}, patch[:-1]) == {"a": 1}


def test_a_patch_is_a_list_of_operations() -> None:
    with pytest.raises(
        json_patch.MalformedPatch, match=r"json: cannot unmarshal object into Go value of type jsonpatch"
    ):
        json_patch.apply({}, {"op": "add"})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=3), st.text(max_size=3), values)
def test_added_values_test_equal_and_can_be_removed(document: dict[str, Any], key: str, value: Any) -> None:
    path = "/" + key.replace("~", "~0").replace("/", "~1")
    added = json_patch.apply(
        document, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}]
    )
    assert added == {**document, key: value}
    without = {k: v for k, v in document.items() if k != key}
    assert json_patch.apply(added, [{"op": "remove", "path": path}]) == without


def test_copies_may_not_double_without_end() -> None:
    grow = [{"op": "copy", "from": "/x", "path": "/x/-"}] * 30
    with pytest.raises(json_patch.TooLarge, match="Unable to complete the copy, the accumulated size increase of copy"):
        json_patch.apply({"x": ["y" * 100]}, grow)
    assert json_patch.apply({"x": ["y"]}, grow[:1]) == {"x": ["y", ["y"]]}


def test_a_patch_can_be_applied_again() -> None:
    patch = [
        {"op": "add", "path": "/a", "value": {"b": "1"}},
        {"op": "remove", "path": "/a/b"},
        {"op": "add", "path": "/a/c", "value": ["2"]},
    ]
    for _ in range(2):
        assert json_patch.apply({}, patch) == {"a": {"c": ["2"]}}


def test_a_copy_of_what_is_not_there() -> None:
    assert json_patch.apply({"a": {}}, [{"op": "copy", "from": "/a/x", "path": "/b"}]) == {"a": {}, "b": None}
