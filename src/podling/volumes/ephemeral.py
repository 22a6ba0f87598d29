"""ephemeral volumes: a claim that is made with the pod and belongs to it."""

from __future__ import annotations

from collections.abc import Iterable

from podling.volumes import persistent_volume_claim
from podling.volumes.base import Context, Dependency, Ready
from podling.volumes.persistent_volume_claim import PersistentVolumeClaimPlugin


class EphemeralPlugin(PersistentVolumeClaimPlugin):
    name = "kubernetes.io/ephemeral"

    async def setup(self, context: Context) -> Ready:
        volume = await persistent_volume_claim.resolve(context, claim_name(context))
        return await persistent_volume_claim.setup_volume(context, volume, readonly=False)

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        return (Dependency("PersistentVolumeClaim", context.namespace, claim_name(context)),)


def claim_name(context: Context) -> str:
    """The name of the claim that the ephemeral volume controller makes."""
    return f"{context.pod.metadata.name}-{context.volume.name}"
