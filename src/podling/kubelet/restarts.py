"""Which containers of a pod are to be started, for the first time or again, as the runtime has them."""

from __future__ import annotations

from podling.api import core_v1
from podling.kubelet.pods import AnyContainer, containers
from podling.kubelet.runtime_status import PodRuntimeStatus
from podling.machinery.restart_policy import matching_rule, restarts_after
from podling.runtime.base import ContainerState


def should_start(container: AnyContainer, pod: core_v1.Pod, status: PodRuntimeStatus) -> bool:
    """Whether the container should be started now, for the first time or again."""
    if pod.metadata.deletion_timestamp is not None:
        return False
    found = status.find(container.name)
    if found is None:
        return True
    if found.state is ContainerState.RUNNING:
        return False
    if found.state is not ContainerState.EXITED:
        return True
    return restarts_after(container, pod.spec, found.exit_code)


def restarts_all(pod: core_v1.Pod, status: PodRuntimeStatus) -> str:
    """The name of a container that ended in a way whose rule restarts the whole pod in place; "" if none did."""
    if pod.metadata.deletion_timestamp is not None:
        return ""
    for _, container in containers(pod):
        found = status.active(container.name)
        if found is not None and found.state is ContainerState.EXITED:
            rule = matching_rule(container, found.exit_code)
            if rule is not None and rule.action == "RestartAllContainers":
                return container.name
    return ""


def any_may_restart(pod: core_v1.Pod) -> bool:
    """Whether a failure of any container may be followed by a new start."""
    if (pod.spec.restart_policy or "Always") != "Never":
        return True
    return any(
        c.restart_policy not in (None, "Never") or c.restart_policy_rules
        for c in (*(pod.spec.init_containers or ()), *pod.spec.containers)
    )
