"""The pods of a StatefulSet: their names, claims and identities, and what the next step is. Pure."""

from __future__ import annotations

import re
from typing import Any

from podling.api import apps_v1, core_v1, intstr
from podling.api.meta_v1 import OwnerReference
from podling.api.struct import clone, from_dict
from podling.controllers import pods as pod_rules
from podling.controllers.history import LABEL, Revision
from podling.controllers.pod_control import pod_from_template
from podling.controllers.references import controller_reference

POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"

_NAME = re.compile(r"^(.*)-([0-9]+)$")


def replicas(set_: apps_v1.StatefulSet) -> int:
    return set_.spec.replicas if set_.spec.replicas is not None else 1


def start(set_: apps_v1.StatefulSet) -> int:
    """The first ordinal."""
    return (set_.spec.ordinals.start or 0) if set_.spec.ordinals else 0


def ordinal(set_: apps_v1.StatefulSet, pod: core_v1.Pod) -> int | None:
    """The pod's number if its name is one of the set's."""
    found = _NAME.match(pod.metadata.name or "")
    return int(found[2]) if found and found[1] == set_.metadata.name else None


def is_monotonic(set_: apps_v1.StatefulSet) -> bool:
    """One at a time, in order."""
    return set_.spec.pod_management_policy != "Parallel"


def is_rolling(set_: apps_v1.StatefulSet) -> bool:
    strategy = set_.spec.update_strategy
    return strategy is None or strategy.type in (None, "", "RollingUpdate")


def _rolling(set_: apps_v1.StatefulSet) -> apps_v1.RollingUpdateStatefulSetStrategy:
    strategy = set_.spec.update_strategy
    return (strategy.rolling_update if strategy else None) or apps_v1.RollingUpdateStatefulSetStrategy()


def partition(set_: apps_v1.StatefulSet) -> int:
    """Pods below stay at the current revision."""
    return _rolling(set_).partition or 0


def max_unavailable(set_: apps_v1.StatefulSet) -> int:
    """Pods that an update may take away at a time; at least 1 (KEP-961)."""
    value = _rolling(set_).max_unavailable
    return max(1, intstr.scaled(value if value is not None else 1, replicas(set_), True))


def revision_of(pod: core_v1.Pod) -> str:
    return (pod.metadata.labels or {}).get(LABEL, "")


def is_created(pod: core_v1.Pod) -> bool:
    return bool(pod.status.phase) and pod.metadata.resource_version is not None


def is_running_and_ready(pod: core_v1.Pod) -> bool:
    return pod.status.phase == "Running" and pod_rules.is_ready(pod)


def is_terminating(pod: core_v1.Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def is_healthy(pod: core_v1.Pod) -> bool:
    return is_running_and_ready(pod) and not is_terminating(pod)


def at_revision(set_: apps_v1.StatefulSet, revision: Revision) -> apps_v1.StatefulSet:
    """The set with the template that a revision holds."""
    template = dict(revision.data["spec"]["template"])
    template.pop("$patch", None)
    copy = clone(set_)
    copy.spec.template = from_dict(template, core_v1.PodTemplateSpec)
    return copy


def claim_name(template: core_v1.PersistentVolumeClaim, set_: apps_v1.StatefulSet, number: int) -> str:
    return f"{template.metadata.name}-{set_.metadata.name}-{number}"


def claims(set_: apps_v1.StatefulSet, number: int) -> dict[str, core_v1.PersistentVolumeClaim]:
    """The claims of one pod by the name of the volume that uses them."""
    found = {}
    for template in set_.spec.volume_claim_templates or ():
        claim = clone(template)
        claim.metadata.name = claim_name(template, set_, number)
        claim.metadata.namespace = set_.metadata.namespace
        claim.metadata.labels = {**(claim.metadata.labels or {}), **(set_.spec.selector.match_labels or {})} or None
        claim.status = core_v1.PersistentVolumeClaimStatus()
        found[template.metadata.name or ""] = claim
    return found


def make_pod(set_: apps_v1.StatefulSet, number: int, revision: str) -> core_v1.Pod:
    pod = pod_from_template(set_.spec.template, set_)
    pod.metadata.generate_name = None
    pod.metadata.name = f"{set_.metadata.name}-{number}"
    pod.metadata.labels = {**(pod.metadata.labels or {}), LABEL: revision}
    pod.spec.hostname = pod.metadata.name
    pod.spec.subdomain = set_.spec.service_name or None
    give_identity(set_, pod, number)
    give_storage(set_, pod, number)
    return pod


def give_identity(set_: apps_v1.StatefulSet, pod: core_v1.Pod, number: int) -> None:
    labels = {POD_NAME: f"{set_.metadata.name}-{number}", POD_INDEX: str(number)}
    pod.metadata.labels = {**(pod.metadata.labels or {}), **labels}


def has_identity(set_: apps_v1.StatefulSet, pod: core_v1.Pod) -> bool:
    labels = pod.metadata.labels or {}
    return labels.get(POD_NAME) == pod.metadata.name and POD_INDEX in labels


def give_storage(set_: apps_v1.StatefulSet, pod: core_v1.Pod, number: int) -> None:
    """Volumes named like a claim template use the pod's claim, whatever else the template says of them."""
    wanted = claims(set_, number)
    volumes = [
        core_v1.Volume(
            name=name,
            persistent_volume_claim=core_v1.PersistentVolumeClaimVolumeSource(claim_name=claim.metadata.name or ""),
        )
        for name, claim in wanted.items()
    ]
    others = [v for v in pod.spec.volumes or () if v.name not in wanted]
    pod.spec.volumes = [*volumes, *others] or None


def claim_owners(
    set_: apps_v1.StatefulSet, pod: core_v1.Pod, old: list[OwnerReference], *, condemned: bool
) -> list[OwnerReference]:
    """Who a claim goes with, by the retention policy: the set, the pod that is scaled away, or nobody."""
    policy = set_.spec.persistent_volume_claim_retention_policy
    deleted = policy is not None and policy.when_deleted == "Delete"
    scaled = policy is not None and policy.when_scaled == "Delete"
    others = [o for o in old if o.uid != set_.metadata.uid and not (o.kind == "Pod" and o.name == pod.metadata.name)]
    if scaled and condemned:
        return [*others, controller_reference(pod)]
    if deleted:
        return [*others, controller_reference(set_)]
    return others


def wants_current(set_: apps_v1.StatefulSet, number: int) -> bool:
    """Whether a new pod of this number is still made at the current revision."""
    if not is_rolling(set_):
        return False
    strategy = set_.spec.update_strategy
    if strategy is None or strategy.rolling_update is None:
        return number < start(set_) + (set_.status.current_replicas or 0)
    return number < start(set_) + partition(set_)


def status_of(
    set_: apps_v1.StatefulSet, pods: list[core_v1.Pod], current: Revision, update: Revision, now: Any
) -> apps_v1.StatefulSetStatus:
    """Counts over all pods of the set, those to be scaled away included."""
    names = current.metadata.name or "", update.metadata.name or ""
    min_ready = set_.spec.min_ready_seconds or 0
    made = [p for p in pods if is_created(p)]
    alive = [p for p in made if not is_terminating(p)]
    ready = [p for p in pods if is_running_and_ready(p)]
    status = apps_v1.StatefulSetStatus(
        observed_generation=set_.metadata.generation,
        current_revision=names[0],
        update_revision=names[1],
        collision_count=set_.status.collision_count or 0,
        conditions=set_.status.conditions,
        replicas=len(made),
        ready_replicas=len(ready) or None,
        available_replicas=sum(pod_rules.is_available(p, min_ready, now) for p in ready),
        current_replicas=sum(revision_of(p) == names[0] for p in alive) or None,
        updated_replicas=sum(revision_of(p) == names[1] for p in alive) or None,
    )
    done = (status.updated_replicas or 0) == status.replicas and (status.ready_replicas or 0) == status.replicas
    if is_rolling(set_) and done:
        status.current_replicas = status.updated_replicas
        status.current_revision = status.update_revision
    return status
