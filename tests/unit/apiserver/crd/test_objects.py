"""Custom objects and their bytes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from podling.api import meta_v1
from podling.api.struct import encode
from podling.apiserver.codec import splice, unsplice
from podling.apiserver.crd.objects import CustomCodec, CustomObject, make
from podling.apiserver.crd.structural import compiled
from podling.machinery import schema

NODE = compiled({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}})
CODEC = CustomCodec("Widget", "example.com/v1", NODE)


def widget(**content: Any) -> CustomObject:
    return make("Widget", "example.com/v1", meta_v1.ObjectMeta(name="w", labels={"b": "1", "a": "2"}), content)


def test_bytes_come_back_as_the_object() -> None:
    obj = widget(spec={"z": [1, {"y": None}], "a": 1.5}, status={"ok": True})
    data = CODEC.encode(obj)
    assert CODEC.decode(data) == obj
    assert json.loads(data) == json.loads(encode(obj))


def test_the_same_object_has_the_same_bytes_however_its_fields_are_ordered() -> None:
    one, other = widget(spec={"a": 1, "b": {"c": 1, "d": 2}}), widget(spec={"b": {"d": 2, "c": 1}, "a": 1})
    assert CODEC.encode(one) == CODEC.encode(other)


def test_the_version_is_spliced_into_metadata_whatever_else_is_called_so() -> None:
    data = CODEC.encode(widget(aaa={"metadata": {"x": 1}}))
    wire = splice(data, 7)
    assert json.loads(wire)["metadata"]["resourceVersion"] == "7"
    assert unsplice(wire, 7) == data


def test_content_is_all_but_kind_version_and_metadata() -> None:
    obj = widget(spec={"a": "1"}, other=1)
    assert obj.content == {"spec": {"a": "1"}, "other": 1}
    obj.content = {"spec": {}}
    assert list(obj) == ["kind", "apiVersion", "metadata", "spec"]
    assert obj.status is None
    obj.status = {"x": 1}
    assert obj["status"] == {"x": 1}
    obj.status = None
    assert "status" not in obj
    twin = copy.copy(obj)
    twin.metadata = meta_v1.ObjectMeta(name="other")
    assert obj.metadata.name == "w" and isinstance(twin, CustomObject)


def test_dicts_do_not_share_anything_with_the_object() -> None:
    obj = widget(spec={"a": [1]})
    found = CODEC.to_dict(obj)
    found["spec"]["a"].append(2)
    found["metadata"]["name"] = "x"
    assert obj["spec"] == {"a": [1]} and obj.metadata.name == "w"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "cannot unmarshal array"),
        ({"apiVersion": "v1"}, "Object 'Kind' is missing"),
        ({"kind": 1}, "Object 'kind' is not a string"),
        ({"kind": "Widget", "metadata": []}, "json: cannot unmarshal array into Go value of type v1.ObjectMeta"),
        ({"kind": "Widget", "metadata": {"name": 5}}, "json: cannot unmarshal number into Go struct field"),
    ],
)
def test_what_is_no_object(raw: Any, message: str) -> None:
    with pytest.raises(schema.DecodeError, match=message.replace(".", r"\.")):
        CODEC.convert(raw)


def test_unknown_and_duplicate_fields() -> None:
    text = (
        '{"kind":"Widget","metadata":{"name":"w","bogus":1},"spec":{"a":"x","a":"y","b":1},"other":{},"kind":"Widget"}'
    )
    assert CODEC.problems(schema.parse(text)) == [
        'duplicate field "kind"',
        'duplicate field "spec.a"',
        'unknown field "metadata.bogus"',
        'unknown field "other"',
        'unknown field "spec.b"',
    ]
