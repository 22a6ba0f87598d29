"""The flow schemas and priority levels that every cluster has and nobody may change, and what both kinds share."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import flowcontrol_v1 as v1
from podling.machinery.validation import Findings, Path, duplicate, required

_EVERYTHING = v1.ResourcePolicyRule(
    verbs=["*"], api_groups=["*"], resources=["*"], namespaces=["*"], cluster_scope=True
)
_ALL_PATHS = v1.NonResourcePolicyRule(verbs=["*"], non_resource_urls=["*"])


def _rule(*groups: str) -> v1.PolicyRulesWithSubjects:
    return v1.PolicyRulesWithSubjects(
        subjects=[v1.Subject(kind="Group", group=v1.GroupSubject(name=name)) for name in groups],
        resource_rules=[_EVERYTHING],
        non_resource_rules=[_ALL_PATHS],
    )


FLOW_SCHEMAS = {
    "exempt": v1.FlowSchemaSpec(
        matching_precedence=1,
        priority_level_configuration=v1.PriorityLevelConfigurationReference(name="exempt"),
        rules=[_rule("system:masters")],
    ),
    "catch-all": v1.FlowSchemaSpec(
        matching_precedence=10000,
        priority_level_configuration=v1.PriorityLevelConfigurationReference(name="catch-all"),
        distinguisher_method=v1.FlowDistinguisherMethod(type="ByUser"),
        rules=[_rule("system:unauthenticated", "system:authenticated")],
    ),
}
PRIORITY_LEVELS = {
    "exempt": v1.PriorityLevelConfigurationSpec(
        type="Exempt", exempt=v1.ExemptPriorityLevelConfiguration(nominal_concurrency_shares=0, lendable_percent=0)
    ),
    "catch-all": v1.PriorityLevelConfigurationSpec(
        type="Limited",
        limited=v1.LimitedPriorityLevelConfiguration(
            nominal_concurrency_shares=5, lendable_percent=0, limit_response=v1.LimitResponse(type="Reject")
        ),
    ),
}


def conditions(
    values: Sequence[v1.FlowSchemaCondition | v1.PriorityLevelConfigurationCondition] | None,
) -> Findings:
    path = Path("status").child("conditions")
    found: Findings = []
    seen: set[str] = set()
    for index, condition in enumerate(values or ()):
        at = path.index(index).child("type")
        if condition.type in seen:
            found.append(duplicate(at, condition.type))
        seen.add(condition.type)
        if not condition.type:
            found.append(required(at, "must not be empty"))
    return found
