"""PATCH: three kinds, failures in upstream's words, races."""

import asyncio
import json
from typing import Any

import pytest

from apiserver.harness import Server, config_map, pod, virtual
from podling.api import core_v1

PATH = "/api/v1/namespaces/default/configmaps/a"
JSON, MERGE, STRATEGIC = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


def typed(kind: str) -> dict[str, Any]:
    return {"headers": {"content-type": kind}}


@pytest.mark.parametrize(
    ("kind", "patch", "data"),
    [
        (MERGE, {"data": {"a": "1", "k": None}}, {"a": "1"}),
        (STRATEGIC, {"data": {"a": "1"}}, {"k": "v", "a": "1"}),
        (JSON, [{"op": "add", "path": "/data/a", "value": "1"}], {"k": "v", "a": "1"}),
        (JSON, [{"op": "test", "path": "/data/k", "value": "v"}, {"op": "remove", "path": "/data/k"}], {}),
        (MERGE, {"data": None}, None),
    ],
)
@virtual
async def test_kinds_of_patches(server: Server, kind: str, patch: Any, data: dict[str, str] | None) -> None:
    await server.client.create(config_map("a"))
    response = await server.ask("PATCH", PATH, patch, **typed(kind))
    assert response.obj.data == data
    assert (await server.client.get(core_v1.ConfigMap, "a", "default")).data == data


@virtual
async def test_strategic_merge_by_key(server: Server) -> None:
    await server.client.create(pod("p"))
    patch = {"spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    changed = await server.client.patch(core_v1.Pod, "p", "default", patch)
    assert changed.spec is not None
    assert [(c.name, c.image) for c in changed.spec.containers] == [("c", "nginx")]


@pytest.mark.parametrize(
    ("kind", "patch", "code", "text"),
    [
        ("application/json", {}, 415, "accepted media types include: application/json-patch+json"),
        (MERGE, [], 400, "error decoding patch: json: cannot unmarshal array into Go value of type map"),
        (JSON, {}, 400, "cannot unmarshal object into Go value of type jsonpatch.Patch"),
        (JSON, [{"op": "remove", "path": "/data/z"}], 422, "the server rejected our request due to an error in our"),
        (JSON, [{"op": "test", "path": "/data/k", "value": "w"}], 422, "the server rejected our request due to an"),
        (MERGE, {"metadata": {"name": "b"}}, 400, "the name of the object (b) does not match the name on the URL (a)"),
        (MERGE, {"metadata": {"resourceVersion": "1"}}, 409, "the object has been modified"),
        (MERGE, {"metadata": {"uid": "x"}}, 409, "Precondition failed: UID in precondition: x"),
        (MERGE, {"data": {"a": 1}}, 422, "json: cannot unmarshal number into Go struct field ConfigMap.data"),
        (STRATEGIC, {"data": {"a": 1}}, 422, 'patch: Invalid value: "map[data:map[a:1]]": json: cannot unmarshal'),
    ],
)
@virtual
async def test_patches_that_are_refused(server: Server, kind: str, patch: Any, code: int, text: str) -> None:
    await server.client.create(config_map("a"))
    error = await server.fails("PATCH", PATH, json.dumps(patch).encode(), **typed(kind))
    assert error.code == code
    assert text in str(error)
    assert (await server.client.get(core_v1.ConfigMap, "a", "default")).data == {"k": "v"}


@virtual
async def test_too_many_operations(server: Server) -> None:
    await server.client.create(config_map("a"))
    patch = [{"op": "add", "path": "/data/a", "value": "1"}] * 10_001
    error = await server.fails("PATCH", PATH, patch, **typed(JSON))
    assert error.code == 413
    assert str(error) == "The allowed maximum operations in a JSON patch is 10000, got 10001"


@virtual
async def test_unknown_and_duplicate_fields(server: Server) -> None:
    await server.client.create(config_map("a"))
    sent = b'{"data":{"a":"1","a":"2"},"foo":1}'
    warned = await server.ask("PATCH", PATH, sent, **typed(MERGE))
    assert warned.warnings == ['duplicate field "data.a"', 'unknown field "foo"']
    error = await server.fails("PATCH", PATH, sent, query={"fieldValidation": "Strict"}, **typed(STRATEGIC))
    assert error.code == 422
    assert str(error).endswith('strict decoding error: duplicate field "data.a", unknown field "foo"')


@virtual
async def test_racing_patches_all_count(server: Server) -> None:
    await server.client.create(config_map("a"))
    await asyncio.gather(*(server.ask("PATCH", PATH, {"data": {str(i): ""}}, **typed(MERGE)) for i in range(12)))
    found = await server.client.get(core_v1.ConfigMap, "a", "default")
    assert found.data is not None and len(found.data) == 13


@virtual
async def test_a_patch_that_changes_nothing_is_not_written(server: Server) -> None:
    await server.client.create(config_map("a"))
    before = server.store.revision
    await server.ask("PATCH", PATH, {"data": {"k": "v"}}, **typed(MERGE))
    assert server.store.revision == before


@virtual
async def test_patch_of_nothing(server: Server) -> None:
    assert (await server.fails("PATCH", PATH, {}, **typed(MERGE))).code == 404
