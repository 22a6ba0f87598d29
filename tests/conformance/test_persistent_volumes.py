"""PersistentVolumes and claims: what the conformance programme observes of them, on a whole cluster in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from podling import clock
from podling.api import core_v1, meta_v1, struct
from podling.api.core_v1 import PersistentVolume, PersistentVolumeClaim
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


def volume(name: str, **labels: str) -> PersistentVolume:
    spec = core_v1.PersistentVolumeSpec(
        capacity={"storage": "1Gi"},
        access_modes=["ReadWriteOnce"],
        host_path=core_v1.HostPathVolumeSource(path=f"/tmp/{name}"),
        storage_class_name="manual",
        persistent_volume_reclaim_policy="Delete",
    )
    return PersistentVolume(metadata=meta_v1.ObjectMeta(name=name, labels=labels), spec=spec)


def claim(name: str, **labels: str) -> PersistentVolumeClaim:
    spec = core_v1.PersistentVolumeClaimSpec(
        access_modes=["ReadWriteOnce"],
        storage_class_name="manual",
        resources=core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"}),
    )
    meta = meta_v1.ObjectMeta(name=name, namespace="default", labels=labels)
    return PersistentVolumeClaim(metadata=meta, spec=spec)


def bound(obj: Any) -> bool:
    return bool(obj.status.phase == "Bound")


@virtual
async def test_status(cluster: Cluster) -> None:
    """The phase shows under /status; conditions, reason and message are patched and put there."""
    await cluster.client.create(volume("v"))
    await cluster.client.create(claim("c"))
    await cluster.until(PersistentVolume, "v", bound)
    found = struct.clone(await cluster.until(PersistentVolumeClaim, "c", bound))
    found.status.conditions = [core_v1.PersistentVolumeClaimCondition(type="StatusUpdate", status="True", reason="E2E")]
    updated = await cluster.client.update_status(found)
    assert [c.type for c in updated.status.conditions or ()] == ["StatusUpdate"]
    patch: dict[str, Any] = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
    patched = await cluster.client.patch(
        PersistentVolumeClaim, "c", "default", patch, type=PatchType.MERGE, subresource="status"
    )
    assert [c.type for c in patched.status.conditions or ()] == ["StatusPatched"]
    changed = struct.clone(await cluster.client.get(PersistentVolume, "v"))
    changed.status.reason, changed.status.message = "E2E", "StatusUpdate"
    assert (await cluster.client.update_status(changed)).status.message == "StatusUpdate"
    patch = {"status": {"message": "StatusPatched", "reason": "E2E patchStatus"}}
    shown = await cluster.client.patch(PersistentVolume, "v", None, patch, type=PatchType.MERGE, subresource="status")
    assert (shown.status.phase, shown.status.message) == ("Bound", "StatusPatched")


@virtual
async def test_lifecycle(cluster: Cluster) -> None:
    """Create, list, patch, delete, create again, update, delete as a collection; what is deleted goes."""
    for _ in range(2):
        await cluster.client.create(volume("v", testing="yes"))
        await cluster.client.create(claim("c", testing="yes"))
        await cluster.until(PersistentVolumeClaim, "c", bound)
        await cluster.until(PersistentVolume, "v", bound)
        assert len((await cluster.client.list(PersistentVolume, label_selector="testing=yes")).items) == 1
        assert len((await cluster.client.list(PersistentVolumeClaim, label_selector="testing=yes")).items) == 1
        patch = {"metadata": {"labels": {"v": "patched"}}}
        both: tuple[tuple[Any, str, str | None], ...] = (
            (PersistentVolume, "v", None),
            (PersistentVolumeClaim, "c", "default"),
        )
        for kind, name, where in both:
            patched = await cluster.client.patch(kind, name, where, patch)
            assert patched.metadata.labels["v"] == "patched"
        await cluster.client.delete_collection(PersistentVolumeClaim, "default", label_selector="v=patched")
        await cluster.gone(PersistentVolumeClaim, "c")
        await cluster.client.delete_collection(PersistentVolume, label_selector="v=patched")
        await cluster.gone(PersistentVolume, "v")


@virtual
async def test_a_pod_runs_with_a_claim_that_is_bound_later(cluster: Cluster) -> None:
    await cluster.apply(
        """
        apiVersion: v1
        kind: Pod
        metadata: {name: p}
        spec:
          containers: [{name: c, image: busybox, volumeMounts: [{name: v, mountPath: /data}]}]
          volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]
        """
    )
    await cluster.client.create(claim("c"))
    await cluster.until(PersistentVolumeClaim, "c", lambda c: c.status.phase == "Pending")
    await cluster.client.create(volume("v"))
    await cluster.until(PersistentVolumeClaim, "c", bound)
    await cluster.until(core_v1.Pod, "p", lambda p: p.status.phase == "Running")
