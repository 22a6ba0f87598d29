"""Discovery and OpenAPI: what clients learn of the server and how they speak to it."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from podling.api import core_v1, registry
from podling.apiserver.openapi import gnostic, schemas
from podling.apiserver.openapi.messages import varint
from podling.apiserver.wire import apidiscovery_v2, proto_reader, protobuf
from tests.unit.apiserver.harness import Server, virtual

AGGREGATED = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"}


async def document(server: Server, path: str, **headers: str) -> Any:
    response = await server.ask("GET", path, headers=headers)
    assert response.status == 200 and response.body is not None
    return msgspec.json.decode(response.body)


@virtual
async def test_every_group_lists_its_resources(server: Server) -> None:
    groups = (await document(server, "/apis"))["groups"]
    assert {g["name"] for g in groups} == {r.group for r in registry.BUILTIN if r.group}
    for group in groups:
        versions = [v["groupVersion"] for v in group["versions"]]
        assert group["preferredVersion"]["groupVersion"] in versions
        assert await document(server, f"/apis/{group['name']}") == {"kind": "APIGroup", "apiVersion": "v1", **group}
        for version in versions:
            listed = await document(server, f"/apis/{version}")
            assert listed["groupVersion"] == version and listed["resources"]
    assert (await document(server, "/api"))["versions"] == ["v1"]
    scaler = next(g for g in groups if g["name"] == "autoscaling")
    assert scaler["preferredVersion"]["version"] == "v2"


@virtual
async def test_resources_of_core(server: Server) -> None:
    found = {r["name"]: r for r in (await document(server, "/api/v1"))["resources"]}
    assert found["pods"]["shortNames"] == ["po"] and found["pods"]["categories"] == ["all"]
    assert found["pods"]["singularName"] == "pod" and found["pods"]["namespaced"]
    assert found["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "group": "policy",
        "version": "v1",
        "kind": "Eviction",
        "verbs": ["create"],
    }
    assert found["namespaces/finalize"]["verbs"] == ["update"]
    assert found["bindings"]["verbs"] == ["create"]


@virtual
async def test_aggregated_discovery(server: Server) -> None:
    response = await server.ask("GET", "/apis", headers=AGGREGATED)
    assert response.headers["content-type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    found = msgspec.json.decode(response.body or b"")
    assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    apps = next(g for g in found["items"] if g["metadata"]["name"] == "apps")
    deployments = next(r for r in apps["versions"][0]["resources"] if r["resource"] == "deployments")
    assert deployments["responseKind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert [s["subresource"] for s in deployments["subresources"]] == ["scale", "status"]
    assert response.headers["Cache-Control"] == "public" and response.headers["Vary"] == "Accept"
    again = await server.ask("GET", "/apis", headers={**AGGREGATED, "if-none-match": response.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("path", ["/api", "/apis"])
@virtual
async def test_aggregated_discovery_in_protobuf(server: Server, path: str) -> None:
    kind = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    response = await server.ask("GET", path, headers={"accept": f"application/vnd.kubernetes.protobuf{kind}"})
    assert response.headers["content-type"] == f"application/vnd.kubernetes.protobuf{kind}"
    json_ = await server.ask("GET", path, headers={"accept": f"application/json{kind}"})
    assert response.headers["ETag"] == json_.headers["ETag"]
    name, version, message = protobuf._envelope((response.body or b"")[4:])
    assert (name, version) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    found = proto_reader.read(message, apidiscovery_v2.APIGroupDiscoveryList)
    items = msgspec.json.decode(json_.body or b"")["items"]
    # The empty group of core is not there in protobuf.
    assert len(found["items"]) == len(items) and (path == "/api" or found["items"] == items)


@virtual
async def test_the_beta_of_aggregated_discovery_is_gone(server: Server) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    assert (await document(server, "/apis", accept=accept))["kind"] == "APIGroupList"


@virtual
async def test_what_is_installed_later_is_seen(server: Server) -> None:
    before = (await server.ask("GET", "/apis", headers=AGGREGATED)).headers["ETag"]
    resource = registry.Resource(group="example.com", version="v1", name="things", kind="ConfigMap")
    # Any type will do: discovery does not look at it.
    server.app.install(resource)
    assert (await server.ask("GET", "/apis", headers=AGGREGATED)).headers["ETag"] != before
    assert (await document(server, "/apis/example.com/v1"))["resources"][0]["name"] == "things"
    server.app.uninstall(resource)
    assert (await server.fails("GET", "/apis/example.com/v1")).code == 404


@pytest.mark.parametrize("path", ["/apis/nope", "/apis/apps/v2", "/api/v2", "/openapi/v3/apis/nope/v1"])
@virtual
async def test_unknown_documents(server: Server, path: str) -> None:
    assert (await server.fails("GET", path)).code == 404


# OpenAPI


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(v) for v in node.values()))
    return set().union(*(references(v) for v in node)) if isinstance(node, list) else set()


@virtual
async def test_openapi_v3_of_a_group(server: Server) -> None:
    index = (await document(server, "/openapi/v3"))["paths"]
    assert index["apis/apps/v1"]["serverRelativeURL"].startswith("/openapi/v3/apis/apps/v1?hash=")
    for path in index:
        found = await document(server, f"/openapi/v3/{path}")
        assert found["openapi"] == "3.0.0"
        assert references(found) <= set(found["components"]["schemas"])
    apps = await document(server, "/openapi/v3/apis/apps/v1")
    patch = apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    # By these kubectl knows that the server validates fields.
    assert "fieldValidation" in {p["name"] for p in patch["parameters"]}
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    pod_spec = apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]
    containers = pod_spec["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert "containers" in pod_spec["required"]


@virtual
async def test_openapi_v2(server: Server) -> None:
    found = await document(server, "/openapi/v2")
    assert found["swagger"] == "2.0"
    assert references(found) <= {*found["definitions"], *found["parameters"]}
    for resource in registry.BUILTIN:
        kinds = [
            kind
            for definition in found["definitions"].values()
            for kind in definition.get("x-kubernetes-group-version-kind", [])
        ]
        assert {"group": resource.group, "version": resource.version, "kind": resource.kind} in kinds
        break
    operation = found["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"]
    assert operation["x-kubernetes-action"] == "post"
    ids = [o["operationId"] for p in found["paths"].values() for m, o in p.items() if m != "parameters"]
    assert {r.rpartition("/")[2] for r in re.findall(r"#/parameters/[^\"]+", json.dumps(found["paths"]))} == set(
        found["parameters"]
    )
    assert len(ids) == len(set(ids))


def test_descriptions_are_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "_prose", dict)
    definitions = schemas.Definitions(3)
    name = definitions.add(core_v1.ConfigMap)
    found = definitions.schemas[name]
    assert "description" not in found
    assert found["properties"]["binaryData"] == {
        "type": "object",
        "additionalProperties": {"type": "string", "format": "byte"},
    }


def test_documents_etag() -> None:
    assert varint(0) == b"\0" and varint(300) == b"\xac\x02"


def scan(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, _, value in proto_reader.scan(data):
        found.setdefault(number, []).append(value)
    return found


@virtual
async def test_openapi_v2_in_protobuf(server: Server) -> None:
    kind = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    response = await server.ask("GET", "/openapi/v2", headers={"accept": kind})
    assert response.headers["content-type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    swagger = await document(server, "/openapi/v2")
    found = scan(response.body or b"")
    assert found[1] == [b"2.0"]
    named = [scan(item) for item in scan(found[9][0])[1]]
    assert [n[1][0].decode() for n in named] == list(swagger["definitions"])
    by_name = {n[1][0].decode(): scan(n[2][0]) for n in named}
    config_map = by_name["io.k8s.api.core.v1.ConfigMap"]
    assert scan(config_map[22][0])[1] == [b"object"]
    extension = scan(config_map[31][0])
    assert extension[1] == [b"x-kubernetes-group-version-kind"]
    assert json.loads(scan(extension[2][0])[2][0]) == [{"group": "", "version": "v1", "kind": "ConfigMap"}]
    assert len(scan(found[8][0])[2]) == len(swagger["paths"])


def test_gnostic_leaves_out_what_it_does_not_know() -> None:
    assert gnostic.document({"swagger": "2.0", "somethingNew": 1}) == gnostic.document({"swagger": "2.0"})


@virtual
async def test_only_what_has_to_be_there_is_required(server: Server) -> None:
    document = json.loads((await server.ask("GET", "/openapi/v2")).body)["definitions"]
    props = document["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"]
    assert "required" not in props and {"default", "example"} <= set(props["properties"])
    assert document["io.k8s.api.resource.v1.OpaqueDeviceConfiguration"]["required"] == ["driver", "parameters"]
    assert document["io.k8s.api.apps.v1.ControllerRevision"]["required"] == ["data"]
