"""Runtime status -> PodStatus: phase, conditions, containers, addresses. Pure.

Source: pkg/kubelet/kubelet_pods.go, generateAPIPodStatus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from podling.api import core_v1, quantity, times
from podling.api.scalars import Quantity
from podling.kubelet import conditions, pods
from podling.kubelet.container_statuses import RESTARTING_ALL, STATUS_UNKNOWN, Facts, statuses
from podling.machinery import pod_resources, restart_policy

#: Conditions that are the node agent's to write.
OWNED = frozenset({
    "PodScheduled", "Ready", "Initialized", "ContainersReady", "PodReadyToStartContainers",
    "PodResizePending", "PodResizeInProgress", "AllContainersRestarting",
})  # fmt: skip


class Verdict(msgspec.Struct, frozen=True):
    """The pod is over, whatever its containers say: evicted, out of time, or `rejected` before it ever began."""

    reason: str
    message: str
    condition: core_v1.PodCondition | None = None
    rejected: bool = False


def pod_status(
    facts: Facts,
    *,
    host_ips: Sequence[str],
    now: datetime,
    verdict: Verdict | None = None,
    terminating: bool = False,
    resize_conditions: Sequence[core_v1.PodCondition] = (),
    generation: int | None = None,
) -> core_v1.PodStatus:
    """The status to report. `terminating`: its containers will not be started again. `generation` is that of the spec
    acted upon."""
    pod, old = facts.pod, facts.old
    generation = generation if generation is not None else pod.metadata.generation
    spec = pod.spec
    if verdict is not None and verdict.rejected:
        return _rejected(facts, verdict, generation, now)
    made = core_v1.PodStatus(
        qos_class=pods.qos_class(pod),
        start_time=old.start_time or times.format(now),
        observed_generation=generation,
        container_statuses=statuses(facts, spec.containers, old.container_statuses, init=False),
        nominated_node_name=old.nominated_node_name,
        resource_claim_statuses=old.resource_claim_statuses,
    )
    if spec.init_containers:
        made.init_container_statuses = statuses(facts, spec.init_containers, old.init_container_statuses, init=True)
    if spec.ephemeral_containers:
        made.ephemeral_container_statuses = statuses(
            facts, spec.ephemeral_containers, old.ephemeral_container_statuses, init=False
        )
    _set_readiness(facts, made)
    _set_phase(facts, made, verdict, terminating=terminating)
    _set_addresses(facts, made, host_ips)
    _set_pod_resources(pod, made)
    made.conditions = _conditions(facts, made, verdict, resize_conditions, generation, now)
    return made


def _rejected(facts: Facts, verdict: Verdict, generation: int | None, now: datetime) -> core_v1.PodStatus:
    """Of a pod that the node does not take there is nothing to tell but why (kubelet.go, rejectPod)."""
    return core_v1.PodStatus(
        qos_class=pods.qos_class(facts.pod),
        start_time=facts.old.start_time or times.format(now),
        observed_generation=generation,
        phase="Failed",
        reason=verdict.reason,
        message=verdict.message,
        conditions=_of_others(facts.pod),
    )


def _set_phase(facts: Facts, made: core_v1.PodStatus, verdict: Verdict | None, *, terminating: bool) -> None:
    pod, old, api = facts.pod, facts.old, facts.pod.status or core_v1.PodStatus()
    every = {s.name: s for s in (*(made.init_container_statuses or ()), *(made.container_statuses or ()))}
    made.phase = phase(pod, every, terminating=terminating, initialized=_regular_started(facts))
    if made.phase not in ("Failed", "Succeeded"):
        if old.phase in ("Failed", "Succeeded"):
            made.phase = old.phase
        elif api.phase in ("Failed", "Succeeded"):
            made.phase = api.phase
    if made.phase == old.phase:
        made.reason, made.message = old.reason or api.reason, old.message or api.message
    if verdict is not None:
        made.phase, made.reason, made.message = "Failed", verdict.reason, verdict.message
    if api.phase in ("Failed", "Succeeded"):
        made.phase = api.phase


def _regular_started(facts: Facts) -> bool:
    return any(
        found is not None and found.started_at is not None
        for found in (facts.runtime.active(c.name) for c in facts.pod.spec.containers)
    )


def _set_readiness(facts: Facts, made: core_v1.PodStatus) -> None:
    """`started` and `ready`, from the probes' results."""
    for container in facts.pod.spec.containers:
        _container_readiness(facts, container, made.container_statuses)
    for container in facts.pod.spec.init_containers or ():
        status = _of(made.init_container_statuses, container.name)
        if status is None:
            continue
        if pods.is_sidecar(container):
            _container_readiness(facts, container, made.init_container_statuses)
            continue
        status.started = status.state is not None and status.state.running is not None
        ended = status.state.terminated if status.state else None
        status.ready = ended is not None and ended.exit_code == 0


def _container_readiness(
    facts: Facts, container: core_v1.Container, among: Sequence[core_v1.ContainerStatus] | None
) -> None:
    status = _of(among, container.name)
    if status is None:
        return
    container_id = (status.container_id or "").rpartition("/")[2]
    running = status.state is not None and status.state.running is not None
    if not running:
        status.started = status.ready = False
        return
    status.started = container.startup_probe is None or facts.startup.get(container_id, False)
    status.ready = status.started and (container.readiness_probe is None or facts.readiness.get(container_id, False))


def _of(among: Sequence[core_v1.ContainerStatus] | None, name: str) -> core_v1.ContainerStatus | None:
    return next((s for s in among or () if s.name == name), None)


def _set_addresses(facts: Facts, made: core_v1.PodStatus, host_ips: Sequence[str]) -> None:
    ips = sort_ips(facts.runtime.ips, host_ips)
    if host_ips:
        made.host_ip = host_ips[0]
        made.host_ips = [core_v1.HostIP(ip=ip) for ip in host_ips[:2]]
        if pods.is_host_network(facts.pod):
            ips = list(host_ips[:2])
    if not ips and made.phase in ("Succeeded", "Failed") and facts.old.pod_ips:
        # Who a finished pod was stays known.
        ips = [each.ip for each in facts.old.pod_ips]
    if ips:
        made.pod_ip = ips[0]
        made.pod_ips = [core_v1.PodIP(ip=ip) for ip in ips]


def finalize(pod: core_v1.Pod, made: core_v1.PodStatus) -> None:
    """Nothing of the pod runs or will: what has no known end counts as failed (status_manager.go, TerminatePod)."""
    initialized = not pod.spec.init_containers or any(
        c.type == "Initialized" and c.status == "True" for c in made.conditions or ()
    )
    lost = list(made.container_statuses or ()) if initialized else []
    started = [i for i, s in enumerate(made.init_container_statuses or ()) if _began(s)]
    if started:
        lost += (made.init_container_statuses or [])[: started[-1] + 1]
    for each in lost:
        if each.state is None or each.state.terminated is None:
            each.state = core_v1.ContainerState(
                terminated=core_v1.ContainerStateTerminated(
                    reason=STATUS_UNKNOWN,
                    message="The container could not be located when the pod was terminated",
                    exit_code=137,
                )
            )
    if made.phase not in ("Succeeded", "Failed") and not pods.is_static(pod):
        made.phase = "Failed"


def _began(status: core_v1.ContainerStatus) -> bool:
    state, last = status.state, status.last_state
    return (state is not None and (state.running is not None or state.terminated is not None)) or (
        last is not None and last.terminated is not None
    )


def sort_ips(ips: Sequence[str], host_ips: Sequence[str]) -> list[str]:
    """At most one address of each family, the node's primary family first."""
    v6_first = bool(host_ips) and ":" in host_ips[0]
    families = ([ip for ip in ips if ":" in ip], [ip for ip in ips if ":" not in ip])
    ordered = families if v6_first else families[::-1]
    return [family[0] for family in ordered if family]


def _set_pod_resources(pod: core_v1.Pod, made: core_v1.PodStatus) -> None:
    requests, limits = pod_resources.requests(pod), pod_resources.limits(pod)
    if pod.spec.resources is not None and (pod.spec.resources.requests or pod.spec.resources.limits):
        made.allocated_resources = _as_quantities(requests) or None
        made.resources = core_v1.ResourceRequirements(
            requests=_as_quantities(requests) or None, limits=_as_quantities(limits) or None
        )


def _as_quantities(amounts: Mapping[str, int]) -> dict[str, Quantity]:
    binary = quantity.Format.BINARY_SI
    return {
        name: str(quantity.of_milli(value) if name == "cpu" else quantity.of(value, binary))
        for name, value in amounts.items()
    }


def _conditions(
    facts: Facts,
    made: core_v1.PodStatus,
    verdict: Verdict | None,
    resize_conditions: Sequence[core_v1.PodCondition],
    generation: int | None,
    now: datetime,
) -> list[core_v1.PodCondition]:
    pod, old = facts.pod, facts.old
    made_conditions = _of_others(pod)
    disruption = verdict.condition if verdict is not None else None
    disruption = disruption or conditions.find(old.conditions, "DisruptionTarget")
    if disruption is not None:
        made_conditions = [*(c for c in made_conditions if c.type != "DisruptionTarget"), disruption]
    own = list(resize_conditions)
    every = [*(made.init_container_statuses or ()), *(made.container_statuses or ())]
    own.append(conditions.ready_to_start(pod, facts.runtime))
    own.append(conditions.initialized(pod, old, every, made.phase or ""))
    containers_ready = conditions.containers_ready(pod, every, made.phase or "")
    own.append(conditions.ready(pod, made_conditions, containers_ready))
    own.append(containers_ready)
    own.append(core_v1.PodCondition(type="PodScheduled", status="True"))
    if restart_policy.could_restart_all(pod.spec):
        own.append(conditions.all_restarting(made.phase or "", facts.restarting_all))
    for condition in own:
        conditions.stamp(condition, old.conditions, generation, now)
    return made_conditions + own


def _of_others(pod: core_v1.Pod) -> list[core_v1.PodCondition]:
    """Conditions of others (readiness gates, scheduler, evictions) live in the API object; ours in the last status."""
    return [c for c in (pod.status.conditions if pod.status else None) or () if c.type not in OWNED]


def phase(
    pod: core_v1.Pod, found: Mapping[str, core_v1.ContainerStatus], *, terminating: bool, initialized: bool
) -> str:
    """Pending, Running, Succeeded or Failed (kubelet_pods.go, getPhase)."""
    pending_init = failed = 0
    for container in pod.spec.init_containers or ():
        if not pods.is_sidecar(container):
            verdict = _init_phase(container, pod, found.get(container.name))
            pending_init += verdict == "pending"
            failed += verdict == "failed"
    sidecars_starting, waiting, running, unknown = _sidecar_counts(pod, found)
    stopped = final = succeeded = 0
    for container in pod.spec.containers:
        status = found.get(container.name)
        state = status.state if status else None
        if status is None or state is None:
            unknown += 1
        elif state.running is not None:
            running += 1
        elif (ended := _ended(status)) is not None:
            stopped += 1
            final += not _comes_back(container, pod, ended)
            succeeded += state.terminated is not None and ended.exit_code == 0
        else:
            waiting += 1
    if failed:
        return "Failed"
    if pending_init or (sidecars_starting and not initialized) or waiting:
        return "Pending"
    if running and not unknown:
        return "Running"
    if running or not stopped or unknown:
        return "Pending"
    if terminating and not pods.is_static(pod):
        return "Succeeded" if stopped == succeeded else "Failed"
    if stopped != final:
        return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def _ended(status: core_v1.ContainerStatus) -> core_v1.ContainerStateTerminated | None:
    """How it ended, also if it now waits to be started again."""
    state = status.state
    if state is None or state.running is not None:
        return None
    if state.terminated is not None:
        return state.terminated
    return status.last_state.terminated if status.last_state else None


def _comes_back(container: core_v1.Container, pod: core_v1.Pod, ended: core_v1.ContainerStateTerminated) -> bool:
    return restart_policy.restarts_after(container, pod.spec, ended.exit_code) or ended.reason == RESTARTING_ALL


def _init_phase(container: core_v1.Container, pod: core_v1.Pod, status: core_v1.ContainerStatus | None) -> str:
    """pending, failed (for good) or done."""
    if status is None or status.state is None or status.state.running is not None:
        return "pending"
    ended = _ended(status)
    if ended is None:
        return "pending"
    if ended.exit_code == 0:
        return "done"
    return "done" if _comes_back(container, pod, ended) else "failed"


def _sidecar_counts(pod: core_v1.Pod, found: Mapping[str, core_v1.ContainerStatus]) -> tuple[int, int, int, int]:
    """How many sidecars are (starting, waiting, running, unknown)."""
    starting = waiting = running = unknown = 0
    for container in pod.spec.init_containers or ():
        if not pods.is_sidecar(container):
            continue
        status = found.get(container.name)
        if status is None or status.state is None:
            unknown += 1
        elif status.state.running is not None:
            running += 1
            starting += not status.started
        elif status.state.waiting is not None and _ended(status) is None:
            starting += 1
            waiting += 1
    return starting, waiting, running, unknown
