"""A claim that a pod uses is not taken from under it: it goes when the last such pod has ended."""

from __future__ import annotations

from podling.api import core_v1
from podling.api.struct import clone
from podling.client.informer import key_of, split_key
from podling.controllers import pods as pod_rules
from podling.controllers.base import Context, Controller
from podling.machinery.persistent_volumes import claim_keys

FINALIZER = "kubernetes.io/pvc-protection"
#: Pods by the claims they name.
CLAIMS = "claims"


def uses(pod: core_v1.Pod) -> bool:
    """Whether the pod holds its claims: it is on a node and has not ended. A node agent starts no pod with a claim that
    is being deleted, so one without a node holds nothing."""
    return bool(pod.spec.node_name) and not pod_rules.is_terminal(pod)


class PvcProtectionController(Controller):
    """See the module."""

    name = "persistentvolumeclaim-protection-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(core_v1.PersistentVolumeClaim)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(CLAIMS, claim_keys)
        self._pods.add_handler(on_update=self._pod_updated, on_delete=self._pod_gone)

    def _pod_gone(self, pod: core_v1.Pod) -> None:
        for key in claim_keys(pod):
            self.queue.add(key)

    def _pod_updated(self, old: core_v1.Pod, new: core_v1.Pod) -> None:
        if uses(old) and not uses(new):
            self._pod_gone(new)

    async def reconcile(self, key: str) -> None:
        claim = self._claims.get(key)
        if claim is None:
            return
        finalizers = claim.metadata.finalizers or []
        if claim.metadata.deletion_timestamp is None:
            if FINALIZER not in finalizers:
                changed = clone(claim)
                changed.metadata.finalizers = [*finalizers, FINALIZER]
                await self.client.update(changed)
            return
        if FINALIZER not in finalizers or await self._is_used(claim):
            return
        changed = clone(claim)
        changed.metadata.finalizers = [f for f in finalizers if f != FINALIZER] or None
        await self.client.update(changed)

    async def _is_used(self, claim: core_v1.PersistentVolumeClaim) -> bool:
        key = key_of(claim)
        if any(uses(p) for p in self._pods.by_index(CLAIMS, key)):
            return True
        # What is irreversible is not done on the cache's word.
        namespace, _ = split_key(key)
        fresh = await self.client.list(core_v1.Pod, namespace)
        return any(uses(p) and key in claim_keys(p) for p in fresh.items)
