"""Requests and limits as cgroup values (pkg/kubelet/cm and pkg/kubelet/qos)."""

from __future__ import annotations

from podling.api import core_v1
from podling.kubelet import pods
from podling.kubelet.pods import AnyContainer
from podling.machinery import pod_resources
from podling.runtime.base import Resources

MIN_SHARES, MAX_SHARES = 2, 262_144
PERIOD = 100_000
#: The kernel refuses quotas below a millisecond.
MIN_QUOTA = 1_000

GUARANTEED_OOM_SCORE, BEST_EFFORT_OOM_SCORE = -997, 1000
NODE_CRITICAL = "system-node-critical"


def shares(milli_cpu: int) -> int:
    """CPU shares (cgroup v1's scale) of thousandths of a core."""
    if milli_cpu <= 0:
        return MIN_SHARES
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000))


def quota(milli_cpu: int) -> int:
    """µs of CPU time per PERIOD; 0 for no limit."""
    return max(MIN_QUOTA, milli_cpu * PERIOD // 1000) if milli_cpu > 0 else 0


def pod_cgroup(pod: core_v1.Pod, root: str = "") -> str:
    """The pod's cgroup, such as `/kubepods/burstable/pod<uid>`."""
    qos = pods.qos_class(pod)
    parent = "" if qos == "Guaranteed" else f"/{qos.lower()}"
    return f"{root.rstrip('/')}/kubepods{parent}/pod{pods.uid(pod)}"


def _limits_everything(pod: core_v1.Pod, resource: str) -> bool:
    """Whether the pod as a whole, or each of its containers, has a limit on `resource`."""
    if pod.spec.resources is not None and resource in (pod.spec.resources.limits or {}):
        return True
    every = (*pod.spec.containers, *(pod.spec.init_containers or ()))
    return all(c.resources is not None and resource in (c.resources.limits or {}) for c in every)


def pod_resources_config(pod: core_v1.Pod, pids_limit: int = 0) -> Resources:
    """The limits of the pod's cgroup: a limit holds for the pod only if nothing in it is without one."""
    requests, limits = pod_resources.requests(pod), pod_resources.limits(pod)
    cpu_quota = quota(limits.get("cpu", 0)) if _limits_everything(pod, "cpu") else 0
    memory = limits.get("memory", 0) if _limits_everything(pod, "memory") else 0
    return Resources(
        cpu_shares=shares(requests.get("cpu", limits.get("cpu", 0) if cpu_quota else 0)),
        cpu_quota=cpu_quota,
        cpu_period=PERIOD if cpu_quota else 0,
        memory_limit=memory,
        pids_limit=pids_limit,
        hugepages=_hugepages(limits),
    )


def container_resources(pod: core_v1.Pod, container: AnyContainer, memory_capacity: int) -> Resources:
    """The limits of a container's cgroup. `memory_capacity` is the node's, in bytes."""
    given = container.resources or core_v1.ResourceRequirements()
    requests, limits = pod_resources.amounts(given.requests), pod_resources.amounts(given.limits)
    cpu_quota = quota(limits.get("cpu", 0))
    return Resources(
        cpu_shares=shares(requests.get("cpu", limits.get("cpu", 0))),
        cpu_quota=cpu_quota,
        cpu_period=PERIOD if cpu_quota else 0,
        memory_limit=limits.get("memory", 0),
        oom_score_adj=oom_score(pod, container, memory_capacity),
        hugepages=_hugepages(limits),
    )


def oom_score(pod: core_v1.Pod, container: AnyContainer, memory_capacity: int) -> int:
    """oom_score_adj: the more memory a Burstable container asked for, the later it is killed."""
    if pod.spec.priority_class_name == NODE_CRITICAL or (pods.is_static(pod) and pods.is_critical(pod)):
        return GUARANTEED_OOM_SCORE
    match pods.qos_class(pod):
        case "Guaranteed":
            return GUARANTEED_OOM_SCORE
        case "BestEffort":
            return BEST_EFFORT_OOM_SCORE
    score = _burstable_score(container, memory_capacity)
    if any(container is c for c in pod.spec.init_containers or ()) and pods.is_sidecar(container):
        # A sidecar must not die before the containers that it serves.
        score = min([score, *(_burstable_score(c, memory_capacity) for c in pod.spec.containers)])
    return max(1000 + GUARANTEED_OOM_SCORE, min(score, BEST_EFFORT_OOM_SCORE - 1))


def _burstable_score(container: AnyContainer, memory_capacity: int) -> int:
    given = (container.resources.requests if container.resources else None) or {}
    request = pod_resources.amount("memory", given["memory"]) if "memory" in given else 0
    return 1000 - 1000 * request // max(memory_capacity, 1)


def _hugepages(limits: dict[str, int]) -> dict[str, int]:
    """Limits by page size as cgroups name it: `hugepages-2Mi` is `2MB`."""
    return {
        name.removeprefix("hugepages-").replace("i", "") + "B": value
        for name, value in limits.items()
        if name.startswith("hugepages-")
    }
