"""Whether a container that ended may be started again: its pod's restartPolicy, its own, and its rules (KEP-5307,
KEP-5532). The node agent acts on it, and the API server holds statuses to it."""

from __future__ import annotations

from podling.api import core_v1

AnyContainer = core_v1.Container | core_v1.EphemeralContainer


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


def could_restart_all(spec: core_v1.PodSpec) -> bool:
    """Whether any container has a rule that restarts the whole pod in place."""
    return any(
        rule.action == "RestartAllContainers"
        for container in (*(spec.init_containers or ()), *spec.containers)
        for rule in container.restart_policy_rules or ()
    )
