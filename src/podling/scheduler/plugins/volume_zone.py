"""VolumeZone: volumes with labels of a zone or region are used there."""

from __future__ import annotations

from podling.machinery.persistent_volumes import claim_keys
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection, _Skip
from podling.scheduler.plugins.volume_binding import Storage

_ELSEWHERE = Rejection(("node(s) had no available volume zone",), resolvable=False)
#: The labels of today, and those they had before; each stands for the other.
_OTHER = {
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}

#: What the labels of the pod's volumes demand: a label, with one of these values.
State = list[tuple[str, frozenset[str]]]


class VolumeZone(Plugin):
    name = "VolumeZone"
    filters = True

    def __init__(self, storage: Storage | None = None) -> None:
        self._storage = storage

    def prepare(self, info: PodInfo, cache: Cache) -> State | _Skip:
        if self._storage is None:
            return SKIP
        demands: State = []
        for key in claim_keys(info.pod):
            claim = self._storage.claim(key)
            volume = self._storage.volume(claim.spec.volume_name) if claim and claim.spec.volume_name else None
            labels = (volume.metadata.labels if volume is not None else None) or {}
            demands += [(name, frozenset(labels[name].split("__"))) for name in _OTHER if name in labels]
        return demands or SKIP

    def filter(self, state: State, info: PodInfo, node: NodeInfo) -> Rejection | None:
        labels = node.labels
        if not any(name in labels for name in _OTHER):
            # Nodes of clusters without zones say nothing of them.
            return None
        return None if all(labels.get(n, labels.get(_OTHER[n])) in values for n, values in state) else _ELSEWHERE
