"""Whether a container that ended is started again: the restartPolicy of its pod, its own, and its rules (KEP-5307)."""

from __future__ import annotations

from podling.api import core_v1
from podling.kubelet.pods import AnyContainer, containers
from podling.kubelet.runtime_status import PodRuntimeStatus
from podling.runtime.base import ContainerState


def matching_rule(container: AnyContainer, exit_code: int) -> core_v1.ContainerRestartRule | None:
    """The first of the container's restartPolicyRules that speaks of `exit_code`."""
    for rule in container.restart_policy_rules or ():
        condition = rule.exit_codes
        if condition is not None and (exit_code in (condition.values or ())) == (condition.operator == "In"):
            return rule
    return None


def restarts_after(container: AnyContainer, spec: core_v1.PodSpec, exit_code: int) -> bool:
    """Whether an end with `exit_code` is followed by a new start."""
    policy = spec.restart_policy or "Always"
    if container.restart_policy is not None:
        if matching_rule(container, exit_code) is not None:
            return True
        policy = container.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


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


def could_restart_all(spec: core_v1.PodSpec) -> bool:
    """Whether any container has such a rule."""
    return any(
        rule.action == "RestartAllContainers"
        for container in (*(spec.init_containers or ()), *spec.containers)
        for rule in container.restart_policy_rules or ()
    )


def any_may_restart(pod: core_v1.Pod) -> bool:
    """Whether a failure of any container may be followed by a new start."""
    if (pod.spec.restart_policy or "Always") != "Never":
        return True
    return any(
        c.restart_policy not in (None, "Never") or c.restart_policy_rules
        for c in (*(pod.spec.init_containers or ()), *pod.spec.containers)
    )
