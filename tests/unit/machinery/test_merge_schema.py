"""What the tables of server-side apply say, beside the schemas that they were read from."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from podling.api import apps_v1, registry
from podling.machinery import typeinfo
from podling.machinery.merge_schema import ALWAYS_THERE, ATOMIC_TYPES, of_openapi, of_type


def test_the_atomic_types_are_those_of_the_schemas() -> None:
    root = files("kubernetes_validate") / "kubernetes-json-schema" / "v1.37.0-local" / "_definitions.json"
    found = {
        f"{name.split('.')[-3]}_{name.split('.')[-2]}.{name.split('.')[-1]}"
        for name, schema in json.loads(root.read_text())["$defs"].items()
        if schema.get("x-kubernetes-map-type") == "atomic" and name.split(".")[-2] in ("v1", "v2")
    }
    assert found == ATOMIC_TYPES


def test_what_is_always_there_is_a_field_that_holds_an_object() -> None:
    for name, fields in ALWAYS_THERE.items():
        module, _, kind = name.partition(".")
        type_ = getattr(__import__(f"podling.api.{module}", fromlist=[kind]), kind)
        for field in fields:
            info = typeinfo.fields(type_)[field]
            assert (info.struct is not None, info.shape) == (True, ""), f"{name}.{field}"


def test_every_kind_has_a_schema() -> None:
    for resource in registry.BUILTIN:
        node = of_type(resource.type)
        assert "metadata" in node.names
        assert {f.name for f in node.fields} == node.names


@pytest.mark.parametrize(
    ("path", "shape", "keys"),
    [
        (("spec", "selector"), "atomic", ()),
        (("spec", "strategy"), "map", ()),
        (("spec", "template", "spec", "containers"), "list", ("name",)),
        (("spec", "template", "spec", "tolerations"), "atomic", ()),
        (("spec", "template", "metadata", "finalizers"), "list", ()),
        (("spec", "template", "metadata", "labels"), "map", ()),
        (("spec", "replicas"), "scalar", ()),
    ],
)
def test_how_parts_of_a_deployment_merge(path: tuple[str, ...], shape: str, keys: tuple[str, ...]) -> None:
    node = of_type(apps_v1.Deployment)
    for name in path:
        node = node.child(name)
    assert (node.shape, node.keys) == (shape, keys)


def test_an_embedded_resource_has_metadata() -> None:
    node = of_openapi(
        {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"x": {"type": "string"}}}
    )
    assert not node.open
    assert node.names == {"x", "apiVersion", "kind", "metadata"}
    assert "labels" in node.child("metadata").names
