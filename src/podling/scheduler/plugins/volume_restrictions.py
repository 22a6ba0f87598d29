"""VolumeRestrictions: a claim with the access mode ReadWriteOncePod has one pod at a time."""

from __future__ import annotations

from podling.machinery.persistent_volumes import ONCE_POD, claim_keys
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection, _Skip
from podling.scheduler.plugins.volume_binding import Storage

_TAKEN = Rejection(("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",))

#: The keys of the claims, and on which nodes they are in use how often.
State = tuple[set[str], dict[str, int]]


def _uses(node: NodeInfo, claims: set[str]) -> int:
    return sum(not claims.isdisjoint(claim_keys(other.pod)) for other in node.pods.values() if other.pod.spec.volumes)


class VolumeRestrictions(Plugin):
    name = "VolumeRestrictions"
    filters = True

    def __init__(self, storage: Storage | None = None) -> None:
        self._storage = storage

    def prepare(self, info: PodInfo, cache: Cache) -> State | _Skip:
        if self._storage is None:
            return SKIP
        found = ((key, self._storage.claim(key)) for key in claim_keys(info.pod))
        exclusive = {key for key, claim in found if claim and ONCE_POD in (claim.spec.access_modes or ())}
        if not exclusive:
            return SKIP
        return exclusive, {name: used for name, node in cache.nodes.items() if (used := _uses(node, exclusive))}

    def filter(self, state: State, info: PodInfo, node: NodeInfo) -> Rejection | None:
        claims, users = state
        # Other nodes' pods stay whatever room is made here.
        if any(name != node.name for name in users) or _uses(node, claims):
            return _TAKEN
        return None
