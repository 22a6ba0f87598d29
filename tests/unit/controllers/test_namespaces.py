"""Namespaces going, and what every namespace has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controllers.cluster import Cluster, pod
from podling import clock
from podling.api import core_v1, rbac_v1
from podling.api.meta_v1 import LabelSelector, ObjectMeta
from podling.controllers.clusterrole_aggregation import ClusterRoleAggregationController
from podling.controllers.namespace import NamespaceController, Remaining, conditions
from podling.controllers.root_ca import RootCaController
from podling.controllers.serviceaccount import ServiceAccountController


def in_cluster(main: Callable[[Cluster], Any], *kinds: Any, **options: Any) -> None:
    async def run() -> None:
        async with Cluster(*kinds, **options) as cluster:
            await main(cluster)

    clock.run_virtual(run())


def config_map(name: str, namespace: str = "shop", *finalizers: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace, finalizers=list(finalizers) or None))


def test_a_namespace_goes_with_all_it_holds() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.namespace("shop")
        await cluster.client.create(config_map("a"))
        await cluster.client.create(core_v1.Secret(metadata=ObjectMeta(name="s", namespace="shop")))
        await cluster.client.create(config_map("kept", "default"))
        await cluster.client.create(pod("web", namespace="shop"))
        await cluster.settle(0.5)
        await cluster.client.delete(core_v1.Namespace, "shop")
        await cluster.until(lambda: gone(cluster, "shop"), 10)
        for kind in (core_v1.ConfigMap, core_v1.Secret, core_v1.Pod):
            assert await cluster.list(kind, "shop") == []
        assert len(await cluster.list(core_v1.ConfigMap)) == 1

    in_cluster(main, NamespaceController)


async def gone(cluster: Cluster, name: str) -> bool:
    return await cluster.get(core_v1.Namespace, name, None) is None


def test_pods_go_before_anything_else() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.namespace("shop")
        await cluster.client.create(config_map("a"))
        held = pod("web", namespace="shop")
        held.metadata.finalizers = ["example.com/hold"]
        await cluster.client.create(held)
        await cluster.client.delete(core_v1.Namespace, "shop")
        await cluster.settle(20)
        assert len(await cluster.list(core_v1.ConfigMap, "shop")) == 1
        namespace = await cluster.client.get(core_v1.Namespace, "shop")
        assert namespace.status.phase == "Terminating"
        said = {c.type: (c.status, c.reason, c.message) for c in namespace.status.conditions or ()}
        assert said["NamespaceContentRemaining"] == (
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: pods. has 1 resource instances",
        )
        assert said["NamespaceFinalizersRemaining"] == (
            "True",
            "SomeFinalizersRemain",
            "Some finalizers are remaining: example.com/hold in 1 resource instances",
        )
        assert said["NamespaceDeletionDiscoveryFailure"][0] == "False"
        began = clock.elapsed()
        await cluster.change(core_v1.Pod, "web", lambda p: setattr(p.metadata, "finalizers", None), "shop")
        await cluster.until(lambda: gone(cluster, "shop"))
        # The end of the last pod is heard of, not waited for.
        assert clock.elapsed() - began < 1

    in_cluster(main, NamespaceController)


def test_conditions_keep_their_transition_time_while_their_status_stays() -> None:
    left = Remaining(failures=["b", "a"])
    first = conditions([], left, clock.EPOCH)
    from datetime import timedelta

    second = conditions(first, Remaining(failures=["c"]), clock.EPOCH + timedelta(minutes=1))
    (failure,) = [c for c in second if c.type == "NamespaceDeletionContentFailure"]
    assert failure.message == "Failed to delete all resource types, 1 remaining: c"
    assert failure.last_transition_time == "2026-01-01T00:00:00Z"
    assert first[2].message == "Failed to delete all resource types, 2 remaining: a, b"
    third = conditions(second, Remaining(), clock.EPOCH + timedelta(minutes=2))
    assert {c.status for c in third} == {"False"}
    assert third[2].last_transition_time == "2026-01-01T00:02:00Z"


def test_every_namespace_has_its_account_and_the_root_certificate() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.namespace("late")
        await cluster.settle()
        for namespace in ("default", "late"):
            account = await cluster.client.get(core_v1.ServiceAccount, "default", namespace)
            assert account.metadata.name == "default"
            found = await cluster.client.get(core_v1.ConfigMap, "kube-root-ca.crt", namespace)
            assert found.data == {"ca.crt": "-----BEGIN CERTIFICATE-----"}
            assert "verify the kube-apiserver" in (found.metadata.annotations or {})["kubernetes.io/description"]

        def spoil(c: core_v1.ConfigMap) -> None:
            c.data = {"ca.crt": "spoiled"}

        await cluster.change(core_v1.ConfigMap, "kube-root-ca.crt", spoil)
        await cluster.client.delete(core_v1.ServiceAccount, "default", "default")
        await cluster.client.delete(core_v1.ConfigMap, "kube-root-ca.crt", "late")
        await cluster.settle()
        for namespace in ("default", "late"):
            found = await cluster.client.get(core_v1.ConfigMap, "kube-root-ca.crt", namespace)
            assert found.data == {"ca.crt": "-----BEGIN CERTIFICATE-----"}
        assert await cluster.get(core_v1.ServiceAccount, "default") is not None

    in_cluster(main, ServiceAccountController, RootCaController)


def test_a_namespace_that_goes_gets_nothing_new() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.settle()
        await cluster.client.create(config_map("held", "shop", "example.com/hold"))
        await cluster.client.delete(core_v1.Namespace, "shop")
        await cluster.settle(5)
        assert await cluster.get(core_v1.ServiceAccount, "default", "shop") is None
        assert [c.metadata.name for c in await cluster.list(core_v1.ConfigMap, "shop")] == ["held"]

    in_cluster(main, ServiceAccountController, RootCaController, NamespaceController, namespaces=("default", "shop"))


def test_roles_are_put_together_from_those_they_select() -> None:
    def role(name: str, verb: str, **labels: str) -> rbac_v1.ClusterRole:
        rule = rbac_v1.PolicyRule(api_groups=[""], resources=["pods"], verbs=[verb])
        return rbac_v1.ClusterRole(metadata=ObjectMeta(name=name, labels=labels or None), rules=[rule])

    async def main(cluster: Cluster) -> None:
        whole = rbac_v1.ClusterRole(
            metadata=ObjectMeta(name="whole"),
            aggregation_rule=rbac_v1.AggregationRule(
                cluster_role_selectors=[LabelSelector(match_labels={"to": "whole"})]
            ),
        )
        await cluster.client.create(whole)
        await cluster.client.create(role("a", "get", to="whole"))
        await cluster.client.create(role("b", "list", to="whole"))
        await cluster.client.create(role("c", "delete"))
        await cluster.settle()
        assert await verbs(cluster) == ["get", "list"]
        await cluster.client.delete(rbac_v1.ClusterRole, "a")
        await cluster.settle()
        assert await verbs(cluster) == ["list"]

    async def verbs(cluster: Cluster) -> list[str]:
        found = await cluster.client.get(rbac_v1.ClusterRole, "whole")
        return [v for r in found.rules or () for v in r.verbs]

    in_cluster(main, ClusterRoleAggregationController)
