"""Custom resources: any JSON is taken or refused, what is kept has been pruned and defaulted once and for all."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutation import ANYTHING
from tests.fuzz.server import APPLY, JSON_PATCH, MERGE, Fuzzed, examples, on_server
from tests.unit.apiserver.crd.support import running

GROUP = "/apis/fuzz.example.com/v1"
PATH = f"{GROUP}/namespaces/default/things"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "x-kubernetes-validations": [{"rule": "!has(self.name) || self.size < 100", "message": "too large"}],
            "properties": {
                "size": {"type": "integer", "default": 3, "minimum": 0},
                "name": {"type": "string", "maxLength": 10, "pattern": "^[a-z]*$", "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "may not change"}]},
                "port": {"x-kubernetes-int-or-string": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "maybe": {"type": "string", "nullable": True},
                "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "map": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["key"],
                    "items": {"type": "object", "required": ["key"], "properties": {
                        "key": {"type": "string"}, "value": {"type": "number", "default": 1.5}}},
                },
                "template": {"type": "object", "x-kubernetes-embedded-resource": True,
                             "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}  # fmt: skip
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.fuzz.example.com"},
    "spec": {
        "group": "fuzz.example.com",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
             "schema": {"openAPIV3Schema": SCHEMA}}
        ],
    },
}  # fmt: skip

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "size": st.integers(-2, 200),
    "name": st.text(alphabet="abC", max_size=12),
    "port": st.integers() | st.text(max_size=3) | st.floats(allow_nan=False, allow_infinity=False),
    "free": st.dictionaries(st.text(max_size=3), ANYTHING, max_size=3),
    "maybe": st.none() | st.text(max_size=3),
    "set": st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
    "map": st.lists(st.fixed_dictionaries({"key": st.sampled_from("ab")}, optional={"value": ANYTHING}), max_size=2),
    "template": st.fixed_dictionaries({"apiVersion": st.just("v1"), "kind": st.just("Pod")}, optional={"x": ANYTHING}),
    "unknown": ANYTHING,
}
specs = st.fixed_dictionaries({}, optional={k: v | ANYTHING for k, v in _FIELDS.items()}) | st.fixed_dictionaries(
    {"size": _FIELDS["size"]}, optional={k: v for k, v in _FIELDS.items() if k != "size"}
)
patches = st.tuples(
    st.sampled_from([JSON_PATCH, MERGE, APPLY]),
    ANYTHING
    | specs.map(lambda spec: {"spec": spec})
    | st.lists(
        st.fixed_dictionaries({
            "op": st.sampled_from(["add", "remove", "replace", "copy", "move", "test"]),
            "path": st.sampled_from(["", "/spec", "/spec/free", "/spec/map/0", "/spec/map/-", "/metadata", "/status"]),
            "from": st.sampled_from(["/spec", "/spec/free", "/metadata/name", "/nothing"]),
            "value": ANYTHING,
        }),
        max_size=3,
    ),
)  # fmt: skip


def thing(spec: Any) -> dict[str, Any]:
    return {"apiVersion": "fuzz.example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}


async def define(fuzzed: Fuzzed) -> None:
    status, said = await fuzzed.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION)
    assert status == 201, said
    while (await fuzzed.ask("GET", PATH))[0] != 200:
        await asyncio.sleep(0.1)


@examples(60)
@given(specs, st.lists(patches, max_size=4))
def test_create_and_patch(spec: Any, found: list[tuple[str, Any]]) -> None:
    async def test(fuzzed: Fuzzed) -> None:
        await define(fuzzed)
        status, _ = await fuzzed.ask("POST", PATH, thing(spec))
        if status != 201:
            status, _ = await fuzzed.ask("POST", PATH, thing({"size": 1}))
        for kind, body in found:
            if kind == APPLY and isinstance(body, dict) and "spec" in body:
                body = thing(body["spec"])
            for path in (f"{PATH}/x", f"{PATH}/x/status"):
                await fuzzed.ask("PATCH", path, body, kind, **({"fieldManager": "f"} if kind == APPLY else {}))
            shown = await fuzzed.shown(f"{PATH}/x")
            before = fuzzed.revision
            assert (await fuzzed.ask("PUT", f"{PATH}/x", shown))[0] == 200 and fuzzed.revision == before

    on_server(test, running)


@examples(40)
@given(st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "object", "array", "boolean", "x"])}),
    lambda inner: st.fixed_dictionaries({"type": st.sampled_from(["object", "array"])}, optional={
        "properties": st.dictionaries(st.sampled_from(["a", "b", ""]), inner, max_size=2), "items": inner,
        "default": ANYTHING, "enum": st.lists(ANYTHING, max_size=2), "pattern": st.sampled_from(["(", "a*", "(?=x)"]),
        "additionalProperties": inner | st.booleans(), "required": st.lists(st.sampled_from(["a", "zz"]), max_size=2),
        "x-kubernetes-validations": st.lists(st.fixed_dictionaries({"rule": st.sampled_from(
            ["self", "self.a == 1", "self.all(x, x.all(y, true))", "((((", "size(self) > 0"])}), max_size=2),
        "x-kubernetes-list-type": st.sampled_from(["map", "set", "atomic", "y"]), "oneOf": st.lists(inner, max_size=2),
        "x-kubernetes-preserve-unknown-fields": st.booleans(), "nullable": st.booleans(), "not": inner}),
    max_leaves=5,
))  # fmt: skip
def test_definitions(schema: dict[str, Any]) -> None:
    async def test(fuzzed: Fuzzed) -> None:
        spec = DEFINITION["spec"]
        assert isinstance(spec, dict)
        version = {**spec["versions"][0], "schema": {"openAPIV3Schema": schema}}
        definition = {**DEFINITION, "spec": {**spec, "versions": [version]}}
        await fuzzed.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)

    on_server(test, running)
