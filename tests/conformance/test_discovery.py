"""Discovery in both forms, the server's version, and what can't be shown as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance import web as wire
from tests.conformance.custom import DEFINITIONS, definition, version
from tests.conformance.web import Web, over_http
from tests.conformance.whole import in_namespace

AGGREGATED = {"accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
#: As client-go asks, which takes the other form as well.
CLIENT = {
    "accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
}
BUILTIN = [
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
]


def resources(document: Any) -> set[tuple[str, str, str]]:
    return {
        (group["metadata"].get("name", ""), version_["version"], resource["resource"])
        for group in document["items"]
        for version_ in group["versions"]
        for resource in version_["resources"]
    }


@pytest.mark.parametrize("headers", [AGGREGATED, CLIENT], ids=["raw", "client"])
@over_http
async def test_aggregated_discovery(web: Web, headers: dict[str, str]) -> None:
    document = await web.ask("GET", "/apis", headers=headers)
    assert (document["kind"], document["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    assert set(BUILTIN) <= resources(document)
    legacy = await web.ask("GET", "/api", headers=headers)
    assert ("", "v1", "namespaces") in resources(legacy)


@pytest.mark.parametrize("headers", [AGGREGATED, CLIENT], ids=["raw", "client"])
@over_http
async def test_aggregated_discovery_of_custom_resources(web: Web, headers: dict[str, str]) -> None:
    raw = definition("testcrds", "testcrd", version("v1", storage=True), group="group1.example.com")
    await web.ask("POST", DEFINITIONS, raw)
    while ("group1.example.com", "v1", "testcrds") not in resources(await web.ask("GET", "/apis", headers=headers)):
        pass


@over_http
async def test_every_group_has_a_preferred_version(web: Web) -> None:
    for group in (await web.ask("GET", "/apis"))["groups"]:
        detail = await web.ask("GET", f"/apis/{group['name']}")
        preferred = detail["preferredVersion"]
        assert preferred["groupVersion"] in [v["groupVersion"] for v in detail["versions"]]
        assert preferred == group["preferredVersion"]


@over_http
async def test_every_group_has_resources(web: Web) -> None:
    for group in (await web.ask("GET", "/apis"))["groups"]:
        for version_ in group["versions"]:
            listed = await web.ask("GET", f"/apis/{version_['groupVersion']}")
            assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", version_["groupVersion"])
            assert listed["resources"] and all(r["name"] and r["kind"] and r["verbs"] for r in listed["resources"])


@over_http
async def test_the_kinds_of_apiextensions(web: Web) -> None:
    groups = {g["name"]: g for g in (await web.ask("GET", "/apis"))["groups"]}
    group = await web.ask("GET", "/apis/apiextensions.k8s.io")
    assert groups["apiextensions.k8s.io"]["versions"] == group["versions"]
    listed = await web.ask("GET", "/apis/apiextensions.k8s.io/v1")
    assert "customresourcedefinitions" in {r["name"] for r in listed["resources"]}


@over_http
async def test_the_version_is_of_numbers(web: Web) -> None:
    found = await web.ask("GET", "/version")
    assert int(found["major"]) == 1 and int(found["minor"].rstrip("+")) >= 30
    assert {"gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"} <= set(found)


@over_http
async def test_a_review_is_no_table(web: Web) -> None:
    """406, not a review in another form."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}},
    }
    refused = await web.ask(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, status=406, headers=wire.TABLE
    )
    assert refused["reason"] == "NotAcceptable"


@over_http
async def test_tables_of_pods_nodes_and_pages(web: Web) -> None:
    pods, templates = in_namespace("v1", "pods"), in_namespace("v1", "podtemplates")
    spec = {"containers": [{"name": "c", "image": "busybox"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    await web.ask("POST", pods, pod)
    table = await web.ask("GET", f"{pods}/p", headers=wire.TABLE)
    assert table["columnDefinitions"][0]["name"] == "Name" and table["rows"][0]["cells"][0] == "p"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    await web.ask("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    nodes = await web.ask("GET", "/api/v1/nodes", headers=wire.TABLE)
    assert [c["name"] for c in nodes["columnDefinitions"]][:2] == ["Name", "Status"]
    for n in range(20):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": f"t-{n:02}"}}
        await web.ask("POST", templates, {**template, "template": {"spec": spec}})
    first = await web.ask("GET", templates, headers=wire.TABLE, params={"limit": "2"})
    assert [r["cells"][0] for r in first["rows"]] == ["t-00", "t-01"] and first["metadata"]["remainingItemCount"] == 18
    rest = {"continue": first["metadata"]["continue"]}
    second = await web.ask("GET", templates, headers=wire.TABLE, params=rest)
    assert len(second["rows"]) == 18 and second["rows"][0]["cells"][0] == "t-02"
