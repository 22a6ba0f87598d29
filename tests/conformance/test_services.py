"""Services, Endpoints and EndpointSlices: lives, statuses, and how endpoints follow pods."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import MERGE, Api, in_namespace, virtual

SERVICES = in_namespace("v1", "services")
ENDPOINTS = in_namespace("v1", "endpoints")
SLICES = in_namespace("discovery.k8s.io/v1", "endpointslices")
PODS = in_namespace("v1", "pods")


def service(name: str, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"test-service-static": "true"}},
        "spec": {"ports": list(ports) or [{"name": "http", "port": 80, "targetPort": 80}], **spec},
    }


def pod(name: str, *ports: dict[str, Any], **labels: str) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox", "ports": list(ports)}
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def slices_of(name: str) -> dict[str, str]:
    return {"labelSelector": f"kubernetes.io/service-name={name}"}


@virtual
async def test_status_lifecycle(api: Api) -> None:
    """Its status is patched and updated, it is patched and deleted: a watch sees each."""
    path = f"{SERVICES}/test-service"
    async with api.watch(SERVICES, labelSelector="test-service-static=true") as events:
        await api.post(SERVICES, service("test-service", type="LoadBalancer"))
        await events.until("ADDED")
        assert (await api.get(f"{path}/status"))["status"] == {"loadBalancer": {}}
        ingress = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": ingress}
        patched = await api.patch(f"{path}/status", patch, MERGE)
        assert patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
        assert patched["metadata"]["annotations"] == {"patchedstatus": "true"}
        await events.until("MODIFIED", lambda s: s["metadata"].get("annotations"))
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        updated = await api.change(path, lambda s: s["status"].update(conditions=[condition]), "status")
        assert updated["status"]["conditions"] == [condition]
        await events.until("MODIFIED", lambda s: s["status"].get("conditions"))
        await api.patch(path, {"metadata": {"labels": {"test-service": "patched"}}})
        await events.until("MODIFIED", lambda s: s["metadata"]["labels"].get("test-service") == "patched")
        await api.delete(path)
        await events.until("DELETED")


@virtual
async def test_a_collection_is_deleted_by_label(api: Api) -> None:
    for n in range(3):
        made = service(f"e2e-svc-{n}")
        made["metadata"]["labels"]["keep" if n == 0 else "e2e"] = "x"
        await api.post(SERVICES, made)
    await api.delete(SERVICES, labelSelector="e2e=x")
    left = (await api.get(SERVICES, labelSelector="test-service-static=true"))["items"]
    assert [s["metadata"]["name"] for s in left] == ["e2e-svc-0"]


@virtual
async def test_the_kubernetes_service_and_its_endpoints(api: Api) -> None:
    found = (await api.get("/api/v1/services"))["items"]
    assert ("default", "kubernetes") in {(s["metadata"]["namespace"], s["metadata"]["name"]) for s in found}
    kubernetes = await api.get(f"{SERVICES}/kubernetes")
    assert [p["port"] for p in kubernetes["spec"]["ports"]] == [443]
    endpoints = await api.get(f"{ENDPOINTS}/kubernetes")
    assert len(endpoints["subsets"]) == 1 and endpoints["subsets"][0]["addresses"]
    (slice_,) = (await api.get(SLICES, **slices_of("kubernetes")))["items"]
    ips = {e["addresses"][0] for e in slice_["endpoints"]}
    assert ips == {a["ip"] for a in endpoints["subsets"][0]["addresses"]}
    assert [p["port"] for p in slice_["ports"]] == [p["port"] for p in endpoints["subsets"][0]["ports"]]


@virtual
async def test_lifecycle_of_endpoints(api: Api) -> None:
    """Written by hand: created, updated, patched and deleted as a collection, all watched."""
    raw = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "testservice", "labels": {"test-endpoint-static": "true"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}],
    }
    async with api.watch(ENDPOINTS, labelSelector="test-endpoint-static=true") as events:
        await api.post(ENDPOINTS, raw)
        await events.until("ADDED")
        assert len((await api.get("/api/v1/endpoints", labelSelector="test-endpoint-static=true"))["items"]) == 1
        labels = {**raw["metadata"]["labels"], "test-service": "updated"}  # type: ignore[index]
        await api.put(f"{ENDPOINTS}/testservice", {**raw, "metadata": {"name": "testservice", "labels": labels}})
        await events.until("MODIFIED", lambda e: e["metadata"]["labels"].get("test-service") == "updated")
        patch = {
            "metadata": {"labels": {"test-service": "patched"}},
            "subsets": [
                {
                    "addresses": [{"ip": "10.0.0.25"}],
                    "ports": [{"name": "http-test", "port": 8080, "protocol": "TCP"}],
                }
            ],
        }
        await api.patch(f"{ENDPOINTS}/testservice", patch)
        await events.until("MODIFIED", lambda e: e["metadata"]["labels"].get("test-service") == "patched")
        found = await api.get(f"{ENDPOINTS}/testservice")
        (subset,) = found["subsets"]
        assert subset["addresses"] == [{"ip": "10.0.0.25"}]
        assert subset["ports"] == [{"name": "http-test", "port": 8080, "protocol": "TCP"}]
        await api.delete(ENDPOINTS, labelSelector="test-endpoint-static=true")
        await events.until("DELETED")
    assert (await api.refusal("GET", f"{ENDPOINTS}/testservice"))["reason"] == "NotFound"


@virtual
async def test_a_service_without_pods_has_empty_endpoints(api: Api) -> None:
    await api.post(SERVICES, service("empty", selector={"does-not-match-anything": "endpoints"}))
    endpoints = await api.until(ENDPOINTS, lambda e: named(e, "empty"))
    assert not named(endpoints, "empty").get("subsets")
    slices = await api.until(SLICES, lambda s: s["items"], **slices_of("empty"))
    (slice_,) = slices["items"]
    assert not slice_.get("endpoints") and not slice_.get("ports")
    (owner,) = slice_["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Service", "empty")
    await api.delete(f"{SERVICES}/empty")
    await api.gone(f"{ENDPOINTS}/empty")
    await api.until(SLICES, lambda s: not s["items"], **slices_of("empty"))


def named(found: Any, name: str) -> Any:
    return next((o for o in found["items"] if o["metadata"]["name"] == name), None)


@virtual
async def test_endpoints_and_slices_follow_pods(api: Api) -> None:
    """With ports by number, with ports by name, and with names that pods understand differently."""
    await api.post(PODS, pod("pod1", {"name": "example-name", "containerPort": 3000}, foo="bar"))
    await api.post(PODS, pod("pod2", {"name": "example-name", "containerPort": 3001}, foo="bar"))
    for n in (1, 2):
        await api.until(f"{PODS}/pod{n}", lambda p: p["status"].get("podIP"))
    pods = {p["status"]["podIP"]: p for p in (await api.get(PODS))["items"]}
    by_number = [{"name": "example-no-match", "port": 8080, "targetPort": 8080, "protocol": "TCP"}]
    by_name = [{"name": "http", "port": 80, "targetPort": "example-name", "protocol": "TCP"}]
    await api.post(SERVICES, service("numbers", *by_number, selector={"foo": "bar"}))
    await api.post(SERVICES, service("names", *by_name, selector={"foo": "bar"}))
    for name, subsets in (("numbers", 1), ("names", 2)):

        def complete(found: Any, name: str = name, subsets: int = subsets) -> bool:
            mine = named(found, name)
            return mine is not None and len(mine.get("subsets", ())) == subsets and addresses(mine) == set(pods)

        endpoints = named(await api.until(ENDPOINTS, complete), name)
        slices = (await api.until(SLICES, lambda s: slice_addresses(s) == set(pods), **slices_of(name)))["items"]
        for subset in endpoints["subsets"]:
            for address in subset["addresses"]:
                assert address["targetRef"]["uid"] == pods[address["ip"]]["metadata"]["uid"]
                assert port_fits(name, subset["ports"], pods[address["ip"]])
        for slice_ in slices:
            for endpoint in slice_["endpoints"]:
                target = pods[endpoint["addresses"][0]]
                assert endpoint["targetRef"] == {
                    "kind": "Pod",
                    "name": target["metadata"]["name"],
                    "namespace": "default",
                    "uid": target["metadata"]["uid"],
                }
                assert endpoint["nodeName"] == target["spec"]["nodeName"]
                assert port_fits(name, slice_["ports"], target)
    # Slices that somebody deletes are made again.
    await api.delete(SLICES, **slices_of("names"))
    await api.until(SLICES, lambda s: slice_addresses(s) == set(pods), **slices_of("names"))


def addresses(endpoints: Any) -> set[str]:
    return {a["ip"] for s in endpoints.get("subsets", ()) for a in s.get("addresses", ())}


def slice_addresses(slices: Any) -> set[str]:
    return {e["addresses"][0] for s in slices["items"] for e in s.get("endpoints") or ()}


def port_fits(service_name: str, ports: list[Any], target: Any) -> bool:
    wanted = 8080 if service_name == "numbers" else target["spec"]["containers"][0]["ports"][0]["containerPort"]
    return [p["port"] for p in ports] == [wanted]


@virtual
async def test_endpoints_come_and_go_with_pods(api: Api) -> None:
    """A basic endpoint, and several ports of one service that different pods serve."""
    ports = [
        {"name": "portname1", "port": 80, "targetPort": "svc1"},
        {"name": "portname2", "port": 81, "targetPort": "svc2"},
    ]
    await api.post(SERVICES, service("multi", *ports, selector={"app": "multi"}))

    async def now(**expected: int) -> None:
        """Names of pods with the ports at which they are endpoints."""

        def so(found: Any) -> bool:
            return {a["targetRef"]["name"]: p["port"] for s in found.get("subsets", ()) for a in s["addresses"]
                    for p in s["ports"]} == expected  # fmt: skip

        await api.until(ENDPOINTS, lambda e: (n := named(e, "multi")) is not None and so(n))

    await now()
    await api.post(PODS, pod("pod1", {"name": "svc1", "containerPort": 100}, app="multi"))
    await now(pod1=100)
    await api.post(PODS, pod("pod2", {"name": "svc2", "containerPort": 101}, app="multi"))
    await now(pod1=100, pod2=101)
    await api.delete(f"{PODS}/pod1")
    await now(pod2=101)
    await api.delete(f"{PODS}/pod2")
    await now()


@virtual
async def test_endpoints_by_hand_are_mirrored(api: Api) -> None:
    """Of a service without a selector: created, changed and deleted, slices follow."""
    await api.post(SERVICES, service("example", {"name": "example", "port": 80, "protocol": "TCP"}))
    raw = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "example"},
        "subsets": [{"ports": [{"port": 80}], "addresses": [{"ip": "10.1.2.3"}]}],
    }
    await api.post(ENDPOINTS, raw)
    slices = await api.until(SLICES, lambda s: slice_addresses(s) == {"10.1.2.3"}, **slices_of("example"))
    (slice_,) = slices["items"]
    managed = slice_["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
    assert managed == "endpointslicemirroring-controller.k8s.io"
    assert [p["port"] for p in slice_["ports"]] == [80]

    def change(endpoints: Any) -> None:
        endpoints["subsets"][0]["addresses"] = [{"ip": "10.2.3.4"}]

    await api.change(f"{ENDPOINTS}/example", change)
    await api.until(SLICES, lambda s: slice_addresses(s) == {"10.2.3.4"}, **slices_of("example"))
    await api.delete(f"{ENDPOINTS}/example")
    await api.until(SLICES, lambda s: not s["items"], **slices_of("example"))


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
@virtual
async def test_a_service_becomes_an_external_name_and_back(api: Api, kind: str) -> None:
    """What was allocated is given back, and taken anew."""
    await api.post(SERVICES, service("s", type=kind, selector={"a": "b"}))

    def external(s: Any) -> None:
        s["spec"] |= {"type": "ExternalName", "externalName": "foo.example.com"}

    changed = await api.change(f"{SERVICES}/s", external)
    assert "clusterIP" not in changed["spec"] and "clusterIPs" not in changed["spec"]
    assert all("nodePort" not in p for p in changed["spec"]["ports"])

    def back(s: Any) -> None:
        s["spec"] |= {"type": kind, "externalName": "", "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]}

    again = await api.change(f"{SERVICES}/s", back)
    assert again["spec"]["clusterIP"] and again["spec"]["clusterIPs"] == [again["spec"]["clusterIP"]]
    assert not again["spec"].get("externalName")
    assert ("nodePort" in again["spec"]["ports"][0]) == (kind == "NodePort")
    await asyncio.sleep(0)


@virtual
async def test_one_port_in_two_protocols(api: Api) -> None:
    ports = [
        {"name": "tcp-port", "port": 8080, "targetPort": 8080, "protocol": "TCP"},
        {"name": "udp-port", "port": 8080, "targetPort": 8080, "protocol": "UDP"},
    ]
    made = await api.post(SERVICES, service("multiprotocol", *ports, selector={"a": "b"}))
    assert [p["protocol"] for p in made["spec"]["ports"]] == ["TCP", "UDP"]
    only = [p for p in made["spec"]["ports"] if p["protocol"] == "UDP"]
    changed = await api.change(f"{SERVICES}/multiprotocol", lambda s: s["spec"].update(ports=only))
    assert [p["protocol"] for p in changed["spec"]["ports"]] == ["UDP"]
    # A strategic patch tells ports apart by number alone, as kubectl apply does.
    affinity = await api.patch(f"{SERVICES}/multiprotocol", {"spec": {"sessionAffinity": "ClientIP"}})
    assert affinity["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    none = await api.patch(f"{SERVICES}/multiprotocol", {"spec": {"sessionAffinity": "None"}})
    assert "sessionAffinityConfig" not in none["spec"]
