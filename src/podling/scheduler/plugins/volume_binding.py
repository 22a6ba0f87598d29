"""VolumeBinding: a pod goes where its volumes are, or can be made.

Claims that are bound hold the pod to the nodes that have their volumes. Claims whose class waits for the first consumer
get, with the node, a free volume that the node has, or else are left to their provisioner. All other claims must have
been bound before. Pure; what was planned is carried out by `podling.scheduler.volumes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from podling.api import core_v1, storage_v1
from podling.machinery import persistent_volumes as rules
from podling.machinery.persistent_volumes import Claim, Volume
from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import SKIP, Plugin, Rejection, _Skip

#: The provisioner of classes whose volumes are made by hand.
NO_PROVISIONER = "kubernetes.io/no-provisioner"

_UNBOUND = Rejection(("pod has unbound immediate PersistentVolumeClaims",), resolvable=False)
_ELSEWHERE = Rejection(("node(s) didn't match PersistentVolume's node affinity",), resolvable=False)
_NOTHING_TO_BIND = Rejection(("node(s) didn't find available persistent volumes to bind",), resolvable=False)
_NO_VOLUME = Rejection(("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",), resolvable=False)


class Storage(Protocol):
    """What is known of claims (by `namespace/name`), volumes and classes; `free` is what is promised to nobody else."""

    def claim(self, key: str) -> Claim | None: ...

    def volume(self, name: str) -> Volume | None: ...

    def volumes(self) -> Iterable[Volume]: ...

    def storage_class(self, name: str) -> storage_v1.StorageClass | None: ...

    def free(self, volume: Volume, claim: Claim) -> bool: ...


class Wanted(msgspec.Struct):
    """The claims of a pod: the volumes of those that are bound (None where it does not exist), and those to bind."""

    bound: list[Volume | None]
    delayed: list[Claim]


class Plan(msgspec.Struct):
    """What binds the claims of a pod to a node: volumes that are there, and claims to provision volumes for."""

    static: list[tuple[Claim, Volume]]
    provision: list[Claim]


def wanted(pod: core_v1.Pod, storage: Storage) -> Wanted | Rejection | None:
    """None if the pod has no claims, a Rejection if they fit no node."""
    bound: list[Volume | None] = []
    delayed: list[Claim] = []
    unbound = False
    any_claim = False
    for volume in pod.spec.volumes or ():
        ephemeral = volume.ephemeral is not None
        if volume.persistent_volume_claim is not None:
            name = volume.persistent_volume_claim.claim_name
        elif ephemeral:
            name = f"{pod.metadata.name}-{volume.name}"
        else:
            continue
        any_claim = True
        claim = storage.claim(f"{pod.metadata.namespace}/{name}")
        if claim is None or (problem := _problem(pod, claim, ephemeral=ephemeral)):
            problem = f'persistentvolumeclaim "{name}" not found' if claim is None else problem
            if claim is None and ephemeral:
                problem = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            return Rejection((problem,), resolvable=False)
        if rules.is_bound(claim):
            bound.append(storage.volume(claim.spec.volume_name or ""))
        elif not claim.spec.volume_name and _waits(claim, storage):
            delayed.append(claim)
        else:
            unbound = True
    if unbound:
        return _UNBOUND
    return Wanted(bound, delayed) if any_claim else None


def _problem(pod: core_v1.Pod, claim: Claim, *, ephemeral: bool) -> str:
    meta = claim.metadata
    if ephemeral and not any(o.controller and o.uid == pod.metadata.uid for o in meta.owner_references or ()):
        shown = f"{meta.namespace}/{meta.name}"
        return f"PVC {shown} was not created for pod {meta.namespace}/{pod.metadata.name} (pod is not owner)"
    if claim.status.phase == "Lost":
        lost = claim.spec.volume_name or ""
        return f'persistentvolumeclaim "{meta.name}" bound to non-existent persistentvolume "{lost}"'
    if meta.deletion_timestamp is not None:
        return f'persistentvolumeclaim "{meta.name}" is being deleted'
    return ""


def _waits(claim: Claim, storage: Storage) -> bool:
    found = storage.storage_class(rules.class_of(claim)) if rules.class_of(claim) else None
    return found is not None and found.volume_binding_mode == "WaitForFirstConsumer"


def plan(wanted: Wanted, node: NodeInfo, storage: Storage) -> Plan | Rejection:
    """How the claims are bound on this node, or why they can't be."""
    for volume in wanted.bound:
        if volume is None:
            return _NO_VOLUME
        if not rules.has_volume(node.labels, node.name, volume):
            return _ELSEWHERE
    made = Plan([], [])
    taken: set[str] = set()
    # The largest need comes last: what is small must not take what only suits the large.
    for claim in sorted(wanted.delayed, key=rules.asked):
        chosen = (claim.metadata.annotations or {}).get(rules.SELECTED_NODE)
        if chosen is not None:
            if chosen != node.name:
                return _NOTHING_TO_BIND
            made.provision.append(claim)
            continue
        suits = _suits(node, claim, taken, storage)
        volume = rules.best_match(claim, storage.volumes(), suits=suits)
        if volume is not None:
            taken.add(volume.metadata.name or "")
            made.static.append((claim, volume))
        elif _can_provision(claim, node, storage):
            made.provision.append(claim)
        else:
            return _NOTHING_TO_BIND
    return made


def _suits(node: NodeInfo, claim: Claim, taken: set[str], storage: Storage) -> Callable[[Volume], bool]:
    def suits(volume: Volume) -> bool:
        if volume.metadata.name in taken or not storage.free(volume, claim):
            return False
        return rules.has_volume(node.labels, node.name, volume)

    return suits


def _can_provision(claim: Claim, node: NodeInfo, storage: Storage) -> bool:
    found = storage.storage_class(rules.class_of(claim))
    return found is not None and found.provisioner != NO_PROVISIONER and rules.serves(found, node.labels)


class VolumeBinding(Plugin):
    name = "VolumeBinding"
    filters = True

    def __init__(self, storage: Storage | None = None) -> None:
        self._storage = storage

    def prepare(self, info: PodInfo, cache: Cache) -> Wanted | Rejection | _Skip:
        found = wanted(info.pod, self._storage) if self._storage is not None else None
        return SKIP if found is None else found

    def filter(self, state: Wanted, info: PodInfo, node: NodeInfo) -> Rejection | None:
        assert self._storage is not None
        found = plan(state, node, self._storage)
        return found if isinstance(found, Rejection) else None
