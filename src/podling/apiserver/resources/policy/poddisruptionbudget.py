"""PodDisruptionBudgets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import policy_v1
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, invalid, label_selector, not_supported


class PodDisruptionBudgetStrategy(Strategy[policy_v1.PodDisruptionBudget]):
    has_status = True
    unconditional_update = False
    columns = (
        printing.NAME,
        printing.text("Min Available"),
        printing.text("Max Unavailable"),
        printing.number("Allowed Disruptions"),
        printing.AGE,
    )

    def prepare_create(self, obj: policy_v1.PodDisruptionBudget, context: Context) -> None:
        obj.status = policy_v1.PodDisruptionBudgetStatus()

    def validate(self, obj: policy_v1.PodDisruptionBudget) -> Findings:
        spec = obj.spec
        found: Findings = []
        if spec.min_available is not None and spec.max_unavailable is not None:
            shown = {
                "MinAvailable": spec.min_available,
                "Selector": spec.selector,
                "MaxUnavailable": spec.max_unavailable,
                "UnhealthyPodEvictionPolicy": spec.unhealthy_pod_eviction_policy,
            }
            found.append(invalid(SPEC, shown, "minAvailable and maxUnavailable cannot be both set"))
        for name, value in (("minAvailable", spec.min_available), ("maxUnavailable", spec.max_unavailable)):
            found += workloads.int_or_percent(value, SPEC.child(name))
            found += workloads.at_most_all(value, SPEC.child(name))
        found += label_selector(spec.selector, SPEC.child("selector"))
        policies = ("AlwaysAllow", "IfHealthyBudget")
        policy = spec.unhealthy_pod_eviction_policy
        if policy is not None and policy not in policies:
            found.append(not_supported(SPEC.child("unhealthyPodEvictionPolicy"), policy, policies))
        return found

    def validate_status_update(
        self, new: policy_v1.PodDisruptionBudget, old: policy_v1.PodDisruptionBudget
    ) -> Findings:
        status = new.status
        return workloads.counts(
            {
                "disruptionsAllowed": status.disruptions_allowed,
                "currentHealthy": status.current_healthy,
                "desiredHealthy": status.desired_healthy,
                "expectedPods": status.expected_pods,
            }
        )

    def row(self, obj: policy_v1.PodDisruptionBudget, now: datetime) -> list[Any]:
        spec = obj.spec
        return [
            printing.name(obj.metadata),
            "N/A" if spec.min_available is None else str(spec.min_available),
            "N/A" if spec.max_unavailable is None else str(spec.max_unavailable),
            obj.status.disruptions_allowed or 0,
            printing.age(obj.metadata, now),
        ]
