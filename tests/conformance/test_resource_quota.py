"""ResourceQuota: what the conformance programme observes of quotas, on a whole cluster in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podling import clock
from podling.api import apps_v1, core_v1, meta_v1, struct
from podling.api.errors import StatusError
from podling.client.base import PatchType
from podling.cluster.inprocess import Cluster


def virtual(test: Callable[[Cluster], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with Cluster() as cluster:
                await test(cluster)

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def meta(name: str, **labels: str) -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(name=name, namespace="default", labels=labels or None)


async def quota(cluster: Cluster, hard: dict[str, str], name: str = "test-quota", **spec: Any) -> None:
    """A quota that has been counted."""
    made = core_v1.ResourceQuota(metadata=meta(name), spec=core_v1.ResourceQuotaSpec(hard={**hard}, **spec))
    await cluster.client.create(made)
    await cluster.until(core_v1.ResourceQuota, name, lambda q: q.status.hard == hard and q.status.used)


async def used(cluster: Cluster, expected: dict[str, str], name: str = "test-quota") -> None:
    """Wait until so much is used of what is named, and stays so."""

    def so(found: core_v1.ResourceQuota) -> bool:
        return {k: str((found.status.used or {}).get(k)) for k in expected} == expected

    await cluster.until(core_v1.ResourceQuota, name, so, seconds=60)
    await asyncio.sleep(1)
    assert so(await cluster.client.get(core_v1.ResourceQuota, name, "default"))


async def life(cluster: Cluster, obj: Any, name: str) -> None:
    """`name` is charged with the object and released with it."""
    await quota(cluster, {name: "3"})
    before = (await cluster.client.get(core_v1.ResourceQuota, "test-quota", "default")).status.used[name]  # type: ignore[index]
    await cluster.client.create(obj)
    await used(cluster, {name: str(int(before) + 1)})
    await cluster.client.delete(type(obj), obj.metadata.name, "default")
    await used(cluster, {name: str(before)})


def pod(name: str, requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None) -> core_v1.Pod:
    resources = core_v1.ResourceRequirements(requests=requests, limits=limits)
    container = core_v1.Container(name="pause", image="pause", resources=resources)
    return core_v1.Pod(metadata=meta(name), spec=core_v1.PodSpec(containers=[container]))


def template() -> core_v1.PodTemplateSpec:
    return core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels={"app": "x"}),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="pause")]),
    )


async def refused(call: Awaitable[Any], code: int = 403) -> None:
    with pytest.raises(StatusError) as caught:
        await call
    assert caught.value.code == code


@virtual
async def test_status(cluster: Cluster) -> None:
    """PUT and PATCH of status.hard stay apart from the spec; the controller sets them right again."""
    await quota(cluster, {"cpu": "500m", "memory": "500Mi"})
    found = struct.clone(await cluster.client.get(core_v1.ResourceQuota, "test-quota", "default"))
    found.status.hard = {"cpu": "700m", "memory": "700Mi"}
    updated = await cluster.client.update_status(found)
    assert updated.status.hard == {"cpu": "700m", "memory": "700Mi"}
    assert updated.spec.hard == {"cpu": "500m", "memory": "500Mi"}
    await cluster.until(core_v1.ResourceQuota, "test-quota", lambda q: q.status.hard == q.spec.hard)
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"hard": {"cpu": "1"}}, "status": {"hard": {"cpu": "1"}}}
    patched = await cluster.client.patch(
        core_v1.ResourceQuota, "test-quota", "default", patch, type=PatchType.MERGE, subresource="status"
    )
    assert (patched.status.hard or {})["cpu"] == "1"
    assert (patched.spec.hard or {})["cpu"] == "500m"
    await cluster.until(core_v1.ResourceQuota, "test-quota", lambda q: q.status.hard == q.spec.hard)


@virtual
async def test_update_and_delete(cluster: Cluster) -> None:
    await quota(cluster, {"cpu": "1", "memory": "500Mi"})
    found = struct.clone(await cluster.client.get(core_v1.ResourceQuota, "test-quota", "default"))
    found.spec.hard = {"cpu": "2", "memory": "1Gi"}
    await cluster.client.update(found)
    await cluster.until(core_v1.ResourceQuota, "test-quota", lambda q: q.status.hard == {"cpu": "2", "memory": "1Gi"})
    await cluster.client.delete(core_v1.ResourceQuota, "test-quota", "default")
    await cluster.gone(core_v1.ResourceQuota, "test-quota")


@virtual
async def test_the_life_of_a_config_map(cluster: Cluster) -> None:
    await cluster.until(core_v1.ConfigMap, "kube-root-ca.crt", lambda _: True)
    await life(cluster, core_v1.ConfigMap(metadata=meta("c"), data={"a": "b"}), "configmaps")


@virtual
async def test_the_life_of_a_secret(cluster: Cluster) -> None:
    await life(cluster, core_v1.Secret(metadata=meta("s"), data={"a": "Yg=="}), "secrets")


@virtual
async def test_the_life_of_a_replica_set(cluster: Cluster) -> None:
    spec = apps_v1.ReplicaSetSpec(
        replicas=0, selector=meta_v1.LabelSelector(match_labels={"app": "x"}), template=template()
    )
    await life(cluster, apps_v1.ReplicaSet(metadata=meta("r"), spec=spec), "count/replicasets.apps")


@virtual
async def test_the_life_of_a_replication_controller(cluster: Cluster) -> None:
    spec = core_v1.ReplicationControllerSpec(replicas=0, selector={"app": "x"}, template=template())
    await life(cluster, core_v1.ReplicationController(metadata=meta("r"), spec=spec), "replicationcontrollers")


@virtual
async def test_the_life_of_services(cluster: Cluster) -> None:
    await cluster.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="quiet")))
    hard = {"services": "10", "services.nodeports": "1", "services.loadbalancers": "1"}
    made = core_v1.ResourceQuota(metadata=meta("q"), spec=core_v1.ResourceQuotaSpec(hard={**hard}))
    made.metadata.namespace = "quiet"
    await cluster.client.create(made)

    async def now(*counts: int) -> None:
        wanted = dict(zip(sorted(hard), map(str, counts), strict=True))
        await cluster.until(core_v1.ResourceQuota, "q", lambda q: q.status.used == wanted, namespace="quiet")

    def service(name: str, kind: str, **more: Any) -> core_v1.Service:
        spec = core_v1.ServiceSpec(ports=[core_v1.ServicePort(port=80)], selector={"a": "b"}, type=kind, **more)
        return core_v1.Service(metadata=meta_v1.ObjectMeta(name=name, namespace="quiet"), spec=spec)

    await now(0, 0, 0)
    await cluster.client.create(service("cluster-ip", "ClusterIP"))
    await cluster.client.create(service("node-port", "NodePort"))
    await refused(cluster.client.create(service("over", "LoadBalancer", allocate_load_balancer_node_ports=True)))
    await now(2, 0, 1)
    await cluster.client.create(service("balancer", "LoadBalancer", allocate_load_balancer_node_ports=False))
    await now(3, 1, 1)
    for name in ("cluster-ip", "node-port", "balancer"):
        await cluster.client.delete(core_v1.Service, name, "quiet")
    await now(0, 0, 0)


@virtual
async def test_the_life_of_a_pod(cluster: Cluster) -> None:
    extended = "requests.example.com/dongle"
    hard = {"pods": "5", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi", extended: "3"}
    await quota(cluster, hard)
    asks = {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"}
    first = await cluster.client.create(pod("first", asks, {"example.com/dongle": "2"}))
    taken = {"pods": "1", "cpu": "500m", "memory": "252Mi", "requests.ephemeral-storage": "30Gi", extended: "2"}
    await used(cluster, taken)
    await refused(cluster.client.create(pod("too-much-cpu", {"cpu": "600m", "memory": "100Mi"})))
    over = {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "10Gi", "example.com/dongle": "2"}
    await refused(cluster.client.create(pod("too-much-of-an-extension", over, {"example.com/dongle": "2"})))
    changed = struct.clone(first)
    changed.spec.containers[0].resources.requests["cpu"] = "100m"  # type: ignore[union-attr, index]
    changed.metadata.resource_version = None
    await refused(cluster.client.update(changed), 422)
    await used(cluster, taken)
    await cluster.client.delete(core_v1.Pod, "first", "default", grace_period_seconds=0)
    await used(cluster, {"pods": "0", "cpu": "0", "memory": "0", "requests.ephemeral-storage": "0", extended: "0"})


@virtual
async def test_the_status_is_computed_promptly(cluster: Cluster) -> None:
    began = clock.elapsed()
    await quota(cluster, {"pods": "5", "secrets": "10"})
    assert clock.elapsed() - began < 1


@virtual
async def test_lifecycle(cluster: Cluster) -> None:
    """Listed over all namespaces by label, patched, deleted as a collection."""
    made = core_v1.ResourceQuota(metadata=meta("q", testing="yes"), spec=core_v1.ResourceQuotaSpec(hard={"cpu": "1"}))
    await cluster.client.create(made)
    listed = await cluster.client.list(core_v1.ResourceQuota, label_selector="testing=yes")
    assert [q.metadata.name for q in listed.items] == ["q"]
    patch = {"metadata": {"labels": {"q": "patched"}}, "spec": {"hard": {"memory": "750Mi"}}}
    patched = await cluster.client.patch(core_v1.ResourceQuota, "q", "default", patch)
    assert patched.spec.hard == {"cpu": "1", "memory": "750Mi"}
    await cluster.client.delete_collection(core_v1.ResourceQuota, "default", label_selector="q=patched")
    await cluster.gone(core_v1.ResourceQuota, "q")


@virtual
async def test_best_effort_scopes(cluster: Cluster) -> None:
    await quota(cluster, {"pods": "5"}, "best", scopes=["BestEffort"])
    await quota(cluster, {"pods": "5"}, "not-best", scopes=["NotBestEffort"])
    await cluster.client.create(pod("a"))
    await used(cluster, {"pods": "1"}, "best")
    await used(cluster, {"pods": "0"}, "not-best")
    await cluster.client.delete(core_v1.Pod, "a", "default", grace_period_seconds=0)
    await used(cluster, {"pods": "0"}, "best")
    await cluster.client.create(pod("b", {"cpu": "200m"}, {"cpu": "400m"}))
    await used(cluster, {"pods": "0"}, "best")
    await used(cluster, {"pods": "1"}, "not-best")
    await cluster.client.delete(core_v1.Pod, "b", "default", grace_period_seconds=0)
    await used(cluster, {"pods": "0"}, "not-best")


@virtual
async def test_terminating_scopes(cluster: Cluster) -> None:
    hard = {"pods": "5", "requests.cpu": "1", "limits.cpu": "2", "requests.memory": "1Gi", "limits.memory": "2Gi"}
    await quota(cluster, hard, "ending", scopes=["Terminating"])
    await quota(cluster, hard, "lasting", scopes=["NotTerminating"])
    nothing = dict.fromkeys(hard, "0")
    taken = {
        "pods": "1",
        "requests.cpu": "500m",
        "limits.cpu": "1",
        "requests.memory": "200Mi",
        "limits.memory": "400Mi",
    }
    asks, limits = {"cpu": "500m", "memory": "200Mi"}, {"cpu": "1", "memory": "400Mi"}
    for deadline, counted, other in ((None, "lasting", "ending"), (3600, "ending", "lasting")):
        wanted = pod("p", asks, limits)
        wanted.spec.active_deadline_seconds = deadline
        await cluster.client.create(wanted)
        await used(cluster, taken, counted)
        await used(cluster, nothing, other)
        await cluster.client.delete(core_v1.Pod, "p", "default", grace_period_seconds=0)
        await used(cluster, nothing, counted)
