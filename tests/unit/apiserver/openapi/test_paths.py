"""Operations: identifiers, parameters, codes and media types are upstream's, by which clients are generated."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import registry
from podling.apiserver.openapi import openapi3, paths, routes, swagger
from podling.apiserver.openapi.schemas import Definitions


def resource(name: str) -> registry.Resource:
    return next(r for r in registry.BUILTIN if r.qualified == name)


def v2(name: str, **more: Any) -> dict[str, Any]:
    made = swagger.document(paths.of(resource(name), **more), Definitions(2), {}, cbor=False)
    shared = made["parameters"]

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(item) for item in value]
        if not isinstance(value, dict):
            return value
        if (ref := str(value.get("$ref"))).startswith("#/parameters/"):
            return shared[ref.rpartition("/")[2]]
        return {key: whole(item) for key, item in value.items()}

    found: dict[str, Any] = whole(made["paths"])
    return found


def names(parameters: list[dict[str, Any]]) -> list[str]:
    return [p["name"] for p in parameters]


POD = "/api/v1/namespaces/{namespace}/pods/{name}"


@pytest.mark.parametrize(
    ("name", "path", "method", "id_", "tag", "summary"),
    [
        ("pods", POD, "get", "readCoreV1NamespacedPod", "core_v1", "read the specified Pod"),
        ("pods", f"{POD}/exec", "post", "connectCoreV1PostNamespacedPodExec", "core_v1",
         "connect POST requests to exec of Pod"),
        ("pods", f"{POD}/proxy/{{path}}", "head", "connectCoreV1HeadNamespacedPodProxyWithPath", "core_v1",
         "connect HEAD requests to proxy of Pod"),
        ("pods", f"{POD}/eviction", "post", "createCoreV1NamespacedPodEviction", "core_v1",
         "create eviction of a Pod"),
        ("pods", "/api/v1/watch/pods", "get", "watchCoreV1PodListForAllNamespaces", "core_v1",
         "watch individual changes to a list of Pod. deprecated: use the 'watch' parameter with a list operation "
         "instead."),
        ("endpoints", "/api/v1/namespaces/{namespace}/endpoints", "post", "createCoreV1NamespacedEndpoints", "core_v1",
         "create Endpoints"),
        ("ingressclasses.networking.k8s.io", "/apis/networking.k8s.io/v1/ingressclasses", "post",
         "createNetworkingV1IngressClass", "networking_v1", "create an IngressClass"),
        ("flowschemas.flowcontrol.apiserver.k8s.io", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", "delete",
         "deleteFlowcontrolApiserverV1CollectionFlowSchema", "flowcontrolApiserver_v1",
         "delete collection of FlowSchema"),
        ("deployments.apps", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale", "put",
         "replaceAppsV1NamespacedDeploymentScale", "apps_v1", "replace scale of the specified Deployment"),
        ("componentstatuses", "/api/v1/componentstatuses", "get", "listCoreV1ComponentStatus", "core_v1",
         "list objects of kind ComponentStatus"),
    ],
)  # fmt: skip
def test_operations(name: str, path: str, method: str, id_: str, tag: str, summary: str) -> None:
    operation = v2(name)[path][method]
    assert (operation["operationId"], operation["tags"], operation["description"]) == (id_, [tag], summary)


def test_what_all_operations_of_a_path_take_is_said_of_the_path() -> None:
    found = v2("pods")
    assert names(found[POD]["parameters"]) == ["name", "namespace", "pretty"]
    assert names(found[f"{POD}/exec"]["parameters"]) == [
        "command", "container", "name", "namespace", "stderr", "stdin", "stdout", "tty",
    ]  # fmt: skip
    assert "parameters" not in found[POD]["get"]
    assert names(found[POD]["patch"]["parameters"]) == ["body", "dryRun", "fieldManager", "fieldValidation", "force"]
    assert "watch" in names(found["/api/v1/pods"]["parameters"])
    assert found[f"{POD}/exec"]["parameters"][2]["description"] == "name of the PodExecOptions"


def test_codes_and_what_they_answer_with() -> None:
    pod = v2("pods")[POD]
    assert [sorted(pod[m]["responses"]) for m in ("get", "put", "patch", "delete")] == [
        ["200", "401"],
        ["200", "201", "401"],
        ["200", "201", "401"],
        ["200", "202", "401"],
    ]
    assert pod["delete"]["responses"]["200"]["schema"]["$ref"].endswith(".v1.Pod")
    secret = v2("secrets")["/api/v1/namespaces/{namespace}/secrets/{name}"]
    assert secret["delete"]["responses"]["202"]["schema"]["$ref"].endswith(".v1.Status")
    assert sorted(v2("pods")["/api/v1/namespaces/{namespace}/pods"]["post"]["responses"]) == [
        "200",
        "201",
        "202",
        "401",
    ]


def test_media_types() -> None:
    found = v2("pods")
    plain = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
    assert found[POD]["get"]["produces"] == plain
    assert found[f"{POD}/log"]["get"]["produces"] == ["text/plain", *plain]
    assert found["/api/v1/pods"]["get"]["produces"] == [
        *plain, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch",
    ]  # fmt: skip
    assert found[f"{POD}/exec"]["get"]["produces"] == ["*/*"]
    made = openapi3.document(paths.of(resource("pods")), Definitions(3), {}, cbor=True)
    patch = made["paths"][POD]["patch"]
    assert list(patch["requestBody"]["content"])[-1] == "application/apply-patch+cbor"
    assert "application/cbor-seq" in made["paths"]["/api/v1/pods"]["get"]["responses"]["200"]["content"]


def test_custom_resources_have_no_protobuf_and_no_strategic_merge() -> None:
    row = registry.Resource(group="stable.example.com", version="v1", name="crontabs", kind="CronTab")
    definitions = Definitions(2)
    definitions.custom = {("stable.example.com", "v1", kind): kind for kind in ("CronTab", "CronTabList")}
    made = swagger.document(paths.of(row, custom=True), definitions, {}, cbor=False)["paths"]
    item = made["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]
    assert item["patch"]["operationId"] == "patchStableExampleComV1NamespacedCronTab"
    assert item["patch"]["tags"] == ["stableExampleCom_v1"]
    assert item["patch"]["consumes"] == [
        "application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml",
    ]  # fmt: skip
    assert item["get"]["produces"] == ["application/json", "application/yaml"]
    assert not any("/watch/" in path for path in made)


def test_paths_that_are_no_resources() -> None:
    found = routes.of(
        [("", "v1"), ("rbac.authorization.k8s.io", "v1"), ("x.dev", "v1")], ["/openid/v1/jwks"], cbor=False
    )
    assert {path: o.id for path, o in found.items()} == {
        "/api/": "getCoreAPIVersions",
        "/api/v1/": "getCoreV1APIResources",
        "/apis/": "getAPIVersions",
        "/apis/rbac.authorization.k8s.io/": "getRbacAuthorizationAPIGroup",
        "/apis/rbac.authorization.k8s.io/v1/": "getRbacAuthorizationV1APIResources",
        "/openid/v1/jwks/": "getServiceAccountIssuerOpenIDKeyset",
        "/version/": "getCodeVersion",
    }


def test_shared_parameters_are_named_by_what_they_say() -> None:
    made = swagger.document(paths.of(resource("secrets")), Definitions(2), {}, cbor=False)
    assert sum(name.startswith("pretty-") for name in made["parameters"]) == 1
    create = made["paths"]["/api/v1/namespaces/{namespace}/secrets"]["post"]["parameters"]
    # By these kubectl learned what a server can do, so they stay where they are.
    assert {"dryRun", "fieldValidation"} <= {p.get("name") for p in create}


@pytest.mark.parametrize(("text", "name"), [("", "y_Kc5IQi"), ("a", "r2O9TIYB")])
def test_hashes(text: str, name: str) -> None:
    """FNV-1 of nothing is its offset, cbf29ce484222325."""
    assert swagger._hash(text) == name
