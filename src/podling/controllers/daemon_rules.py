"""What a DaemonSet wants of each node, and how its update moves on: pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from podling.api import apps_v1, core_v1, intstr
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers import pods as pod_rules
from podling.controllers import taints
from podling.controllers.history import LABEL
from podling.machinery import node_selection, tolerations

GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"

#: Taints that every daemon pod tolerates, with their effect.
_TOLERATED = (
    (taints.NOT_READY, taints.NO_EXECUTE),
    (taints.UNREACHABLE, taints.NO_EXECUTE),
    (taints.DISK_PRESSURE, taints.NO_SCHEDULE),
    (taints.MEMORY_PRESSURE, taints.NO_SCHEDULE),
    (taints.PID_PRESSURE, taints.NO_SCHEDULE),
    (taints.UNSCHEDULABLE, taints.NO_SCHEDULE),
)


def daemon_template(ds: apps_v1.DaemonSet, hashed: str) -> core_v1.PodTemplateSpec:
    """The template with what all daemon pods have: tolerations and the label of their revision."""
    template = clone(ds.spec.template)
    meta = template.metadata = template.metadata or ObjectMeta()
    spec = template.spec = template.spec or core_v1.PodSpec()
    meta.labels = {**(meta.labels or {}), LABEL: hashed}
    generation = (ds.metadata.annotations or {}).get(GENERATION_ANNOTATION)
    if generation:
        meta.labels[GENERATION_LABEL] = generation
    wanted = list(_TOLERATED)
    if spec.host_network:
        wanted.append((taints.NETWORK_UNAVAILABLE, taints.NO_SCHEDULE))
    have = list(spec.tolerations or ())
    for key, effect in wanted:
        toleration = core_v1.Toleration(key=key, operator="Exists", effect=effect)
        have = [t for t in have if (t.key, t.operator, t.effect) != (key, "Exists", effect)] + [toleration]
    spec.tolerations = have
    return template


def pinned(template: core_v1.PodTemplateSpec, node: str) -> core_v1.PodTemplateSpec:
    """The template for one node: required affinity to its name, in place of other required terms."""
    template = clone(template)
    assert template.spec is not None
    affinity = template.spec.affinity = template.spec.affinity or core_v1.Affinity()
    by_name = core_v1.NodeSelectorRequirement(key="metadata.name", operator="In", values=[node])
    term = core_v1.NodeSelectorTerm(match_fields=[by_name])
    affinity.node_affinity = affinity.node_affinity or core_v1.NodeAffinity()
    affinity.node_affinity.required_during_scheduling_ignored_during_execution = core_v1.NodeSelector(
        node_selector_terms=[term]
    )
    return template


def fits(template: core_v1.PodTemplateSpec, node: core_v1.Node) -> tuple[bool, bool]:
    """(should run there, may go on running there) of a daemon template."""
    spec = template.spec or core_v1.PodSpec()
    name = node.metadata.name or ""
    if spec.node_name and spec.node_name != name:
        return False, False
    asked = node_selection.required(spec)
    if asked is not None and not asked(node.metadata.labels or {}, name):
        return False, False
    found = node.spec.taints or []
    if tolerations.untolerated(spec.tolerations, found) is None:
        return True, True
    return False, tolerations.untolerated(spec.tolerations, found, (taints.NO_EXECUTE,)) is None


def limits(ds: apps_v1.DaemonSet, desired: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; never both 0."""
    strategy = ds.spec.update_strategy
    rolling = (strategy.rolling_update if strategy else None) or apps_v1.RollingUpdateDaemonSet()
    surge = intstr.scaled(rolling.max_surge if rolling.max_surge is not None else 0, desired, True)
    unavailable = intstr.scaled(rolling.max_unavailable if rolling.max_unavailable is not None else 1, desired, True)
    if rolling.max_surge and rolling.max_unavailable is None:
        unavailable = 0
    return surge, unavailable if surge or unavailable else 1


def allows_surge(ds: apps_v1.DaemonSet) -> bool:
    return is_rolling(ds) and limits(ds, 1)[0] > 0


def is_rolling(ds: apps_v1.DaemonSet) -> bool:
    strategy = ds.spec.update_strategy
    return strategy is None or strategy.type in (None, "", "RollingUpdate")


def is_updated(pod: core_v1.Pod, hashed: str) -> bool:
    return (pod.metadata.labels or {}).get(LABEL) == hashed


class Work(msgspec.Struct):
    """What to do: nodes that need a pod, pods to delete, and those of them that have ended."""

    create: list[str] = []
    delete: list[core_v1.Pod] = []
    failed: list[core_v1.Pod] = []
    succeeded: list[core_v1.Pod] = []


Placed = dict[str, list[core_v1.Pod]]


def manage(
    ds: apps_v1.DaemonSet, template: core_v1.PodTemplateSpec, nodes: list[core_v1.Node], placed: Placed, hashed: str,
    now: datetime,
) -> Work:  # fmt: skip
    """One pod on every node that should have one, none elsewhere. `placed` are all pods of the set by node."""
    work = Work()
    for node in nodes:
        name = node.metadata.name or ""
        run, stay = fits(template, node)
        pods = placed.get(name)
        if run and not pods:
            work.create.append(name)
        elif stay:
            _keep_one(ds, pods or [], hashed, now, work)
        else:
            work.delete += [p for p in pods or () if p.metadata.deletion_timestamp is None]
    return work


def _keep_one(ds: apps_v1.DaemonSet, pods: list[core_v1.Pod], hashed: str, now: datetime, work: Work) -> None:
    running = []
    for pod in pods:
        if pod.metadata.deletion_timestamp is not None:
            continue
        if pod.status.phase == "Failed":
            work.failed.append(pod)
        elif pod.status.phase == "Succeeded":
            work.succeeded.append(pod)
        else:
            running.append(pod)
    if len(running) <= 1:
        return
    # Of several the one that is assigned and oldest stays.
    running.sort(key=lambda p: (not p.spec.node_name, p.metadata.creation_timestamp or "", p.metadata.name or ""))
    if not allows_surge(ds):
        work.delete += running[1:]
        return
    new = [p for p in running if is_updated(p, hashed)]
    old = [p for p in running if not is_updated(p, hashed)]
    work.delete += new[1:] + old[1:]
    min_ready = ds.spec.min_ready_seconds or 0
    # Two may run only while the new one is not available yet and the old one still serves.
    if new and old and (pod_rules.is_available(new[0], min_ready, now) or not pod_rules.is_ready(old[0])):
        work.delete.append(old[0])


def update(ds: apps_v1.DaemonSet, template: core_v1.PodTemplateSpec, nodes: list[core_v1.Node], placed: Placed,
           hashed: str, now: datetime) -> Work:  # fmt: skip
    """The next step of a rolling update."""
    desired = [n.metadata.name or "" for n in nodes if fits(template, n)[0]]
    surge, unavailable = limits(ds, len(desired))
    everywhere = {**{name: [] for name in desired}, **placed}
    if surge == 0:
        return _replace(ds, everywhere, hashed, unavailable, now)
    return _surge(ds, everywhere, hashed, surge, now)


def _on_node(pods: list[core_v1.Pod], hashed: str) -> tuple[core_v1.Pod | None, core_v1.Pod | None, bool]:
    """(new, old, whether there is at most one of each) among the pods that are not on their way out."""
    alive = [p for p in pods if p.metadata.deletion_timestamp is None]
    new = [p for p in alive if is_updated(p, hashed)]
    old = [p for p in alive if not is_updated(p, hashed)]
    if len(new) > 1 or len(old) > 1:
        return None, None, False
    return (new[0] if new else None), (old[0] if old else None), True


def _replace(ds: apps_v1.DaemonSet, placed: Placed, hashed: str, unavailable: int, now: datetime) -> Work:
    """Delete old pods as long as few enough are missing; the next round creates new ones in their place."""
    min_ready = ds.spec.min_ready_seconds or 0
    missing = 0
    broken: list[core_v1.Pod] = []
    candidates: list[core_v1.Pod] = []
    for pods in placed.values():
        new, old, clear = _on_node(pods, hashed)
        if not clear or (new is None) == (old is None):
            missing += 1
        elif new is not None:
            missing += not pod_rules.is_available(new, min_ready, now)
        elif old is not None and not pod_rules.is_available(old, min_ready, now):
            broken.append(old)
            missing += 1
        elif old is not None:
            candidates.append(old)
    return Work(delete=broken + candidates[: max(0, unavailable - missing)])


def _surge(ds: apps_v1.DaemonSet, placed: Placed, hashed: str, surge: int, now: datetime) -> Work:
    """Create new pods beside old ones, and delete the old ones when the new ones are available."""
    min_ready = ds.spec.min_ready_seconds or 0
    surging = 0
    work = Work()
    candidates: list[str] = []
    for name, pods in placed.items():
        new, old, clear = _on_node(pods, hashed)
        if not clear:
            surging += 1
        elif old is None:
            continue
        elif new is None:
            if pod_rules.is_available(old, min_ready, now):
                candidates.append(name)
            else:
                work.create.append(name)
        elif pod_rules.is_available(new, min_ready, now):
            work.delete.append(old)
        else:
            surging += 1
    work.create += candidates[: max(0, surge - surging)]
    return work


def status_of(
    ds: apps_v1.DaemonSet, template: core_v1.PodTemplateSpec, nodes: list[core_v1.Node], placed: Placed, hashed: str,
    now: datetime,
) -> apps_v1.DaemonSetStatus:  # fmt: skip
    desired = current = misscheduled = ready = available = updated = 0
    min_ready = ds.spec.min_ready_seconds or 0
    for node in nodes:
        should, _ = fits(template, node)
        pods = placed.get(node.metadata.name or "") or []
        if not should:
            misscheduled += bool(pods)
            continue
        desired += 1
        if not pods:
            continue
        current += 1
        # The oldest pod stands for the node, during a surge too.
        pod = min(pods, key=lambda p: (p.metadata.creation_timestamp or "", p.metadata.name or ""))
        if pod_rules.is_ready(pod):
            ready += 1
            available += pod_rules.is_available(pod, min_ready, now)
        updated += is_updated(pod, hashed)
    return apps_v1.DaemonSetStatus(
        observed_generation=ds.metadata.generation,
        desired_number_scheduled=desired,
        current_number_scheduled=current,
        number_misscheduled=misscheduled,
        number_ready=ready,
        number_available=available or None,
        number_unavailable=(desired - available) or None,
        updated_number_scheduled=updated or None,
        collision_count=ds.status.collision_count,
        conditions=ds.status.conditions,
    )
