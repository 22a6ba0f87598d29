"""Aggregation: what the conformance programme does with sample-apiserver, with an extension server on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from podling.api import apiregistration_v1 as v1
from podling.api import core_v1, meta_v1, rbac_v1
from podling.api.errors import StatusError
from podling.api.registry import Resource
from podling.api.struct import clone
from tests.conformance import aggregated
from tests.conformance.aggregated import NAME, World, endpoints, service
from tests.conformance.extension import BASE, FLUNDER, GROUP, NAMESPACE, VERSION, flunder

FLUNDERS = f"{BASE}/namespaces/default/flunders"
MERGE = {"Content-Type": "application/merge-patch+json"}
AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with aggregated.world(tmp_path, monkeypatch) as made:
        yield made


async def test_flunders_live_through_the_main_server(world: World) -> None:
    await world.deploy()
    status, made = await world.ask("POST", FLUNDERS, flunder("a", spec={"reference": "x"}))
    assert (status, made["spec"], made["metadata"]["namespace"]) == (201, {"reference": "x"}, "default")
    assert (await world.ask("POST", FLUNDERS, flunder("a")))[1]["reason"] == "AlreadyExists"
    assert (await world.get(FLUNDERS))["kind"] == "FlunderList"
    status, changed = await world.ask("PUT", f"{FLUNDERS}/a", flunder("a", spec={"reference": "y"}))
    assert (status, changed["spec"]) == (200, {"reference": "y"})
    status, patched = await world.ask("PATCH", f"{FLUNDERS}/a", {"metadata": {"labels": {"l": "v"}}}, headers=MERGE)
    assert (status, patched["metadata"]["labels"], patched["spec"]) == (200, {"l": "v"}, {"reference": "y"})
    assert (await world.ask("DELETE", f"{FLUNDERS}/a"))[0] == 200
    status, gone = await world.ask("GET", f"{FLUNDERS}/a")
    assert (status, gone["message"]) == (404, 'flunders.wardle.example.com "a" not found')
    await world.ask("POST", FLUNDERS, flunder("b"))
    assert (await world.ask("DELETE", FLUNDERS))[0] == 200
    assert (await world.get(FLUNDERS))["items"] == []


async def test_a_watch_is_passed_on_and_ends_with_its_client(world: World) -> None:
    await world.deploy()
    async with world.admin.get(f"{FLUNDERS}?watch=true") as watch:
        await world.eventually(lambda: _true(world.extension.watched("default")))
        await world.ask("POST", FLUNDERS, flunder("a"))
        event = json.loads(await asyncio.wait_for(watch.content.readline(), 5))
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")
        await world.ask("DELETE", f"{FLUNDERS}/a")
        assert json.loads(await asyncio.wait_for(watch.content.readline(), 5))["type"] == "DELETED"
        watch.close()
    # The server tells the other one that nobody listens, without waiting for an event.
    await world.eventually(lambda: _true(not world.app.aggregation._parts.proxy._running))  # type: ignore[union-attr]


async def test_a_watch_does_not_hold_up_the_end_of_the_server(world: World) -> None:
    await world.deploy()
    async with world.admin.get(f"{FLUNDERS}?watch=true") as watch:
        await world.eventually(lambda: _true(world.extension.watched("default")))
        began = asyncio.get_running_loop().time()
        await world.http.close()
        assert asyncio.get_running_loop().time() - began < 3
        with pytest.raises(aiohttp.ClientError):
            await watch.read()


async def test_who_asks_is_said_by_this_server_alone(world: World) -> None:
    await world.deploy()
    headers = {
        "X-Remote-User": "somebody-else",
        "X-Remote-Group": "system:masters",
        "X-Remote-Extra-Scopes": "all",
        "X-Remote-Uid": "0",
        "Impersonate-User": "jane:doe",
        "Impersonate-Group": "devs",
        "Impersonate-Uid": "u-1",
        "Impersonate-Extra-Acme.com%2fProject": "some",
        "Accept": "application/json",
    }
    await world.client.create(_binding("jane:doe"))
    world.extension.seen.clear()
    assert (await world.ask("GET", FLUNDERS, headers=headers))[0] == 200
    seen = next(h for _, path, h in world.extension.seen if path == FLUNDERS)
    assert seen.getall("X-Remote-User") == ["jane:doe"]
    assert seen.getall("X-Remote-Group") == ["devs", "system:authenticated"]
    assert seen.getall("X-Remote-Uid") == ["u-1"]
    assert {k.lower(): v for k, v in seen.items() if k.lower().startswith("x-remote-extra")} == {
        "x-remote-extra-acme.com%2fproject": "some"
    }
    assert not any(k.lower().startswith("impersonate") for k in seen)
    assert seen["Audit-ID"] and seen["X-Forwarded-For"] == "127.0.0.1"


async def test_no_token_is_passed_on(world: World) -> None:
    await world.deploy()
    token = await _token(world, "reader", "default")
    await world.client.create(_binding("system:serviceaccount:default:reader"))
    async with _anonymous(world) as session:
        headers = {"Authorization": f"Bearer {token}"}
        world.extension.seen.clear()
        assert (await world.ask("GET", FLUNDERS, headers=headers, session=session))[0] == 200
        seen = next(h for _, path, h in world.extension.seen if path == FLUNDERS)
        assert "Authorization" not in seen
        assert seen["X-Remote-User"] == "system:serviceaccount:default:reader"
        assert "system:serviceaccounts:default" in seen.getall("X-Remote-Group")
        assert seen["X-Remote-Uid"]
        # Nobody gets through without a name, and nobody may do what they have no right to.
        assert (await world.ask("GET", FLUNDERS, session=session))[0] == 401
    stranger = world.session("stranger")
    status, refused = await world.ask("GET", FLUNDERS, session=stranger)
    await stranger.close()
    assert status == 403
    assert refused["message"] == (
        'flunders.wardle.example.com is forbidden: User "stranger" cannot list resource "flunders" in API group '
        '"wardle.example.com" in the namespace "default"'
    )


async def test_connections_are_upgraded(world: World) -> None:
    await world.deploy()
    await world.ask("POST", FLUNDERS, flunder("a"))
    async with world.admin.ws_connect(f"{FLUNDERS}/a/echo") as socket:
        await socket.send_str("hello")
        assert (await socket.receive(5)).data == "admin: hello"
    refused = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    status, answer = await world.ask("POST", f"{FLUNDERS}/a/echo", headers=refused)
    assert (status, answer["message"]) == (400, "Upgrade request required")


async def test_nobody_is_sent_elsewhere(world: World) -> None:
    await world.deploy()
    said = "the backend attempted to redirect this request, which is not permitted"
    assert await world.ask("GET", f"{FLUNDERS}/a/elsewhere") == (502, said)
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    assert await world.ask("POST", f"{FLUNDERS}/a/elsewhere", headers=upgrade) == (502, said)


async def test_what_is_passed_on_is_audited(world: World, tmp_path: Path) -> None:
    await world.deploy()
    lines = (tmp_path / "audit.log").read_text
    before = len(lines().splitlines())
    assert (await world.ask("POST", FLUNDERS, flunder("a"), headers={"Audit-ID": "mine"}))[0] == 201
    assert next(h for m, _, h in reversed(world.extension.seen) if m == "POST")["Audit-ID"] == "mine"
    events = [json.loads(line) for line in lines().splitlines()[before:]]
    (event,) = [e for e in events if e["stage"] == "ResponseComplete" and e["auditID"] == "mine"]
    assert (event["verb"], event["responseStatus"]["code"], event["user"]["username"]) == ("create", 201, "admin")
    assert event["objectRef"]["apiGroup"] == GROUP and event["objectRef"]["resource"] == "flunders"
    kind: Any = ROW
    await world.client.get(kind, "a", "default")
    events = [json.loads(line) for line in lines().splitlines()[before:]]
    assert [e["verb"] for e in events if e["objectRef"].get("name") == "a"] == ["get"]


async def test_availability_follows_the_service_and_its_endpoints(world: World) -> None:
    await world.deploy()
    condition = await world.until("Passed")
    assert (condition.status, condition.message) == ("True", "all checks passed")

    slice_ = await world.client.get(type(endpoints(1)), "sample-api-1", NAMESPACE)
    changed = clone(slice_)
    changed.endpoints[0].conditions.ready = False  # type: ignore[union-attr]
    await world.client.update(changed)
    condition = await world.until("MissingEndpoints")
    assert condition.message == (
        'endpointslices for service/sample-api in "wardle" have no addresses with port name "https"'
    )
    assert await world.ask("GET", FLUNDERS) == (503, "service unavailable\n")

    await world.client.delete(type(slice_), "sample-api-1", NAMESPACE)
    condition = await world.until("EndpointsNotFound")
    assert condition.message == 'cannot find endpointslices for service/sample-api in "wardle"'

    await world.client.create(endpoints(world.extension.port))
    await world.until("Passed")
    assert (await world.ask("GET", FLUNDERS))[0] == 200

    await world.client.delete(core_v1.Service, "sample-api", NAMESPACE)
    condition = await world.until("ServiceNotFound")
    assert condition.message == 'service/sample-api in "wardle" is not present'
    ports = [core_v1.ServicePort(name="https", port=8443, protocol="TCP")]
    await world.client.create(service(ports=ports))
    condition = await world.until("ServicePortError")
    assert condition.message == 'service/sample-api in "wardle" is not listening on port 443'


async def test_a_server_that_is_not_well(world: World) -> None:
    await world.deploy()
    world.extension.failing = 500
    await _poke(world)
    url = f"https://127.0.0.1:{world.extension.port}{BASE}"
    condition = await world.until("FailedDiscoveryCheck")
    assert condition.message == f"failing or missing response from {url}: bad status from {url}: 500"
    world.extension.failing = 0
    # A failed look is repeated by itself.
    await world.until("Passed")

    await world.extension.close()
    await _poke(world)
    condition = await world.until("FailedDiscoveryCheck")
    where = f"127.0.0.1:{world.extension.port}"
    assert condition.message == (
        f'failing or missing response from {url}: Get "{url}": dial tcp {where}: connect: connection refused'
    )
    found = (await world.get("/apis", headers=AGGREGATED))["items"]
    wardle = next(g for g in found if g["metadata"]["name"] == GROUP)
    assert wardle["versions"] == [{"version": VERSION, "freshness": "Stale"}]
    metrics = await world.get("/metrics")
    assert 'aggregator_unavailable_apiservice{name="v1alpha1.wardle.example.com"} 1' in metrics
    assert 'aggregator_unavailable_apiservice{name="v1.apps"} 0' in metrics
    assert (
        'aggregator_unavailable_apiservice_total{name="v1alpha1.wardle.example.com",reason="FailedDiscoveryCheck"} 2'
        in metrics
    )

    await world.extension.start()
    await world.until("Passed")
    await world.eventually(lambda: _fresh(world))


async def test_a_server_that_has_just_gone(world: World) -> None:
    await world.deploy()
    await world.extension.close()
    status, text = await world.ask("GET", FLUNDERS)
    where = f"127.0.0.1:{world.extension.port}"
    assert (status, text) == (503, f"error trying to reach service: dial tcp {where}: connect: connection refused\n")


async def test_a_certificate_that_is_not_trusted(world: World) -> None:
    await world.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=NAMESPACE)))
    await world.client.create(service())
    await world.client.create(endpoints(world.extension.port))
    other = base64.b64encode(world.pki.ca.certificate).decode()
    await world.client.create(aggregated.api_service(ca_bundle=other))
    condition = await world.until("FailedDiscoveryCheck")
    assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in (
        condition.message or ""
    )
    found = clone(await world.client.get(v1.APIService, NAME))
    found.spec.ca_bundle, found.spec.insecure_skip_tls_verify = None, True
    await world.client.update(found)
    await world.until("Passed")
    assert (await world.ask("GET", FLUNDERS))[0] == 200


@pytest.mark.parametrize("aggregated_form", [True, False], ids=["aggregated", "legacy"])
async def test_discovery(world: World, aggregated_form: bool) -> None:
    world.extension.aggregated = aggregated_form
    await world.deploy()
    groups = [g["name"] for g in (await world.get("/apis"))["groups"]]
    assert groups[0] == "apiregistration.k8s.io" and groups[1] == "apps" and groups[-2:] == [GROUP, "metrics.k8s.io"]
    one = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    assert await world.get(f"/apis/{GROUP}") == {
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [one], "preferredVersion": one,
    }  # fmt: skip
    assert (await world.get(BASE))["resources"][0]["name"] == "flunders"
    await world.eventually(lambda: _fresh(world), 1.0)
    document = await world.get("/apis", headers=AGGREGATED)
    assert document["apiVersion"] == "apidiscovery.k8s.io/v2"
    wardle = next(g for g in document["items"] if g["metadata"]["name"] == GROUP)
    (resource,) = wardle["versions"][0]["resources"]
    assert (resource["resource"], resource["scope"], resource["shortNames"]) == ("flunders", "Namespaced", ["fl"])
    assert resource["responseKind"]["kind"] == "Flunder" and "watch" in resource["verbs"]

    await world.client.delete(v1.APIService, NAME)
    assert GROUP not in [g["name"] for g in (await world.get("/apis"))["groups"]]
    assert GROUP not in json.dumps(await world.get("/apis", headers=AGGREGATED))
    assert (await world.ask("GET", FLUNDERS))[0] == 404


async def test_priorities_decide_the_order(world: World) -> None:
    await world.deploy(group_priority_minimum=17900)
    groups = [g["name"] for g in (await world.get("/apis"))["groups"]]
    assert groups[:3] == ["apiregistration.k8s.io", GROUP, "apps"]
    found = clone(await world.client.get(v1.APIService, NAME))
    found.spec.group_priority_minimum = 10
    await world.client.update(found)
    items = (await world.get("/apis", headers=AGGREGATED))["items"]
    assert items[-1]["metadata"]["name"] == GROUP


async def test_openapi(world: World) -> None:
    before = await world.get("/openapi/v2")
    await world.deploy()

    async def published() -> bool:
        return FLUNDER in (await world.get("/openapi/v2"))["definitions"]

    await world.eventually(published, 10.0)
    merged = await world.get("/openapi/v2")
    path = f"{BASE}/namespaces/{{namespace}}/flunders"
    assert merged["paths"].keys() - before["paths"].keys() == {path, f"{path}/{{name}}"}
    # Its metadata is another than ours, and what nobody mentions stays away.
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert merged["definitions"].keys() - before["definitions"].keys() == {FLUNDER, f"{meta}_v2"}
    reference = merged["definitions"][FLUNDER]["properties"]["metadata"]["$ref"]
    assert reference == f"#/definitions/{meta}_v2"
    assert merged["definitions"][meta] == before["definitions"][meta]

    index = (await world.get("/openapi/v3"))["paths"]
    assert index[BASE.lstrip("/")] == {"serverRelativeURL": f"/openapi/v3{BASE}?hash=ABC"}
    document = await world.get(f"/openapi/v3{BASE}?hash=ABC")
    assert FLUNDER in document["components"]["schemas"]
    await world.client.delete(v1.APIService, NAME)
    assert (await world.get("/openapi/v2")) == before
    assert BASE.lstrip("/") not in (await world.get("/openapi/v3"))["paths"]


async def test_openapi_of_a_server_without_v3(world: World) -> None:
    world.extension.v3 = False
    await world.deploy()

    async def published() -> bool:
        return BASE.lstrip("/") in (await world.get("/openapi/v3"))["paths"]

    await world.eventually(published, 10.0)
    url = (await world.get("/openapi/v3"))["paths"][BASE.lstrip("/")]["serverRelativeURL"]
    document = await world.get(url)
    put = document["paths"][f"{BASE}/namespaces/{{namespace}}/flunders/{{name}}"]["put"]
    schema = put["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": f"#/components/schemas/{FLUNDER}"} and put["requestBody"]["required"]


async def test_an_extension_server_delegates(world: World) -> None:
    """What k8s.io/apiserver's delegated authentication and authorization need."""
    token = await _token(world, "wardle", "default")
    account = "system:serviceaccount:default:wardle"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    subject = [{"kind": "ServiceAccount", "name": "wardle", "namespace": "default"}]

    async def bind(path: str, kind: str, ref: str, name: str) -> None:
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": ref, "name": name}
        body = {"kind": kind, "metadata": {"name": "wardle"}, "subjects": subject, "roleRef": role}
        body["apiVersion"] = "rbac.authorization.k8s.io/v1"
        status, answer = await world.ask("POST", f"{rbac}/{path}", body)
        assert status == 201, answer

    reader = "extension-apiserver-authentication-reader"
    await bind("namespaces/kube-system/rolebindings", "RoleBinding", "Role", reader)
    await bind("clusterrolebindings", "ClusterRoleBinding", "ClusterRole", "system:auth-delegator")
    async with _anonymous(world) as session:
        mine: dict[str, Any] = {"session": session, "headers": {"Authorization": f"Bearer {token}"}}
        config = await world.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication", **mine)
        assert config["data"]["requestheader-client-ca-file"] == world.pki.front_proxy_ca.certificate.decode()
        assert config["data"]["client-ca-file"] == world.pki.ca.certificate.decode()
        assert json.loads(config["data"]["requestheader-allowed-names"]) == ["front-proxy-client"]
        review = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}}
        status, answer = await world.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review, **mine)
        assert (status, answer["status"]["user"]["username"]) == (201, account)
        attributes = {"group": GROUP, "resource": "flunders", "verb": "list", "namespace": "default"}
        review = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
        review["spec"] = {"user": account, "resourceAttributes": attributes}  # type: ignore[assignment]
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        status, answer = await world.ask("POST", path, review, **mine)
        assert (status, answer["status"]["allowed"]) == (201, False)


ROW = Resource(group=GROUP, version=VERSION, name="flunders", kind="Flunder")


async def test_controllers_reach_aggregated_resources(world: World) -> None:
    await world.deploy()
    await world.ask("POST", FLUNDERS, flunder("a"))
    kind: Any = ROW
    found = await world.client.list(kind, "default")
    assert [o.metadata.name for o in found.items] == ["a"]
    assert (await world.client.get(kind, "a", "default")).metadata.namespace == "default"
    events = world.client.watch(kind, "default")
    waiting = asyncio.ensure_future(anext(events))
    await world.eventually(lambda: _true(world.extension.watched("default")))
    await world.client.delete(ROW, "a", "default")
    assert (await asyncio.wait_for(waiting, 5)).type in ("ADDED", "DELETED")
    await events.aclose()  # type: ignore[attr-defined]
    with pytest.raises(StatusError) as missing:
        await world.client.get(kind, "a", "default")
    assert (missing.value.code, str(missing.value)) == (404, 'flunders.wardle.example.com "a" not found')


async def _true(value: bool) -> bool:
    return value


async def _fresh(world: World) -> bool:
    found = (await world.get("/apis", headers=AGGREGATED))["items"]
    wardle = next(g for g in found if g["metadata"]["name"] == GROUP)
    (version,) = wardle["versions"]
    return bool(version["freshness"] == "Current" and version.get("resources"))


async def _poke(world: World) -> None:
    """A change of the Service makes the server look."""
    found = clone(await world.client.get(core_v1.Service, "sample-api", NAMESPACE))
    found.metadata.annotations = {"poked": str(len(world.extension.seen))}
    await world.client.update(found)


async def _token(world: World, name: str, namespace: str) -> str:
    await world.client.create(core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name=name, namespace=namespace)))
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    body = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
    status, answer = await world.ask("POST", path, body)
    assert status == 201, answer
    return str(answer["status"]["token"])


def _anonymous(world: World) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cadata=world.pki.ca.certificate.decode())
    return aiohttp.ClientSession(f"https://127.0.0.1:{world.port}", connector=aiohttp.TCPConnector(ssl=context))


def _binding(user: str) -> Any:
    group = "rbac.authorization.k8s.io"
    return rbac_v1.ClusterRoleBinding(
        metadata=meta_v1.ObjectMeta(name="everything"),
        subjects=[rbac_v1.Subject(kind="User", name=user, api_group=group)],
        role_ref=rbac_v1.RoleRef(kind="ClusterRole", name="cluster-admin", api_group=group),
    )


async def test_a_namespace_takes_aggregated_objects_with_it(world: World) -> None:
    world.extension.verbs.remove("deletecollection")
    await world.deploy()
    await world.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="shop")))
    await world.ask("POST", f"{BASE}/namespaces/shop/flunders", flunder("a"))
    await world.ask("POST", f"{BASE}/namespaces/shop/flunders", flunder("held", meta={"finalizers": ["e.com/hold"]}))
    await world.ask("POST", FLUNDERS, flunder("other"))
    await world.eventually(lambda: _fresh(world))
    await world.client.delete(core_v1.Namespace, "shop")

    async def said(type_: str, reason: str) -> str | None:
        found = await world.client.get(core_v1.Namespace, "shop")
        conditions = found.status.conditions or ()
        return next((c.message for c in conditions if (c.type, c.status, c.reason) == (type_, "True", reason)), None)

    await world.eventually(lambda: _some(said("NamespaceContentRemaining", "SomeResourcesRemain")))
    message = await said("NamespaceContentRemaining", "SomeResourcesRemain")
    assert message == "Some resources are remaining: flunders.wardle.example.com has 1 resource instances"
    message = await said("NamespaceFinalizersRemaining", "SomeFinalizersRemain")
    assert message == "Some finalizers are remaining: e.com/hold in 1 resource instances"

    # While the server is away, nobody can say whether the namespace is empty.
    await world.extension.close()
    await _poke(world)
    await world.until("FailedDiscoveryCheck")
    await world.eventually(lambda: _some(said("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed")), 20)
    assert await said("NamespaceDeletionDiscoveryFailure", "DiscoveryFailed") == (
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: "
        "wardle.example.com/v1alpha1: stale GroupVersion discovery: wardle.example.com/v1alpha1"
    )
    await world.extension.start()
    await world.until("Passed")
    await world.ask("PATCH", f"{BASE}/namespaces/shop/flunders/held", {"metadata": {"finalizers": None}}, headers=MERGE)

    async def gone() -> bool:
        status, _ = await world.ask("GET", "/api/v1/namespaces/shop")
        return status == 404

    await world.eventually(gone, 20)
    assert list(world.extension.objects) == ["default/other"]


async def test_garbage_collection_follows_aggregated_objects(world: World) -> None:
    await world.deploy()
    await world.eventually(lambda: _true(world.extension.watched()))
    owner = await world.client.create(
        core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name="owner", namespace="default"), data={})
    )
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}
    await world.ask("POST", FLUNDERS, flunder("owned", meta={"ownerReferences": [reference]}))
    _, parent = await world.ask("POST", FLUNDERS, flunder("parent"))
    mine = meta_v1.OwnerReference(
        api_version=f"{GROUP}/{VERSION}", kind="Flunder", name="parent", uid=parent["metadata"]["uid"]
    )
    child = core_v1.ConfigMap(
        metadata=meta_v1.ObjectMeta(name="child", namespace="default", owner_references=[mine]), data={}
    )
    await world.client.create(child)
    await world.client.delete(core_v1.ConfigMap, "owner", "default")
    await world.eventually(lambda: _true(list(world.extension.objects) == ["default/parent"]))
    await world.ask("DELETE", f"{FLUNDERS}/parent")

    async def gone() -> bool:
        return (await world.ask("GET", "/api/v1/namespaces/default/configmaps/child"))[0] == 404

    await world.eventually(gone)


async def test_a_quota_counts_aggregated_objects(world: World) -> None:
    await world.deploy()
    await world.ask("POST", FLUNDERS, flunder("a"))
    await world.eventually(lambda: _true(world.extension.watched()))
    count = f"count/flunders.{GROUP}"
    quota = core_v1.ResourceQuota(metadata=meta_v1.ObjectMeta(name="q", namespace="default"))
    quota.spec.hard = {count: "5"}
    await world.client.create(quota)

    async def used() -> str | None:
        found = await world.client.get(core_v1.ResourceQuota, "q", "default")
        return (found.status.used or {}).get(count)

    async def is_one() -> bool:
        return await used() == "1"

    await world.eventually(is_one)
    await world.ask("DELETE", f"{FLUNDERS}/a")

    async def is_none() -> bool:
        return await used() == "0"

    await world.eventually(is_none)


async def _some(value: Any) -> bool:
    return bool(await value)
