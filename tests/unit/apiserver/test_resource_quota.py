"""Quotas are charged with what is admitted, and refuse what goes over, in upstream's words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apiserver.harness import Server, config_map, pod, virtual
from podling.api import apps_v1, core_v1, meta_v1, struct
from podling.api.errors import StatusError
from podling.apiserver.admission import resource_quota


async def quota(server: Server, hard: dict[str, str], name: str = "q", **spec: Any) -> core_v1.ResourceQuota:
    """A quota whose controller has counted: nothing is used."""
    made = await server.client.create(
        core_v1.ResourceQuota(
            metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
            spec=core_v1.ResourceQuotaSpec(hard={**hard}, **spec),
        )
    )
    counted = struct.clone(made)
    counted.status = core_v1.ResourceQuotaStatus(hard=dict(hard), used=dict.fromkeys(hard, "0"))
    return await server.client.update_status(counted)


async def used(server: Server, name: str = "q") -> dict[str, Any]:
    found = await server.client.get(core_v1.ResourceQuota, name, "default")
    return {k: str(v) for k, v in (found.status.used or {}).items()}


async def refused(call: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await call
    assert caught.value.code == 403
    return caught.value.status.message or ""


def sized(name: str, requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None) -> core_v1.Pod:
    resources = core_v1.ResourceRequirements(requests=requests, limits=limits)
    return pod(name, containers=[core_v1.Container(name="c", image="busybox", resources=resources)])


def service(name: str, **spec: Any) -> core_v1.Service:
    ports = [core_v1.ServicePort(name=f"p{n}", port=n) for n in (80, 81)]
    return core_v1.Service(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"), spec=core_v1.ServiceSpec(ports=ports, **spec)
    )


@virtual
async def test_what_is_admitted_is_charged_at_once_and_what_goes_over_is_refused(server: Server) -> None:
    await quota(server, {"pods": "2"})
    for name in ("a", "b"):
        await server.client.create(pod(name))
    assert await used(server) == {"pods": "2"}
    assert await refused(server.client.create(pod("c"))) == (
        'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
    )
    assert await used(server) == {"pods": "2"}


@virtual
async def test_a_burst_cannot_exceed_and_costs_few_writes_of_the_quota(server: Server) -> None:
    made = await quota(server, {"count/configmaps": "30"})
    results = await asyncio.gather(
        *(server.client.create(config_map(f"c{n}")) for n in range(50)), return_exceptions=True
    )
    refusals = [r for r in results if isinstance(r, StatusError)]
    assert len(refusals) == 20
    assert {r.code for r in refusals} == {403}
    assert await used(server) == {"count/configmaps": "30"}
    after = await server.client.get(core_v1.ResourceQuota, "q", "default")
    assert int(after.metadata.resource_version or 0) - int(made.metadata.resource_version or 0) <= 30 + 5


@virtual
async def test_all_that_is_exceeded_is_named_in_order(server: Server) -> None:
    await quota(server, {"requests.memory": "1Gi", "limits.cpu": "1", "pods": "5"})
    await server.client.create(sized("a", {"memory": "512Mi"}, {"cpu": "500m"}))
    assert await used(server) == {"limits.cpu": "500m", "pods": "1", "requests.memory": "512Mi"}
    assert await refused(server.client.create(sized("b", {"memory": "1Gi"}, {"cpu": "600m"}))) == (
        'pods "b" is forbidden: exceeded quota: q, requested: limits.cpu=600m,requests.memory=1Gi, '
        "used: limits.cpu=500m,requests.memory=512Mi, limited: limits.cpu=1,requests.memory=1Gi"
    )


@virtual
async def test_containers_must_say_what_a_quota_limits(server: Server) -> None:
    await quota(server, {"limits.cpu": "1", "requests.memory": "1Gi", "requests.ephemeral-storage": "1Gi"})
    assert await refused(server.client.create(pod("a"))) == (
        'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: c; requests.memory for: c'
    )
    two = [core_v1.Container(name=name, image="busybox") for name in ("z", "b")]
    two[0].resources = core_v1.ResourceRequirements(limits={"cpu": "1"})
    three = pod("b", containers=two, init_containers=[core_v1.Container(name="a", image="busybox")])
    assert await refused(server.client.create(three)) == (
        'pods "b" is forbidden: failed quota: q: must specify limits.cpu for: a,b; requests.memory for: a,b,z'
    )


@virtual
async def test_a_generated_name_is_shown_as_its_prefix_or_the_name(server: Server) -> None:
    await quota(server, {"pods": "0"})
    wanted = pod("")
    wanted.metadata.name, wanted.metadata.generate_name = None, "web-"
    text = await refused(server.client.create(wanted))
    assert text.startswith('pods "web-')
    assert text.endswith(" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0")


@virtual
async def test_a_quota_that_nobody_counted_yet_limits_nothing_and_one_half_counted_refuses(server: Server) -> None:
    q = core_v1.ResourceQuota(
        metadata=meta_v1.ObjectMeta(name="q", namespace="default"), spec=core_v1.ResourceQuotaSpec(hard={"pods": "0"})
    )
    made = await server.client.create(q)
    await server.client.create(pod("a"))
    half = struct.clone(made)
    half.status = core_v1.ResourceQuotaStatus(hard={"pods": "5"})
    await server.client.update_status(half)
    assert await refused(server.client.create(pod("b"))) == (
        'pods "b" is forbidden: status unknown for quota: q, resources: pods'
    )


@virtual
async def test_dry_runs_are_checked_but_not_charged(server: Server) -> None:
    await quota(server, {"pods": "1"})
    await server.client.create(pod("a"), dry_run=True)
    assert await used(server) == {"pods": "0"}
    await server.client.create(pod("a"))
    assert "exceeded quota" in await refused(server.client.create(pod("b"), dry_run=True))


@virtual
async def test_every_quota_of_the_namespace_counts_and_other_namespaces_do_not(server: Server) -> None:
    await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="other")))
    await quota(server, {"count/deployments.apps": "1"}, "a")
    await quota(server, {"count/deployments.apps": "5", "configmaps": "1"}, "b")

    def deployment(name: str, namespace: str = "default") -> apps_v1.Deployment:
        labels = {"app": name}
        spec = apps_v1.DeploymentSpec(
            selector=meta_v1.LabelSelector(match_labels=labels),
            template=core_v1.PodTemplateSpec(
                metadata=meta_v1.ObjectMeta(labels=labels),
                spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i")]),
            ),
        )
        return apps_v1.Deployment(metadata=meta_v1.ObjectMeta(name=name, namespace=namespace), spec=spec)

    await server.client.create(deployment("one"))
    assert await used(server, "a") == {"count/deployments.apps": "1"}
    assert await used(server, "b") == {"configmaps": "0", "count/deployments.apps": "1"}
    assert await refused(server.client.create(deployment("two"))) == (
        'deployments.apps "two" is forbidden: exceeded quota: a, requested: count/deployments.apps=1, '
        "used: count/deployments.apps=1, limited: count/deployments.apps=1"
    )
    assert await used(server, "b") == {"configmaps": "0", "count/deployments.apps": "1"}
    for name in ("one", "two"):
        await server.client.create(deployment(name, "other"))


@virtual
async def test_scopes_choose_the_pods_that_are_charged(server: Server) -> None:
    await quota(server, {"pods": "5"}, "best", scopes=["BestEffort"])
    await quota(server, {"pods": "5"}, "rest", scopes=["NotBestEffort"])
    await quota(server, {"pods": "5"}, "ending", scopes=["Terminating"])
    await server.client.create(pod("a"))
    await server.client.create(sized("b", {"cpu": "1"}))
    await server.client.create(pod("c", active_deadline_seconds=5))
    assert [await used(server, n) for n in ("best", "rest", "ending")] == [{"pods": "2"}, {"pods": "1"}, {"pods": "1"}]


@virtual
async def test_a_service_that_becomes_another_is_charged_the_difference(server: Server) -> None:
    await quota(server, {"services": "2", "services.nodeports": "3", "services.loadbalancers": "1"})
    made = await server.client.create(service("a"))
    assert await used(server) == {"services": "1", "services.loadbalancers": "0", "services.nodeports": "0"}
    changed = struct.clone(made)
    changed.spec.type = "NodePort"
    made = await server.client.update(changed)
    assert await used(server) == {"services": "1", "services.loadbalancers": "0", "services.nodeports": "2"}
    changed = struct.clone(made)
    changed.spec.type = "LoadBalancer"
    await server.client.update(changed)
    assert await used(server) == {"services": "1", "services.loadbalancers": "1", "services.nodeports": "2"}
    assert await refused(server.client.create(service("b", type="NodePort"))) == (
        'services "b" is forbidden: exceeded quota: q, requested: services.nodeports=2, '
        "used: services.nodeports=2, limited: services.nodeports=3"
    )


@virtual
async def test_claims_are_charged_by_storage_class(server: Server) -> None:
    gold = "gold.storageclass.storage.k8s.io/"
    await quota(server, {"requests.storage": "5Gi", f"{gold}requests.storage": "2Gi", "persistentvolumeclaims": "5"})

    def claim(name: str, size: str, storage_class: str) -> core_v1.PersistentVolumeClaim:
        spec = core_v1.PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"],
            storage_class_name=storage_class,
            resources=core_v1.VolumeResourceRequirements(requests={"storage": size}),
        )
        meta = meta_v1.ObjectMeta(name=name, namespace="default")
        return core_v1.PersistentVolumeClaim(metadata=meta, spec=spec)

    await server.client.create(claim("a", "1Gi", "gold"))
    await server.client.create(claim("b", "3Gi", "silver"))
    assert await used(server) == {
        "persistentvolumeclaims": "2",
        "requests.storage": "4Gi",
        f"{gold}requests.storage": "1Gi",
    }
    assert await refused(server.client.create(claim("c", "2Gi", "gold"))) == (
        f'persistentvolumeclaims "c" is forbidden: exceeded quota: q, requested: {gold}requests.storage=2Gi,'
        f"requests.storage=2Gi, used: {gold}requests.storage=1Gi,requests.storage=4Gi, "
        f"limited: {gold}requests.storage=2Gi,requests.storage=5Gi"
    )


@virtual
async def test_a_resize_is_charged_the_difference(server: Server) -> None:
    await quota(server, {"requests.cpu": "1", "pods": "5"})
    await server.client.create(sized("a", {"cpu": "400m"}))
    path = "/api/v1/namespaces/default/pods/a/resize"

    def patch(cpu: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}

    headers = {"content-type": "application/strategic-merge-patch+json"}
    await server.ask("PATCH", path, patch("700m"), headers=headers)
    assert await used(server) == {"pods": "1", "requests.cpu": "700m"}
    error = await server.fails("PATCH", path, patch("1200m"), headers=headers)
    assert error.status.message == (
        'pods "a" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=700m, '
        "limited: requests.cpu=1"
    )


@virtual
async def test_a_quota_that_others_write_at_the_same_time_is_charged_all_the_same(server: Server) -> None:
    await quota(server, {"configmaps": "50"})

    async def label(number: int) -> None:
        body = {"metadata": {"labels": {"n": str(number)}}}
        headers = {"content-type": "application/merge-patch+json"}
        while True:
            try:
                await server.ask("PATCH", "/api/v1/namespaces/default/resourcequotas/q", body, headers=headers)
                return
            except StatusError as error:
                assert error.reason == "Conflict"

    async def create(number: int) -> core_v1.ConfigMap:
        for _ in range(number):
            await asyncio.sleep(0)
        return await server.client.create(config_map(f"c{number}"))

    await asyncio.gather(*(create(n) for n in range(20)), *(label(n) for n in range(10)))
    assert await used(server) == {"configmaps": "20"}


@virtual
async def test_who_is_cancelled_while_charging_for_others_does_not_take_them_along(server: Server) -> None:
    await quota(server, {"configmaps": "50"})
    tasks = [asyncio.create_task(server.client.create(config_map(f"c{n}"))) for n in range(10)]
    for _ in range(3):
        await asyncio.sleep(0)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(r, core_v1.ConfigMap) for r in results[1:])
    assert await used(server) in ({"configmaps": "9"}, {"configmaps": "10"})


@virtual
async def test_a_count_may_not_take_away_what_is_charged_and_on_its_way(server: Server) -> None:
    made = await quota(server, {"configmaps": "5"})
    plugin = next(p for p in server.app.admission.plugins if isinstance(p, resource_quota.ResourceQuota))
    count = struct.clone(made)

    async def conflict(n: str) -> StatusError | None:
        count.metadata.resource_version = None
        count.status.used = {"configmaps": n}
        try:
            await server.client.update_status(struct.clone(count))
        except StatusError as error:
            return error
        return None

    await server.client.create(config_map("a"))
    await server.app.hub.current()
    assert not plugin._coming, "what is there is no longer waited for"
    assert await conflict("0") is None
    # A request that was charged, and then failed or takes long.
    with pytest.raises(StatusError):
        await server.client.create(config_map("a"))
    assert plugin._coming
    error = await conflict("0")
    assert error is not None
    assert error.code == 409
    assert await conflict("3") is None
    await asyncio.sleep(resource_quota.PATIENCE + 1)
    assert await conflict("1") is None
