"""Claims find their volumes, keep them, lose them; volumes are kept or deleted when the claim is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controllers.cluster import Cluster
from podling import clock
from podling.api import core_v1, storage_v1, struct
from podling.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from podling.api.meta_v1 import LabelSelector, ObjectMeta
from podling.controllers.base import Config
from podling.controllers.persistent_volume import PersistentVolumeController
from podling.controllers.pv_protection import PvProtectionController
from podling.machinery import persistent_volumes as rules

RWO, RWX = "ReadWriteOnce", "ReadWriteMany"


def volume(name: str, size: str = "1Gi", **spec: Any) -> PersistentVolume:
    meta = ObjectMeta(name=name, labels=spec.pop("labels", None))
    spec.setdefault("access_modes", [RWO])
    spec.setdefault("host_path", core_v1.HostPathVolumeSource(path=spec.pop("path", f"/tmp/{name}")))
    return PersistentVolume(metadata=meta, spec=core_v1.PersistentVolumeSpec(capacity={"storage": size}, **spec))


def claim(name: str, size: str = "1Gi", **spec: Any) -> PersistentVolumeClaim:
    spec.setdefault("access_modes", [RWO])
    spec.setdefault("storage_class_name", "")
    resources = core_v1.VolumeResourceRequirements(requests={"storage": size})
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PersistentVolumeClaimSpec(resources=resources, **spec),
    )


def storage_class(name: str, provisioner: str = "example.com/p", **more: Any) -> storage_v1.StorageClass:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if more.pop("default", False) else None
    return storage_v1.StorageClass(
        metadata=ObjectMeta(name=name, annotations=annotations), provisioner=provisioner, **more
    )


def run(test: Callable[[Cluster], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        kinds = (PersistentVolumeController, PvProtectionController)
        async with Cluster(*kinds, agents=False, config=Config(**config)) as cluster:
            await test(cluster)

    clock.run_virtual(main())


async def states(cluster: Cluster) -> dict[str, str]:
    """Phase and partner of everything, after a moment."""
    await cluster.settle(5)
    found = {}
    for c in await cluster.list(PersistentVolumeClaim):
        found[c.metadata.name or ""] = f"{c.status.phase} {c.spec.volume_name or ''}".strip()
    for v in await cluster.list(PersistentVolume, None):
        holder = v.spec.claim_ref
        found[v.metadata.name or ""] = f"{v.status.phase} {holder.name if holder else ''}".strip()
    return found


async def said(cluster: Cluster) -> list[tuple[str, str, str]]:
    await cluster.settle(5)
    events = await cluster.list(core_v1.Event)
    return [(e.type or "", e.reason or "", e.message or "") for e in events]


def test_a_claim_gets_the_smallest_volume_that_fits() -> None:
    async def test(cluster: Cluster) -> None:
        for v in (volume("small", "1Gi"), volume("middle", "3Gi"), volume("large", "5Gi")):
            await cluster.client.create(v)
        assert set((await states(cluster)).values()) == {"Available"}
        await cluster.client.create(claim("c", "2Gi"))
        assert await states(cluster) == {
            "c": "Bound middle", "middle": "Bound c", "small": "Available", "large": "Available",
        }  # fmt: skip
        c = await cluster.client.get(PersistentVolumeClaim, "c", "default")
        v = await cluster.client.get(PersistentVolume, "middle")
        yes = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
        assert c.metadata.annotations == yes
        assert (c.status.capacity, c.status.access_modes) == ({"storage": "3Gi"}, [RWO])
        assert v.metadata.annotations == {"pv.kubernetes.io/bound-by-controller": "yes"}
        holder = v.spec.claim_ref
        assert holder is not None
        assert (holder.kind, holder.namespace, holder.uid) == ("PersistentVolumeClaim", "default", c.metadata.uid)

    run(test)


def test_a_claim_waits_for_its_volume_and_says_so() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.client.create(claim("c"))
        assert await states(cluster) == {"c": "Pending"}
        text = "no persistent volumes available for this claim and no storage class is set"
        assert await said(cluster) == [("Normal", "FailedBinding", text)]
        await cluster.client.create(volume("v"))
        assert await states(cluster) == {"c": "Bound v", "v": "Bound c"}

    run(test)


def test_many_claims_at_once_get_a_volume_each() -> None:
    async def test(cluster: Cluster) -> None:
        for n in range(10):
            await cluster.client.create(claim(f"c{n}"))
        for n in range(8):
            await cluster.client.create(volume(f"v{n}"))
        found = await states(cluster)
        bound = [v for k, v in found.items() if k.startswith("c") and v.startswith("Bound")]
        assert len(bound) == len(set(bound)) == 8
        assert all(found[f"v{n}"].startswith("Bound") for n in range(8))

    run(test)


def test_retained_volumes_stay_released_until_somebody_frees_them() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.client.create(volume("v"))
        await cluster.client.create(claim("c"))
        assert (await states(cluster))["v"] == "Bound c"
        await cluster.client.delete(PersistentVolumeClaim, "c", "default")
        assert await states(cluster) == {"v": "Released c"}
        await cluster.client.create(claim("c"))
        assert await states(cluster) == {"c": "Pending", "v": "Released c"}
        freed = struct.clone(await cluster.client.get(PersistentVolume, "v"))
        freed.spec.claim_ref = None
        await cluster.client.update(freed)
        assert await states(cluster) == {"c": "Bound v", "v": "Bound c"}

    run(test)


def test_volumes_to_be_deleted_go_with_what_they_hold() -> None:
    removed: list[str] = []

    async def remove(path: str) -> None:
        removed.append(path)

    async def test(cluster: Cluster) -> None:
        await cluster.client.create(volume("v", path="/tmp/x/data", persistent_volume_reclaim_policy="Delete"))
        await cluster.client.create(claim("c"))
        assert (await states(cluster))["v"] == "Bound c"
        await cluster.client.delete(PersistentVolumeClaim, "c", "default")
        assert await states(cluster) == {}
        assert removed == ["/tmp/x/data"]

    run(test, remove_directory=remove)


AFFINITY = core_v1.VolumeNodeAffinity(
    required=core_v1.NodeSelector(
        node_selector_terms=[
            core_v1.NodeSelectorTerm(
                match_expressions=[core_v1.NodeSelectorRequirement(key="a", operator="In", values=["b"])]
            )
        ]
    )
)


@pytest.mark.parametrize(
    ("fields", "reason", "text"),
    [
        (
            {"path": "/var/lib/data"},
            "VolumeFailedDelete",
            "host_path deleter only supports /tmp/.+ but received provided /var/lib/data",
        ),
        (
            {"host_path": None, "local": core_v1.LocalVolumeSource(path="/mnt"), "node_affinity": AFFINITY},
            "VolumeFailedDelete",
            'error getting deleter volume plugin for volume "v": no deletable volume plugin matched',
        ),
        (
            {"persistent_volume_reclaim_policy": "Recycle"},
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!",
        ),
    ],
)
def test_what_can_not_be_deleted_fails_and_stays(fields: dict[str, Any], reason: str, text: str) -> None:
    async def remove(path: str) -> None:
        raise AssertionError(path)

    async def test(cluster: Cluster) -> None:
        await cluster.client.create(volume("v", **{"persistent_volume_reclaim_policy": "Delete", **fields}))
        await cluster.settle(5)
        await cluster.client.create(claim("c"))
        await cluster.settle(5)
        await cluster.client.delete(PersistentVolumeClaim, "c", "default")
        assert await states(cluster) == {"v": "Failed c"}
        assert (await cluster.client.get(PersistentVolume, "v")).status.message == text
        assert await said(cluster) == [("Warning", reason, text)]

    run(test, remove_directory=remove)


def test_a_removal_that_fails_is_tried_again() -> None:
    tries = 0

    async def remove(path: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("busy")

    async def test(cluster: Cluster) -> None:
        await cluster.client.create(volume("v", persistent_volume_reclaim_policy="Delete"))
        await cluster.client.create(claim("c"))
        await cluster.settle(5)
        await cluster.client.delete(PersistentVolumeClaim, "c", "default")
        assert await states(cluster) == {}
        assert tries == 3

    run(test, remove_directory=remove)


def test_volumes_of_external_provisioners_are_theirs_to_delete() -> None:
    async def test(cluster: Cluster) -> None:
        made = volume("v", persistent_volume_reclaim_policy="Delete")
        made.metadata.annotations = {"pv.kubernetes.io/provisioned-by": "example.com/p"}
        await cluster.client.create(made)
        await cluster.client.create(claim("c"))
        await cluster.settle(5)
        await cluster.client.delete(PersistentVolumeClaim, "c", "default")
        assert await states(cluster) == {"v": "Released c"}

    run(test)


def test_a_claim_that_names_its_volume() -> None:
    async def test(cluster: Cluster) -> None:
        for v in (volume("v", "2Gi"), volume("w", "2Gi")):
            await cluster.client.create(v)
        await cluster.client.create(claim("c", volume_name="w"))
        await cluster.client.create(claim("big", "5Gi", volume_name="v"))
        await cluster.client.create(claim("late", volume_name="w"))
        await cluster.client.create(claim("none", volume_name="x"))
        assert await states(cluster) == {
            "c": "Bound w", "w": "Bound c", "v": "Available",
            "big": "Pending v", "late": "Pending w", "none": "Pending x",
        }  # fmt: skip
        assert sorted(await said(cluster)) == [
            ("Warning", "FailedBinding", 'volume "w" already bound to a different claim.'),
            ("Warning", "VolumeMismatch", 'Cannot bind to requested volume "v": requested PV is too small'),
        ]
        await cluster.client.create(volume("x"))
        assert (await states(cluster))["none"] == "Bound x"

    run(test)


def test_a_volume_that_is_reserved_waits_for_its_claim() -> None:
    async def test(cluster: Cluster) -> None:
        holder = core_v1.ObjectReference(namespace="default", name="mine")
        await cluster.client.create(volume("v", "9Gi", claim_ref=holder))
        await cluster.client.create(volume("w"))
        await cluster.client.create(claim("other", "1Gi"))
        assert await states(cluster) == {"other": "Bound w", "v": "Available mine", "w": "Bound other"}
        await cluster.client.create(claim("mine"))
        assert (await states(cluster))["mine"] == "Bound v"
        v = await cluster.client.get(PersistentVolume, "v")
        assert v.metadata.annotations is None

    run(test)


def test_a_claim_whose_volume_is_taken_away_is_lost() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.client.create(volume("v"))
        await cluster.settle(5)
        await cluster.client.create(claim("c"))
        await cluster.settle(5)
        await cluster.client.delete(PersistentVolume, "v")
        waiting = struct.clone(await cluster.client.get(PersistentVolume, "v"))
        waiting.metadata.finalizers = None
        await cluster.client.update(waiting)
        assert await states(cluster) == {"c": "Lost v"}
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        assert await said(cluster) == [("Warning", "ClaimLost", text)]

    run(test)


def test_classes() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.client.create(storage_class("fast"))
        await cluster.client.create(storage_class("local", "kubernetes.io/no-provisioner"))
        await cluster.client.create(
            storage_class("later", "kubernetes.io/no-provisioner", volume_binding_mode="WaitForFirstConsumer")
        )
        for name in ("fast", "local", "later", "unknown"):
            await cluster.client.create(claim(name, storage_class_name=name))
        assert set((await states(cluster)).values()) == {"Pending"}
        assert sorted(await said(cluster)) == [
            (
                "Normal",
                "ExternalProvisioning",
                "Waiting for a volume to be created either by the external provisioner 'example.com/p' or manually by "
                "the system administrator. If volume creation is delayed, please verify that the provisioner is "
                "running and correctly registered.",
            ),
            ("Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
            ("Warning", "ProvisioningFailed", "no volume plugin matched name: kubernetes.io/no-provisioner"),
            ("Warning", "ProvisioningFailed", 'storageclass.storage.k8s.io "unknown" not found'),
        ]
        called = await cluster.client.get(PersistentVolumeClaim, "fast", "default")
        assert called.metadata.annotations == {
            "volume.beta.kubernetes.io/storage-provisioner": "example.com/p",
            "volume.kubernetes.io/storage-provisioner": "example.com/p",
        }
        for name in ("fast", "local", "later", "unknown"):
            await cluster.client.create(volume(f"v-{name}", storage_class_name=name))
        assert await states(cluster) == {
            "fast": "Bound v-fast", "local": "Bound v-local", "unknown": "Bound v-unknown", "later": "Pending",
            "v-fast": "Bound fast", "v-local": "Bound local", "v-unknown": "Bound unknown", "v-later": "Available",
        }  # fmt: skip

    run(test)


def test_a_default_class_that_comes_later_is_given_to_claims_that_wait() -> None:
    async def test(cluster: Cluster) -> None:
        await cluster.client.create(claim("open", storage_class_name=None))
        await cluster.client.create(claim("none", storage_class_name=""))
        await cluster.settle(5)
        await cluster.client.create(storage_class("std", default=True))
        await cluster.settle(5)
        found = {c.metadata.name: c.spec.storage_class_name for c in await cluster.list(PersistentVolumeClaim)}
        assert found == {"open": "std", "none": ""}

    run(test)


def ready(v: PersistentVolume) -> PersistentVolume:
    v.status.phase = "Available"
    return v


@pytest.mark.parametrize(
    ("wanted", "volumes", "expected"),
    [
        (claim("c"), [volume("a")], None),
        (claim("c"), [ready(volume("b")), ready(volume("a"))], "a"),
        (claim("c", "2Gi"), [ready(volume("a", "1Gi"))], None),
        (claim("c"), [ready(volume("a", access_modes=[RWX, RWO])), ready(volume("b", "9Gi"))], "b"),
        (claim("c", access_modes=[RWX]), [ready(volume("a"))], None),
        (claim("c"), [ready(volume("a", storage_class_name="x"))], None),
        (claim("c", storage_class_name="x"), [ready(volume("a", storage_class_name="x"))], "a"),
        (claim("c", volume_mode="Block"), [ready(volume("a"))], None),
        (claim("c"), [ready(volume("a", volume_attributes_class_name="x"))], None),
        (
            claim("c", selector=LabelSelector(match_labels={"a": "b"})),
            [ready(volume("v")), ready(volume("w", "9Gi", labels={"a": "b"}))],
            "w",
        ),
        (claim("c"), [volume("v", claim_ref=core_v1.ObjectReference(namespace="default", name="c", uid="x"))], None),
        (
            claim("c"),
            [
                ready(volume("a")),
                volume("v", "9Gi", claim_ref=core_v1.ObjectReference(namespace="default", name="c")),
            ],
            "v",
        ),
    ],
)
def test_best_match(wanted: PersistentVolumeClaim, volumes: list[PersistentVolume], expected: str | None) -> None:
    if expected == "v":
        # What is reserved is taken wherever it stands.
        volumes = volumes[::-1]
    found = rules.best_match(wanted, volumes, delayed=False)
    assert (found.metadata.name if found else None) == expected


def test_claims_that_wait_for_a_consumer_get_only_what_is_reserved() -> None:
    free = ready(volume("a"))
    reserved = volume("v", claim_ref=core_v1.ObjectReference(namespace="default", name="c"))
    assert rules.best_match(claim("c"), [free], delayed=True) is None
    assert rules.best_match(claim("c"), [reserved], delayed=True) is reserved
