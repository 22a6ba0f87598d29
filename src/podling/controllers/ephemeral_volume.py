"""Generic ephemeral volumes: a claim for each, which belongs to its pod and goes with it (KEP 1698)."""

from __future__ import annotations

from podling.api import core_v1, errors, meta_v1
from podling.api.struct import clone
from podling.client.events import WARNING
from podling.controllers import pods
from podling.controllers.base import Context, Controller, ReconcileError
from podling.controllers.references import controller_reference


def claim_of(pod: core_v1.Pod, volume: core_v1.Volume) -> core_v1.PersistentVolumeClaim:
    """The claim of a pod's ephemeral volume."""
    assert volume.ephemeral is not None and volume.ephemeral.volume_claim_template is not None
    template = volume.ephemeral.volume_claim_template
    given = template.metadata or meta_v1.ObjectMeta()
    meta = meta_v1.ObjectMeta(
        name=f"{pod.metadata.name}-{volume.name}",
        namespace=pod.metadata.namespace,
        labels=given.labels,
        annotations=given.annotations,
        owner_references=[controller_reference(pod)],
    )
    return core_v1.PersistentVolumeClaim(metadata=meta, spec=clone(template.spec))


class EphemeralVolumeController(Controller):
    """Keys are those of pods."""

    name = "ephemeral-volume-controller"
    component = "ephemeral_volume"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.watch(core_v1.Pod, self._pod_changed)
        self._claims = self.watch(core_v1.PersistentVolumeClaim)
        self._claims.add_handler(on_delete=self._claim_gone)

    def _pod_changed(self, pod: core_v1.Pod) -> None:
        if any(volume.ephemeral is not None for volume in pod.spec.volumes or ()):
            self.enqueue(pod)

    def _claim_gone(self, claim: core_v1.PersistentVolumeClaim) -> None:
        for owner in claim.metadata.owner_references or ():
            if owner.controller and owner.kind == "Pod":
                self.queue.add(f"{claim.metadata.namespace}/{owner.name}")

    async def reconcile(self, key: str) -> None:
        pod = self._pods.get(key)
        if pod is None or pod.metadata.deletion_timestamp is not None or pods.is_terminal(pod):
            return
        for volume in pod.spec.volumes or ():
            if volume.ephemeral is not None and volume.ephemeral.volume_claim_template is not None:
                await self._provide(pod, volume)

    async def _provide(self, pod: core_v1.Pod, volume: core_v1.Volume) -> None:
        wanted = claim_of(pod, volume)
        name, namespace = wanted.metadata.name or "", wanted.metadata.namespace
        known = self._claims.lookup(name, namespace)
        if known is None:
            try:
                await self.client.create(wanted)
            except errors.StatusError as error:
                if not errors.is_already_exists(error):
                    self.recorder.event(pod, WARNING, "FailedBinding", f"ephemeral volume {volume.name}: {error}")
                    raise
                known = await self.client.get(core_v1.PersistentVolumeClaim, name, namespace)
        if known is None or any(
            o.controller and o.uid == pod.metadata.uid for o in known.metadata.owner_references or ()
        ):
            return
        shown = f"{namespace}/{pod.metadata.name}"
        text = f"PVC {namespace}/{name} was not created for pod {shown} (pod is not owner)"
        self.recorder.event(pod, WARNING, "FailedBinding", f"ephemeral volume {volume.name}: {text}")
        raise ReconcileError(f"pod {shown}, ephemeral volume {volume.name}: {text}")
