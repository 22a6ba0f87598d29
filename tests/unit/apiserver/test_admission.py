"""The admission plugins, through requests."""

from typing import Any

import pytest

from apiserver.harness import Server, config_map, pod, virtual
from podling.api import core_v1, meta_v1, node_v1, scheduling_v1, storage_v1
from podling.api.errors import StatusError
from podling.api.registry import of
from podling.apiserver.admission.base import CREATE, Attributes, Plugin


async def refused(server: Server, obj: Any) -> str:
    with pytest.raises(StatusError) as caught:
        await server.client.create(obj)
    assert caught.value.code == 403
    return str(caught.value)


def tolerated(found: core_v1.Pod) -> list[tuple[str | None, int | None]]:
    assert found.spec is not None
    return [(t.key, t.toleration_seconds) for t in found.spec.tolerations or []]


@virtual
async def test_namespaces(server: Server) -> None:
    with pytest.raises(StatusError) as caught:
        await server.client.create(config_map("a", namespace="nope"))
    assert (caught.value.code, str(caught.value)) == (404, 'namespaces "nope" not found')
    error = await server.fails("DELETE", "/api/v1/namespaces/default")
    assert str(error) == 'namespaces "default" is forbidden: this namespace may not be deleted'


@virtual
async def test_the_token_volume(server: Server) -> None:
    made = await server.client.create(pod("p", init_containers=[core_v1.Container(name="i", image="x")]))
    assert made.spec and made.spec.volumes and made.spec.init_containers
    assert made.spec.service_account_name == made.spec.service_account == "default"
    (volume,) = made.spec.volumes
    assert volume.name.startswith("kube-api-access-") and len(volume.name) == 21
    assert volume.projected and volume.projected.sources and volume.projected.default_mode == 420
    assert volume.projected.sources[0].service_account_token == core_v1.ServiceAccountTokenProjection(
        expiration_seconds=3607, path="token"
    )
    for container in [*made.spec.containers, *made.spec.init_containers]:
        assert container.volume_mounts == [
            core_v1.VolumeMount(
                name=volume.name, read_only=True, mount_path="/var/run/secrets/kubernetes.io/serviceaccount"
            )
        ]


@pytest.mark.parametrize(
    ("by_pod", "by_account", "mounted"),
    [
        (None, None, True),
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (False, True, False),
        (False, None, False),
    ],
)
@virtual
async def test_automount(server: Server, by_pod: bool | None, by_account: bool | None, mounted: bool) -> None:
    await server.client.create(
        core_v1.ServiceAccount(
            metadata=meta_v1.ObjectMeta(name="sa", namespace="default"), automount_service_account_token=by_account
        )
    )
    made = await server.client.create(pod("p", service_account_name="sa", automount_service_account_token=by_pod))
    assert made.spec and bool(made.spec.volumes) == mounted


@virtual
async def test_accounts(server: Server) -> None:
    assert await refused(server, pod("p", service_account_name="nope")) == (
        'pods "p" is forbidden: error looking up service account default/nope: serviceaccount "nope" not found'
    )
    await server.client.create(
        core_v1.ServiceAccount(
            metadata=meta_v1.ObjectMeta(name="puller", namespace="default"),
            image_pull_secrets=[core_v1.LocalObjectReference(name="s")],
        )
    )
    made = await server.client.create(pod("p", service_account_name="puller"))
    assert made.spec and made.spec.image_pull_secrets == [core_v1.LocalObjectReference(name="s")]
    mirror = pod("m", service_account_name="puller", meta={"annotations": {"kubernetes.io/config.mirror": "x"}})
    assert "a mirror pod may not reference service accounts" in await refused(server, mirror)


@virtual
async def test_default_tolerations(server: Server) -> None:
    not_ready, unreachable = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
    assert tolerated(await server.client.create(pod("a"))) == [(not_ready, 300), (unreachable, 300)]
    own = [core_v1.Toleration(key=not_ready, operator="Exists", effect="NoExecute", toleration_seconds=5)]
    assert tolerated(await server.client.create(pod("b", tolerations=own))) == [(not_ready, 5), (unreachable, 300)]
    everything = [core_v1.Toleration(operator="Exists")]
    assert tolerated(await server.client.create(pod("c", tolerations=everything))) == [(None, None)]


def priority_class(name: str, value: int, **more: Any) -> scheduling_v1.PriorityClass:
    return scheduling_v1.PriorityClass(metadata=meta_v1.ObjectMeta(name=name), value=value, **more)


@virtual
async def test_priority(server: Server) -> None:
    plain = await server.client.create(pod("plain"))
    assert plain.spec and (plain.spec.priority, plain.spec.preemption_policy) == (0, "PreemptLowerPriority")
    critical = await server.client.create(pod("critical", priority_class_name="system-node-critical"))
    assert critical.spec and critical.spec.priority == 2_000_001_000
    await server.client.create(priority_class("high", 1000, preemption_policy="Never"))
    high = await server.client.create(pod("high", priority_class_name="high"))
    assert high.spec and (high.spec.priority, high.spec.preemption_policy) == (1000, "Never")
    assert "no PriorityClass with name nope was found" in await refused(server, pod("x", priority_class_name="nope"))
    assert "the integer value of priority (5) must not be provided in pod spec" in await refused(
        server, pod("x", priority=5)
    )


@virtual
async def test_the_default_priority(server: Server) -> None:
    await server.client.create(priority_class("usual", 7, global_default=True))
    made = await server.client.create(pod("p"))
    assert made.spec and (made.spec.priority_class_name, made.spec.priority) == ("usual", 7)
    assert "PriorityClass usual is already marked as globalDefault. Only one default can exist" in await refused(
        server, priority_class("another", 8, global_default=True)
    )


@virtual
async def test_new_nodes_take_no_pods_yet(server: Server) -> None:
    made = await server.client.create(core_v1.Node(metadata=meta_v1.ObjectMeta(name="n")))
    assert made.spec and [(t.key, t.effect) for t in made.spec.taints or []] == [
        ("node.kubernetes.io/not-ready", "NoSchedule")
    ]


@virtual
async def test_runtime_classes(server: Server) -> None:
    await server.client.create(
        node_v1.RuntimeClass(
            metadata=meta_v1.ObjectMeta(name="vm"),
            handler="vm",
            overhead=node_v1.Overhead(pod_fixed={"cpu": "250m"}),
            scheduling=node_v1.Scheduling(
                node_selector={"vm": "yes"}, tolerations=[core_v1.Toleration(key="vm", operator="Exists")]
            ),
        )
    )
    made = await server.client.create(pod("p", runtime_class_name="vm", node_selector={"a": "b"}))
    assert made.spec and made.spec.overhead == {"cpu": "250m"}
    assert made.spec.node_selector == {"a": "b", "vm": "yes"}
    assert ("vm", None) in tolerated(made)
    assert 'pod rejected: RuntimeClass "nope" not found' in await refused(server, pod("x", runtime_class_name="nope"))
    conflict = pod("x", runtime_class_name="vm", node_selector={"vm": "no"})
    assert "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes" in await refused(server, conflict)


def sized(name: str, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> core_v1.Pod:
    resources = core_v1.ResourceRequirements(requests=requests, limits=limits)  # type: ignore[arg-type]
    return pod(name, containers=[core_v1.Container(name="c", image="x", resources=resources)])


async def limit_range(server: Server, **item: Any) -> None:
    await server.client.create(
        core_v1.LimitRange(
            metadata=meta_v1.ObjectMeta(name="l", namespace="default"),
            spec=core_v1.LimitRangeSpec(limits=[core_v1.LimitRangeItem(**item)]),
        )
    )


@virtual
async def test_limit_range_defaults(server: Server) -> None:
    await limit_range(server, type="Container", default={"cpu": "500m"}, default_request={"cpu": "100m"})
    made = await server.client.create(sized("p", requests={"memory": "1Mi"}))
    assert made.spec is not None
    resources = made.spec.containers[0].resources
    assert resources and (resources.requests, resources.limits) == (
        {"memory": "1Mi", "cpu": "100m"},
        {"cpu": "500m"},
    )
    assert made.metadata.annotations == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    }


@pytest.mark.parametrize(
    ("item", "requests", "limits", "why"),
    [
        ({"min": {"cpu": "100m"}}, {"cpu": "50m"}, None, "minimum cpu usage per Container is 100m, but request is 50m"),
        ({"min": {"cpu": "1"}, "type": "Pod"}, None, None, "minimum cpu usage per Pod is 1.  No request is specified"),
        ({"max": {"cpu": "1"}}, None, {"cpu": "2"}, "maximum cpu usage per Container is 1, but limit is 2"),
        ({"max": {"cpu": "1"}, "type": "Pod"}, None, None, "maximum cpu usage per Pod is 1.  No limit is specified"),
        (
            {"max_limit_request_ratio": {"cpu": "2"}},
            {"cpu": "100m"},
            {"cpu": "300m"},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"max": {"cpu": "1", "memory": "1Gi"}},
            None,
            {"cpu": "2", "memory": "2Gi"},
            "[maximum cpu usage per Container is 1, but limit is 2, "
            "maximum memory usage per Container is 1Gi, but limit is 2Gi]",
        ),
    ],
)
@virtual
async def test_limit_range_bounds(
    server: Server, item: dict[str, Any], requests: dict[str, str] | None, limits: dict[str, str] | None, why: str
) -> None:
    await limit_range(server, **{"type": "Container", **item})
    assert await refused(server, sized("p", requests, limits)) == f'pods "p" is forbidden: {why}'


@virtual
async def test_claims_get_the_default_class_and_protection(server: Server) -> None:
    def storage_class(name: str, *, default: bool) -> storage_v1.StorageClass:
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else None
        return storage_v1.StorageClass(
            metadata=meta_v1.ObjectMeta(name=name, annotations=annotations), provisioner="example.com/p"
        )

    def claim(name: str, storage_class_name: str | None = None) -> core_v1.PersistentVolumeClaim:
        return core_v1.PersistentVolumeClaim(
            metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
            spec=core_v1.PersistentVolumeClaimSpec(
                access_modes=["ReadWriteOnce"],
                storage_class_name=storage_class_name,
                resources=core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"}),
            ),
        )

    none = await server.client.create(claim("none"))
    assert none.spec and none.spec.storage_class_name is None
    assert none.metadata.finalizers == ["kubernetes.io/pvc-protection"]
    await server.client.create(storage_class("slow", default=False))
    await server.client.create(storage_class("fast", default=True))
    chosen = await server.client.create(claim("a"))
    assert chosen.spec and chosen.spec.storage_class_name == "fast"
    explicit = await server.client.create(claim("b", "slow"))
    assert explicit.spec and explicit.spec.storage_class_name == "slow"
    nothing = await server.client.create(claim("c", ""))
    assert nothing.spec and nothing.spec.storage_class_name == ""


@virtual
async def test_plugins_can_be_added_and_see_what_they_ask_for(server: Server) -> None:
    seen: list[tuple[str, str, bool]] = []

    class Spy(Plugin):
        name = "Spy"
        resources = frozenset(("configmaps",))
        mutates = True
        validates = True

        async def mutate(self, attributes: Attributes) -> None:
            attributes.obj.data = {"spied": "on"}

        async def validate(self, attributes: Attributes) -> None:
            seen.append((attributes.operation, attributes.name, attributes.dry_run))

    server.app.admission.add(Spy(server.app))
    made = await server.client.create(config_map("a"), dry_run=True)
    assert made.data == {"spied": "on"}
    await server.client.create(pod("p"))
    assert seen == [(CREATE, "a", True)]


def test_attributes_know_the_qualified_resource() -> None:
    from podling.api.request import LOOPBACK

    attributes = Attributes(CREATE, of(scheduling_v1.PriorityClass), "", "", "x", None, None, LOOPBACK)
    assert attributes.qualified == "priorityclasses.scheduling.k8s.io"
