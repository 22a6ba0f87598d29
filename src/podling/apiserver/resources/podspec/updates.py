"""What may change on a pod that exists: little by a plain update, the rest through its subresources."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

from podling.api import core_v1, names, quantity
from podling.api.struct import clone, to_dict
from podling.apiserver.resources.podspec import scheduling, spec
from podling.machinery import qos, restart_policy
from podling.machinery.validation import Findings, Path, duplicate, each, forbidden, immutable, invalid, required

_SPEC = Path("spec")
_STATUS = Path("status")
_ANNOTATIONS = Path("metadata").child("annotations")
_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def difference(old: Any, new: Any, name: str = "") -> str:
    """What differs between two API values, a line each way and field."""
    lines: list[str] = []
    _differ(to_dict(old), to_dict(new), name, lines)
    return "\n".join(lines)


def _differ(old: Any, new: Any, path: str, lines: list[str]) -> None:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            _differ(old.get(key), new.get(key), f"{path}.{key}" if path else key, lines)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            _differ(before, after, f"{path}[{index}]", lines)
    else:
        lines += [f"- {path}: {json.dumps(value)}" for value in (old,) if value is not None]
        lines += [f"+ {path}: {json.dumps(value)}" for value in (new,) if value is not None]


def mirror_annotations(new: core_v1.Pod, old: core_v1.Pod) -> Findings:
    """A mirror pod stays one, and no other pod becomes one."""
    found: Findings = []
    before = (old.metadata.annotations or {}).get(spec.MIRROR)
    after = (new.metadata.annotations or {}).get(spec.MIRROR)
    if before is not None and after != before:
        found.append(forbidden(_ANNOTATIONS.key(spec.MIRROR), "may not remove or update mirror pod annotation"))
    elif before is None and after is not None:
        found.append(forbidden(_ANNOTATIONS.key(spec.MIRROR), "may not add mirror pod annotation"))
    return found


def pod(new: core_v1.Pod, old: core_v1.Pod) -> Findings:
    """A plain update: images, deadline, tolerations, gates."""
    found = spec.pod(new) + mirror_annotations(new, old)
    for name, mine, theirs in (
        ("containers", new.spec.containers, old.spec.containers),
        ("initContainers", new.spec.init_containers or [], old.spec.init_containers or []),
    ):
        if len(mine) != len(theirs):
            return [*found, forbidden(_SPEC.child(name), "pod updates may not add or remove containers")]
        for index, container in enumerate(mine):
            if not container.image:
                found.append(required(_SPEC.child(name).index(index).child("image")))
    deadline, stop = _deadline(new.spec.active_deadline_seconds, old.spec.active_deadline_seconds)
    found += deadline
    if stop:
        return found
    found += _tolerations(new.spec.tolerations or [], old.spec.tolerations or [])
    found += _gates(new.spec.scheduling_gates or [], old.spec.scheduling_gates or [])
    if new.spec == old.spec:
        return found
    changed = _with_old_values(new.spec, old.spec)
    if old.spec.scheduling_gates:
        found += _gated(changed, old.spec)
    if changed != old.spec:
        lines = difference(old.spec, changed)
        detail = f"pod updates may not change fields other than {_UPDATABLE}\n{lines}"
        found.append(forbidden(_SPEC, detail))
    return found


def _deadline(new: int | None, old: int | None) -> tuple[Findings, bool]:
    at = _SPEC.child("activeDeadlineSeconds")
    if new is None:
        return (
            [] if old is None else [invalid(at, None, "must not update from a positive integer to nil value")]
        ), False
    if not 0 <= new < 2**31:
        return [invalid(at, new, names.in_range(0, 2**31 - 1))], True
    if old is not None and old < new:
        return [invalid(at, new, "must be less than or equal to previous value")], True
    return [], False


def _tolerations(new: Sequence[core_v1.Toleration], old: Sequence[core_v1.Toleration]) -> Findings:
    at = _SPEC.child("tolerations")

    def key(t: core_v1.Toleration) -> tuple[str, ...]:
        return (t.key or "", t.operator or "", t.value or "", t.effect or "")

    kept = {key(t) for t in new}
    if any(key(t) not in kept for t in old):
        return [forbidden(at, "existing toleration can not be modified except its tolerationSeconds")]
    return scheduling.tolerations(new, at) if new != old else []


def _gates(new: Sequence[core_v1.PodSchedulingGate], old: Sequence[core_v1.PodSchedulingGate]) -> Findings:
    before = {g.name for g in old}
    return [
        forbidden(
            _SPEC.child("schedulingGates").index(index).child("name"),
            f"only deletion is allowed, but found new scheduling gate '{gate.name}'",
        )
        for index, gate in enumerate(new)
        if gate.name not in before
    ]


def _with_old_values(new: core_v1.PodSpec, old: core_v1.PodSpec) -> core_v1.PodSpec:
    """A copy of `new` with the old values of all that may change."""
    changed = clone(new)
    for mine, theirs in (
        (changed.containers, old.containers),
        (changed.init_containers or [], old.init_containers or []),
    ):
        for container, before in zip(mine, theirs, strict=True):
            container.image = before.image
    changed.active_deadline_seconds = old.active_deadline_seconds
    changed.scheduling_gates = old.scheduling_gates
    changed.tolerations = old.tolerations
    grace = old.termination_grace_period_seconds
    if grace is not None and grace < 0 and changed.termination_grace_period_seconds == 1:
        changed.termination_grace_period_seconds = grace
    return changed


def _gated(changed: core_v1.PodSpec, old: core_v1.PodSpec) -> Findings:
    """A gated pod may be narrowed down to fewer nodes; what was looked at here is put back in `changed`."""
    found: Findings = []
    mine, theirs = changed.node_selector or {}, old.node_selector or {}
    if mine != theirs:
        if any(mine.get(k) != v for k, v in theirs.items()):
            detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            found.append(invalid(_SPEC.child("nodeSelector"), mine, detail))
        changed.node_selector = old.node_selector
    before = old.affinity.node_affinity if old.affinity else None
    after = changed.affinity.node_affinity if changed.affinity else None
    if before != after:
        found += _node_affinity(after, before)
        if changed.affinity is None:
            changed.affinity = core_v1.Affinity(node_affinity=before)
        else:
            changed.affinity.node_affinity = before
            if old.affinity is None and changed.affinity == core_v1.Affinity():
                changed.affinity = None
    return found


def _node_affinity(new: core_v1.NodeAffinity | None, old: core_v1.NodeAffinity | None) -> Findings:
    before = old.required_during_scheduling_ignored_during_execution if old else None
    if before is None:
        return []
    after = new.required_during_scheduling_ignored_during_execution if new else None
    at = _SPEC.child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    terms = after.node_selector_terms if after else []
    if len(terms) != len(before.node_selector_terms):
        shown = terms if terms else None
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [invalid(at, shown, detail)]
    found: Findings = []
    for index, (mine, theirs) in enumerate(zip(terms, before.node_selector_terms, strict=True)):
        before_, after_ = ([(t.match_expressions or []), (t.match_fields or [])] for t in (theirs, mine))
        kept = all(now[: len(then)] == then for now, then in zip(after_, before_, strict=True))
        if not any(before_):
            kept = not any(after_)
        if not kept:
            detail = "only additions are allowed (no mutations or deletions)"
            found.append(invalid(at.index(index), mine, detail))
    return found


def ephemeral_containers(new: core_v1.Pod, old: core_v1.Pod) -> Findings:
    """pods/ephemeralcontainers: only additions. The two may differ in nothing else."""
    if spec.MIRROR in (old.metadata.annotations or {}):
        return [forbidden(Path(""), "static pods do not support ephemeral containers")]
    found = spec.pod(new) + mirror_annotations(new, old)
    at = _SPEC.child("ephemeralContainers")
    now = {c.name: c for c in new.spec.ephemeral_containers or ()}
    for container in old.spec.ephemeral_containers or ():
        if container.name not in now:
            found.append(forbidden(at, f'existing ephemeral containers "{container.name}" may not be removed\n'))
        elif now[container.name] != container:
            lines = difference(container, now[container.name])
            detail = f'existing ephemeral containers "{container.name}" may not be changed\n{lines}'
            found.append(forbidden(at, detail))
    return found


def keep_all_but_resources(new: core_v1.Pod, old: core_v1.Pod) -> None:
    """pods/resize: puts everything but the containers' resources and resize policies back to `old`."""
    wanted = new.spec
    if [c.name for c in wanted.containers] != [c.name for c in old.spec.containers]:
        return
    if [c.name for c in wanted.init_containers or ()] != [c.name for c in old.spec.init_containers or ()]:
        return
    kept = clone(old.spec)
    for mine, theirs in (
        (kept.containers, wanted.containers),
        (kept.init_containers or [], wanted.init_containers or []),
    ):
        for container, change in zip(mine, theirs, strict=True):
            container.resources, container.resize_policy = change.resources, change.resize_policy
    kept.resources = wanted.resources
    new.spec = kept
    new.status = old.status


def resize(new: core_v1.Pod, old: core_v1.Pod) -> Findings:
    """pods/resize: cpu and memory of running containers."""
    if spec.MIRROR in (old.metadata.annotations or {}):
        return [forbidden(Path(""), "static pods cannot be resized")]
    if old.spec.os is not None and old.spec.os.name == "windows":
        return [forbidden(Path(""), "windows pods cannot be resized")]
    found = spec.pod(new)
    if qos.qos_class(old) != qos.compute(new.spec):
        detail = "Pod QOS Class may not change as a result of resizing"
        found.append(invalid(_SPEC, new.status.qos_class or "", detail))
    running = next((c for c in old.status.container_statuses or () if c.state and c.state.running), None)
    if running is not None and running.resources is None:
        found.append(forbidden(_SPEC, "Pod running on node without support for resize"))
    mine, theirs = new.spec.containers, old.spec.containers
    mine_init, theirs_init = new.spec.init_containers or [], old.spec.init_containers or []
    if len(mine) != len(theirs) or len(mine_init) != len(theirs_init):
        return [*found, forbidden(_SPEC, "only cpu and memory resources are mutable")]
    for index, (container, before) in enumerate(zip(mine_init, theirs_init, strict=True)):
        if before.restart_policy == "Always":
            found += _resize_container(container, before, _SPEC.child("initContainers").index(index), "for sidecar")
        elif container != before:
            found.append(forbidden(_SPEC, "resources for non-sidecar init containers are immutable"))
    for index, (container, before) in enumerate(zip(mine, theirs, strict=True)):
        found += _resize_container(container, before, _SPEC.child("containers").index(index), "")
    return found


def _resize_container(new: core_v1.Container, old: core_v1.Container, path: Path, which: str) -> Findings:
    found: Findings = []
    mine, theirs = (c.resources or core_v1.ResourceRequirements() for c in (new, old))
    at = path.child("resources")
    for name, after, before in (
        ("requests", mine.requests or {}, theirs.requests or {}),
        ("limits", mine.limits or {}, theirs.limits or {}),
    ):
        if not before.keys() <= after.keys():
            found.append(forbidden(at.child(name), f"resource {name} cannot be removed"))
    changed = clone(new)
    changed.resources = core_v1.ResourceRequirements(
        claims=mine.claims,
        limits=_without_compute(mine.limits, theirs.limits),
        requests=_without_compute(mine.requests, theirs.requests),
    )
    changed.resize_policy = old.resize_policy
    before_ = clone(old)
    before_.resources = theirs
    if to_dict(changed) != to_dict(before_):
        what = f"only cpu and memory resources {which} containers are mutable" if which else ""
        found.append(forbidden(_SPEC, what or "only cpu and memory resources are mutable"))
    return found


def _without_compute(
    new: Mapping[str, quantity.Quantity | str | int | float] | None, old: Mapping[str, Any] | None
) -> Any:
    """`new` with the old cpu and memory."""
    kept: dict[str, Any] = {k: v for k, v in (new or {}).items() if k not in ("cpu", "memory")}
    kept |= {k: v for k, v in (old or {}).items() if k in ("cpu", "memory")}
    return kept if old is not None or kept else None


def status(new: core_v1.Pod, old: core_v1.Pod) -> Findings:
    """pods/status: what must not happen to a pod in its ordinary life."""
    found = mirror_annotations(new, old)
    now, before = new.status, old.status
    for index, condition in enumerate(now.conditions or ()):
        if condition.type not in ("PodScheduled", "Ready", "Initialized"):
            at = Path("metadata").child("conditions").index(index).child("Type")
            found += each(at, condition.type, names.qualified_name(condition.type))
    if now.nominated_node_name and now.nominated_node_name != before.nominated_node_name:
        at = _STATUS.child("nominatedNodeName")
        found += each(at, now.nominated_node_name, names.dns_subdomain(now.nominated_node_name))
    found += immutable(now.qos_class, before.qos_class, _STATUS.child("qosClass"))
    for name, mine, theirs, containers in (
        ("containerStatuses", now.container_statuses, before.container_statuses, old.spec.containers),
        ("initContainerStatuses", now.init_container_statuses, before.init_container_statuses,
         old.spec.init_containers or []),
        ("ephemeralContainerStatuses", now.ephemeral_container_statuses, before.ephemeral_container_statuses, []),
    ):  # fmt: skip
        found += _transitions(mine or [], theirs or [], containers, old.spec, _STATUS.child(name))
    return found + _addresses(now)


def _transitions(
    new: Sequence[core_v1.ContainerStatus],
    old: Sequence[core_v1.ContainerStatus],
    containers: Sequence[core_v1.Container],
    pod_spec: core_v1.PodSpec,
    path: Path,
) -> Findings:
    """What ended for good does not start again. `containers` is empty for ephemeral ones, which never do."""
    if containers and (pod_spec.restart_policy in (None, "Always") or restart_policy.could_restart_all(pod_spec)):
        return []
    found: Findings = []
    running = {s.name for s in new if s.state is None or s.state.terminated is None}
    by_name = {c.name: c for c in containers}
    for index, status in enumerate(old):
        ended = status.state.terminated if status.state else None
        if ended is None or status.name not in running:
            continue
        container = by_name.get(status.name)
        if container is not None and restart_policy.restarts_after(container, pod_spec, ended.exit_code):
            continue
        found.append(forbidden(path.index(index).child("state"), "may not be transitioned to non-terminated state"))
    return found


def _addresses(status: core_v1.PodStatus) -> Findings:
    found: Findings = []
    pod_ips = [a.ip for a in status.pod_ips or ()]
    host_ips = [a.ip for a in status.host_ips or ()]
    if host_ips and status.host_ip != host_ips[0]:
        at = _STATUS.child("hostIPs").index(0).child("ip")
        found.append(invalid(at, host_ips[0], "must be equal to `hostIP`"))
    for name, addresses in (("podIPs", pod_ips), ("hostIPs", host_ips)):
        at = _STATUS.child(name)
        bad = False
        for index, address in enumerate(addresses):
            problems = names.ip(address)
            bad = bad or bool(problems)
            found += each(at.index(index), address, problems)
            if address in addresses[:index]:
                found.append(duplicate(at.index(index), {"ip": address}))
        if len(addresses) > 1 and not bad:
            families = {ipaddress.ip_address(a).version for a in addresses}
            if len(addresses) > 2 or len(families) < 2:
                detail = "may specify no more than one IP for each IP family"
                found.append(invalid(at, [{"ip": a} for a in addresses], detail))
    return found
