"""Claims and volumes in use outlive their deletion until nobody uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controllers.cluster import Cluster, finish, pod
from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers import pv_protection, pvc_protection
from podling.controllers.pv_protection import PvProtectionController
from podling.controllers.pvc_protection import PvcProtectionController


def in_cluster(main: Callable[[Cluster], Any]) -> None:
    async def run() -> None:
        async with Cluster(PvcProtectionController, PvProtectionController) as cluster:
            await main(cluster)

    clock.run_virtual(run())


def claim(name: str) -> core_v1.PersistentVolumeClaim:
    return core_v1.PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=core_v1.PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"], resources=core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"})
        ),
    )


def user(name: str, of: str) -> core_v1.Pod:
    p = pod(name)
    source = core_v1.PersistentVolumeClaimVolumeSource(claim_name=of)
    p.spec.volumes = [core_v1.Volume(name="data", persistent_volume_claim=source)]
    return p


async def there(cluster: Cluster, name: str) -> bool:
    await cluster.settle()
    return await cluster.get(core_v1.PersistentVolumeClaim, name) is not None


def test_a_claim_goes_when_its_last_pod_has_ended_or_is_gone() -> None:
    async def main(cluster: Cluster) -> None:
        for name in ("free", "used"):
            await cluster.client.create(claim(name))
        await cluster.client.create(user("a", "used"))
        await cluster.client.create(user("b", "used"))
        await cluster.settle()
        found = await cluster.client.get(core_v1.PersistentVolumeClaim, "used", "default")
        assert found.metadata.finalizers == [pvc_protection.FINALIZER]
        for name in ("free", "used"):
            await cluster.client.delete(core_v1.PersistentVolumeClaim, name, "default")
        assert not await there(cluster, "free") and await there(cluster, "used")
        await cluster.change_status(core_v1.Pod, "a", lambda p: finish(p, "Succeeded"))
        assert await there(cluster, "used")
        await cluster.client.delete(core_v1.Pod, "b", "default")
        assert not await there(cluster, "used")

    in_cluster(main)


def test_claims_of_ephemeral_volumes_are_found_by_their_name() -> None:
    p = pod("web")
    p.spec.volumes = [core_v1.Volume(name="tmp", ephemeral=core_v1.EphemeralVolumeSource()), core_v1.Volume(name="x")]
    assert pvc_protection.claim_keys(p) == ["default/web-tmp"]
    assert not pvc_protection.uses(p)


def test_a_bound_volume_waits_for_its_claim() -> None:
    async def main(cluster: Cluster) -> None:
        volume = core_v1.PersistentVolume(
            metadata=ObjectMeta(name="v"),
            spec=core_v1.PersistentVolumeSpec(
                access_modes=["ReadWriteOnce"],
                capacity={"storage": "1Gi"},
                host_path=core_v1.HostPathVolumeSource(path="/tmp/v"),
            ),
        )
        await cluster.client.create(volume)
        await cluster.settle()

        def phase(name: str) -> Callable[[core_v1.PersistentVolume], None]:
            return lambda v: setattr(v.status, "phase", name)

        await cluster.change_status(core_v1.PersistentVolume, "v", phase("Bound"), None)
        found = await cluster.client.get(core_v1.PersistentVolume, "v")
        assert found.metadata.finalizers == [pv_protection.FINALIZER]
        await cluster.client.delete(core_v1.PersistentVolume, "v")
        await cluster.settle()
        assert await cluster.get(core_v1.PersistentVolume, "v", None) is not None
        await cluster.change_status(core_v1.PersistentVolume, "v", phase("Released"), None)
        await cluster.settle()
        assert await cluster.get(core_v1.PersistentVolume, "v", None) is None

    in_cluster(main)
