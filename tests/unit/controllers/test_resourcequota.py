"""Quotas: what counts, and that the status follows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controllers.cluster import Cluster, finish, pod
from podling import clock
from podling.api import apps_v1, core_v1, registry
from podling.api.errors import StatusError
from podling.api.meta_v1 import ObjectMeta
from podling.apiserver.admission.resource_quota import ResourceQuota
from podling.controllers.resourcequota import ResourceQuotaController
from podling.machinery import quota


def sized(name: str, requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None) -> core_v1.Pod:
    p = pod(name)
    p.spec.containers[0].resources = core_v1.ResourceRequirements(requests=requests, limits=limits)
    return p


def the_quota(hard: dict[str, Any], **spec: Any) -> core_v1.ResourceQuota:
    return core_v1.ResourceQuota(
        metadata=ObjectMeta(name="q", namespace="default"), spec=core_v1.ResourceQuotaSpec(hard=hard, **spec)
    )


def test_the_status_follows_what_comes_ends_and_goes() -> None:
    async def main() -> None:
        async with Cluster(ResourceQuotaController, agents=False) as cluster:
            cluster.api.admission.add(ResourceQuota(cluster.api))
            hard = {
                "pods": "5",
                "requests.cpu": "2",
                "memory": "1Gi",
                "limits.memory": "2Gi",
                "count/deployments.apps": "3",
                "configmaps": "10",
                "services": "2",
                "requests.example.com/gpu": "4",
            }
            await cluster.client.create(the_quota(hard))
            await cluster.settle(0.5)

            async def used() -> dict[str, Any]:
                await cluster.settle(0.5)
                found = await cluster.client.get(core_v1.ResourceQuota, "q", "default")
                assert found.status.hard == hard
                return {k: str(v) for k, v in (found.status.used or {}).items() if str(v) != "0"}

            assert await used() == {}
            gpu = {"cpu": "500m", "memory": "256Mi", "example.com/gpu": "2"}
            await cluster.client.create(sized("a", gpu, {"memory": "512Mi", "example.com/gpu": "2"}))
            await cluster.client.create(sized("b", {"cpu": "1500m", "memory": "256Mi"}, {"memory": "1Gi"}))
            await cluster.client.create(core_v1.ConfigMap(metadata=ObjectMeta(name="c", namespace="default")))
            assert await used() == {
                "pods": "2",
                "requests.cpu": "2",
                "memory": "512Mi",
                "limits.memory": "1536Mi",
                "configmaps": "1",
                "requests.example.com/gpu": "2",
            }
            await cluster.change_status(core_v1.Pod, "a", lambda p: finish(p, "Succeeded"))
            await cluster.client.delete(core_v1.ConfigMap, "c", "default")
            left = await used()
            assert left == {"pods": "1", "requests.cpu": "1500m", "memory": "256Mi", "limits.memory": "1Gi"}
            await cluster.client.delete(core_v1.Pod, "b", "default", grace_period_seconds=0)
            assert await used() == {}

    clock.run_virtual(main())


def test_what_was_charged_for_nothing_is_given_back_by_the_next_count() -> None:
    async def main() -> None:
        async with Cluster(ResourceQuotaController, agents=False) as cluster:
            cluster.api.admission.add(ResourceQuota(cluster.api))
            await cluster.client.create(the_quota({"configmaps": "10"}))
            await cluster.settle(0.5)

            async def used() -> Any:
                return (await cluster.client.get(core_v1.ResourceQuota, "q", "default")).status.used

            def config_map() -> core_v1.ConfigMap:
                return core_v1.ConfigMap(metadata=ObjectMeta(name="c", namespace="default"))

            await cluster.client.create(config_map())
            for _ in range(2):
                with pytest.raises(StatusError):
                    await cluster.client.create(config_map())
            await cluster.settle(10)
            assert await used() == {"configmaps": "3"}
            await asyncio.sleep(300)
            assert await used() == {"configmaps": "1"}

    clock.run_virtual(main())


def test_deletes_in_the_middle_of_a_burst_do_not_let_more_in() -> None:
    async def main() -> None:
        async with Cluster(ResourceQuotaController, agents=False) as cluster:
            cluster.api.admission.add(ResourceQuota(cluster.api))
            await cluster.client.create(the_quota({"configmaps": "5"}))
            await cluster.settle(0.5)
            most = 0

            async def come_and_go(number: int) -> None:
                nonlocal most
                name = f"c{number}"
                for _ in range(20):
                    try:
                        meta = ObjectMeta(name=name, namespace="default")
                        await cluster.client.create(core_v1.ConfigMap(metadata=meta))
                    except StatusError as error:
                        assert error.code == 403, error
                        await asyncio.sleep(0.01)
                        continue
                    most = max(most, len(await cluster.list(core_v1.ConfigMap)))
                    await asyncio.sleep(0.005)
                    await cluster.client.delete(core_v1.ConfigMap, name, "default")

            await asyncio.gather(*(come_and_go(n) for n in range(12)))
            assert most == 5
            await cluster.settle(10)
            found = await cluster.client.get(core_v1.ResourceQuota, "q", "default")
            assert found.status.used == {"configmaps": "0"}

    clock.run_virtual(main())


def best_effort() -> core_v1.Pod:
    return pod("p")


def burstable(**spec: Any) -> core_v1.Pod:
    p = sized("p", {"cpu": "1"})
    for name, value in spec.items():
        setattr(p.spec, name, value)
    return p


def priority(operator: str, *values: str) -> core_v1.ScopeSelector:
    requirement = core_v1.ScopedResourceSelectorRequirement(
        scope_name="PriorityClass", operator=operator, values=list(values) or None
    )
    return core_v1.ScopeSelector(match_expressions=[requirement])


@pytest.mark.parametrize(
    ("spec", "obj", "fits"),
    [
        ({}, best_effort(), True),
        ({"scopes": ["BestEffort"]}, best_effort(), True),
        ({"scopes": ["BestEffort"]}, burstable(), False),
        ({"scopes": ["NotBestEffort"]}, burstable(), True),
        ({"scopes": ["Terminating"]}, burstable(active_deadline_seconds=5), True),
        ({"scopes": ["Terminating"]}, burstable(), False),
        ({"scopes": ["NotTerminating", "NotBestEffort"]}, burstable(), True),
        ({"scopes": ["NotTerminating", "NotBestEffort"]}, best_effort(), False),
        ({"scope_selector": priority("In", "high")}, burstable(priority_class_name="high"), True),
        ({"scope_selector": priority("In", "high")}, burstable(priority_class_name="low"), False),
        ({"scope_selector": priority("NotIn", "high")}, burstable(), True),
        ({"scope_selector": priority("Exists")}, burstable(priority_class_name="x"), True),
        ({"scope_selector": priority("DoesNotExist")}, burstable(), True),
    ],
)
def test_scopes(spec: dict[str, Any], obj: core_v1.Pod, fits: bool) -> None:
    assert quota.in_scope(core_v1.ResourceQuotaSpec(**spec), registry.of(core_v1.Pod), obj) is fits


def test_services_and_claims_count_by_kind() -> None:
    ports = [core_v1.ServicePort(port=1), core_v1.ServicePort(port=2, node_port=30000)]
    resource = registry.of(core_v1.Service)

    def service(**spec: Any) -> dict[str, str]:
        s = core_v1.Service(spec=core_v1.ServiceSpec(ports=ports, **spec))
        return {k: str(v) for k, v in quota.usage(resource, s, clock.EPOCH).items() if k != "count/services"}

    assert service(type="ClusterIP") == {"services": "1"}
    assert service(type="NodePort") == {"services": "1", "services.nodeports": "2"}
    balanced = {"services": "1", "services.loadbalancers": "1", "services.nodeports": "2"}
    assert service(type="LoadBalancer") == balanced
    assert service(type="LoadBalancer", allocate_load_balancer_node_ports=False)["services.nodeports"] == "1"
    claim = core_v1.PersistentVolumeClaim(
        spec=core_v1.PersistentVolumeClaimSpec(
            storage_class_name="fast", resources=core_v1.VolumeResourceRequirements(requests={"storage": "5Gi"})
        )
    )
    used = quota.usage(registry.of(core_v1.PersistentVolumeClaim), claim, clock.EPOCH)
    assert {k: str(v) for k, v in used.items()} == {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "5Gi",
        "fast.storageclass.storage.k8s.io/requests.storage": "5Gi",
        "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
    }


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("cpu", {"pods"}),
        ("requests.memory", {"pods"}),
        ("requests.nvidia.com/gpu", {"pods"}),
        ("requests.storage", {"persistentvolumeclaims"}),
        ("gold.storageclass.storage.k8s.io/requests.storage", {"persistentvolumeclaims"}),
        ("services.nodeports", {"services"}),
        ("secrets", {"secrets"}),
        ("count/deployments.apps", {"deployments"}),
        ("count/pods", {"pods"}),
    ],
)
def test_who_counts_under_a_name(name: str, kinds: set[str]) -> None:
    every = [core_v1.Pod, core_v1.Service, core_v1.Secret, core_v1.PersistentVolumeClaim, apps_v1.Deployment]
    found = {registry.of(k).name for k in every if quota.covers(name, registry.of(k))}
    assert found == kinds


@pytest.mark.parametrize(
    ("operator", "values", "wanted", "changing", "fits"),
    [
        ("In", ("gold",), "gold", None, True),
        ("In", ("gold",), "silver", None, False),
        ("In", ("gold",), "silver", "gold", True),
        ("NotIn", ("gold",), "silver", None, True),
        ("Exists", (), None, None, False),
        ("Exists", (), "gold", None, True),
        ("DoesNotExist", (), None, None, True),
    ],
)
def test_claims_are_scoped_by_all_their_attributes_classes(
    operator: str, values: tuple[str, ...], wanted: str | None, changing: str | None, fits: bool
) -> None:
    claim = core_v1.PersistentVolumeClaim(spec=core_v1.PersistentVolumeClaimSpec(volume_attributes_class_name=wanted))
    claim.status.current_volume_attributes_class_name = changing
    scope = core_v1.ScopedResourceSelectorRequirement(
        scope_name="VolumeAttributesClass", operator=operator, values=list(values) or None
    )
    spec = core_v1.ResourceQuotaSpec(scope_selector=core_v1.ScopeSelector(match_expressions=[scope]))
    assert quota.in_scope(spec, registry.of(core_v1.PersistentVolumeClaim), claim) is fits


@pytest.mark.parametrize(
    ("asked", "allocated", "used"),
    [("1Gi", None, "1Gi"), ("1Gi", "2Gi", "2Gi"), ("2Gi", "1Gi", "2Gi"), ("1500m", None, "2")],
)
def test_a_claim_uses_what_it_got_if_that_is_more_and_whole_bytes(asked: str, allocated: str | None, used: str) -> None:
    resources = core_v1.VolumeResourceRequirements(requests={"storage": asked})
    claim = core_v1.PersistentVolumeClaim(spec=core_v1.PersistentVolumeClaimSpec(resources=resources))
    claim.status.allocated_resources = {"storage": allocated} if allocated else None
    found = quota.usage(registry.of(core_v1.PersistentVolumeClaim), claim, clock.EPOCH)
    assert str(found["requests.storage"]) == used


@pytest.mark.parametrize(
    ("name", "pods"),
    [
        ("pods", True),
        ("count/pods", True),
        ("limits.memory", True),
        ("requests.hugepages-2Mi", True),
        ("requests.example.com/gpu", True),
        ("limits.example.com/gpu", False),
        ("requests.storage", False),
        ("requests.x.kubernetes.io/y", False),
        ("configmaps", False),
        ("gold.storageclass.storage.k8s.io/requests.storage", False),
    ],
)
def test_which_names_of_a_quota_are_about_pods(name: str, pods: bool) -> None:
    assert quota.covers(name, registry.of(core_v1.Pod)) is pods
