"""Ingresses, their classes, ranges of service addresses, and addresses: the API, without anything that serves them."""

from __future__ import annotations

from typing import Any

from tests.conformance.whole import MERGE, Api, in_namespace, virtual

GROUP = "/apis/networking.k8s.io/v1"
INGRESSES = in_namespace("networking.k8s.io/v1", "ingresses")
CLASSES = f"{GROUP}/ingressclasses"
RANGES = f"{GROUP}/servicecidrs"
ADDRESSES = f"{GROUP}/ipaddresses"


def ingress() -> dict[str, Any]:
    backend = {"service": {"name": "test-backend", "port": {"number": 80}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"generateName": "e2e-example-ing", "labels": {"special-label": "x"}},
        "spec": {
            "defaultBackend": {"service": {"name": "default-backend", "port": {"name": "", "number": 8080}}},
            "rules": [
                {
                    "host": "test.e2e.example.com",
                    "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
                }
            ],
        },
        "status": {"loadBalancer": {"ingress": None}},
    }


@virtual
async def test_ingresses(api: Api) -> None:
    made = [await api.post(INGRESSES, ingress()) for _ in range(3)]
    assert all(m["status"] == {"loadBalancer": {}} for m in made)
    selector = {"labelSelector": "special-label=x"}
    listed = await api.get(INGRESSES, **selector)
    assert len(listed["items"]) == len((await api.get(f"{GROUP}/ingresses", **selector))["items"]) == 3
    path = f"{INGRESSES}/{made[2]['metadata']['name']}"
    since = listed["metadata"]["resourceVersion"]
    async with api.watch(INGRESSES, resourceVersion=since, **selector) as events:
        await api.patch(path, {"metadata": {"annotations": {"patched": "true"}}}, MERGE)

        def update(i: Any) -> None:
            i["metadata"]["annotations"]["updated"] = "true"
            i["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/updated"

        updated = await api.change(path, update)
        assert updated["spec"]["rules"][0]["http"]["paths"][0]["path"] == "/updated"
        assert [(await events.next())[0] for _ in range(2)] == ["MODIFIED"] * 2
    patch = {
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    }
    patched = await api.patch(f"{path}/status", patch, MERGE)
    assert patched["status"]["loadBalancer"]["ingress"] == [{"ip": "169.1.1.1"}]
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"

    def status(i: Any) -> None:
        i["status"]["loadBalancer"] = {"ingress": [{"ip": "169.1.1.2"}]}

    assert (await api.change(path, status, "status"))["status"]["loadBalancer"]["ingress"][0]["ip"] == "169.1.1.2"
    assert (await api.get(f"{path}/status"))["metadata"]["uid"] == made[2]["metadata"]["uid"]
    await api.delete(path)
    assert len((await api.get(INGRESSES, **selector))["items"]) == 2
    await api.delete(INGRESSES, **selector)
    assert (await api.get(INGRESSES, **selector))["items"] == []


@virtual
async def test_ingress_classes(api: Api) -> None:
    for n in (1, 2, 3):
        class_ = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": f"ingressclass{n}", "labels": {"ingressclass": "x"}},
            "spec": {"controller": "example.com/controller"},
        }
        await api.post(CLASSES, class_)
    path = f"{CLASSES}/ingressclass1"
    patched = await api.patch(path, {"metadata": {"annotations": {"patched": "true"}}}, MERGE)
    assert patched["metadata"]["annotations"] == {"patched": "true"}
    updated = await api.change(path, lambda c: c["metadata"]["annotations"].update(updated="true"))
    assert updated["metadata"]["annotations"]["updated"] == "true"
    refused = await api.refusal("PATCH", path, {"spec": {"controller": "example.com/other"}}, headers=MERGE)
    assert refused["code"] == 422
    await api.delete(path)
    assert len((await api.get(CLASSES, labelSelector="ingressclass=x"))["items"]) == 2
    await api.delete(CLASSES, labelSelector="ingressclass=x")
    assert (await api.get(CLASSES, labelSelector="ingressclass=x"))["items"] == []


def address(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": name, "labels": labels},
        "spec": {"parentRef": {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}},
    }


@virtual
async def test_addresses(api: Api) -> None:
    made = await api.post(ADDRESSES, address("255.255.255.255", type="broadcast"))
    await api.post(ADDRESSES, address("fe80::42:1dff:fe84:f9e2", type="link-local"))
    path = f"{ADDRESSES}/255.255.255.255"
    patched = await api.patch(path, {"metadata": {"annotations": {"patched": "true"}}}, MERGE)
    assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    updated = await api.change(path, lambda a: a["metadata"]["annotations"].update(updated="true"))
    assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
    async with api.watch(ADDRESSES, labelSelector="type=broadcast") as events:
        assert (await events.next())[0] == "ADDED"
        await api.delete(path)
        assert (await events.next())[0] == "DELETED"
    await api.delete(ADDRESSES, labelSelector="type=link-local")
    assert (await api.get(ADDRESSES, labelSelector="type=link-local"))["items"] == []


def ready(range_: Any) -> Any:
    conditions = {c["type"]: c for c in range_.get("status", {}).get("conditions", ())}
    return conditions.get("Ready")


@virtual
async def test_the_default_range_of_service_addresses(api: Api) -> None:
    default = await api.until(f"{RANGES}/kubernetes", ready)
    assert default["spec"] == {"cidrs": [api.cluster.config.service_cidr]}
    assert (ready(default)["status"], ready(default)["message"]) == ("True", "Kubernetes Service CIDR is ready")
    status = await api.get(f"{RANGES}/kubernetes/status")
    assert (status["kind"], status["metadata"]["uid"]) == ("ServiceCIDR", default["metadata"]["uid"])
    assert len((await api.get(RANGES))["items"]) == 1
    async with api.watch(RANGES) as events:
        assert (await events.next())[0] == "ADDED"


@virtual
async def test_services_have_addresses_of_ranges_that_are_added(api: Api) -> None:
    services = in_namespace("v1", "services")

    def service(name: str, ip: str) -> dict[str, Any]:
        spec = {"clusterIP": ip, "ports": [{"port": 80}], "type": "NodePort"}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

    refused = await api.refused("POST", services, service("early", "203.0.113.10"))
    assert refused == (
        'Service "early" is invalid: spec.clusterIPs: Invalid value: ["203.0.113.10"]: failed to allocate IP '
        "203.0.113.10: the provided network does not match the current range"
    )
    added = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "test-svc-cidr"},
        "spec": {"cidrs": ["203.0.113.0/24"]},
    }
    await api.post(RANGES, added)
    found = await api.until(f"{RANGES}/test-svc-cidr", ready)
    assert found["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    made = await api.post(services, service("s", "203.0.113.10"))
    assert made["spec"]["clusterIPs"] == ["203.0.113.10"]
    ip = await api.until(ADDRESSES, lambda a: [i for i in a["items"] if i["metadata"]["name"] == "203.0.113.10"])
    (mine,) = [i for i in ip["items"] if i["metadata"]["name"] == "203.0.113.10"]
    assert mine["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "s"}
    assert mine["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    # It does not go while an address of it is in use.
    await api.delete(f"{RANGES}/test-svc-cidr")
    held = await api.until(f"{RANGES}/test-svc-cidr", lambda r: ready(r)["status"] == "False")
    assert (ready(held)["reason"], ready(held)["message"]) == (
        "Terminating",
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
    )
    assert (await api.refusal("POST", services, service("late", "203.0.113.11")))["code"] == 422
    await api.delete(f"{services}/s")
    await api.gone(f"{RANGES}/test-svc-cidr")
    await api.until(ADDRESSES, lambda a: not [i for i in a["items"] if i["metadata"]["name"].startswith("203.")])
