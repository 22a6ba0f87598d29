from __future__ import annotations

from typing import Any

import pytest

from podling.api.struct import to_dict
from podling.apiserver.resources.flowcontrol import mandatory
from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

FLOW = Kind("flowcontrol.apiserver.k8s.io/v1", "FlowSchema")
BOTS: dict[str, Any] = {
    "metadata": {"name": "bots"},
    "spec": {
        "priorityLevelConfiguration": {"name": "workload-low"},
        "rules": [
            {
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "bots"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}],
            }
        ],
    },
}


def test_defaults() -> None:
    assert FLOW.defaulted(BOTS)["spec"]["matchingPrecedence"] == 1000
    assert FLOW.create(BOTS) == []


@pytest.mark.parametrize(
    ("path", "value", "findings"),
    [
        ("matchingPrecedence", -1, ["matchingPrecedence: Invalid value: -1: must be a positive value"]),
        ("matchingPrecedence", 10001, ["matchingPrecedence: Invalid value: 10001: must not be greater than 10000"]),
        ("matchingPrecedence", 1, [
            "matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"
        ]),
        ("distinguisherMethod", {"type": "ByMood"}, [
            'distinguisherMethod.type: Unsupported value: {"type":"ByMood"}: supported values: "ByNamespace", "ByUser"'
        ]),
        ("priorityLevelConfiguration__name", "", [
            "priorityLevelConfiguration.name: Required value: must reference a priority level"
        ]),
        ("rules__0__subjects", [], ["rules[0].subjects: Required value: subjects must contain at least one value"]),
        ("rules__0", {"subjects": [{"kind": "User", "user": {"name": "a"}}]}, [
            "rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty"
        ]),
        ("rules__0__subjects__0", {"kind": "Robot"}, [
            'rules[0].subjects[0].kind: Unsupported value: "Robot": supported values: "Group", "ServiceAccount", "User"'
        ]),
        ("rules__0__subjects__0", {"kind": "User", "group": {"name": "g"}}, [
            "rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
        ]),
        ("rules__0__subjects__0__serviceAccount", {"name": "", "namespace": ""}, [
            "rules[0].subjects[0].serviceAccount.name: Required value",
            "rules[0].subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account",
        ]),
        ("rules__0__resourceRules__0__verbs", ["read"], [
            'rules[0].resourceRules[0].verbs: Unsupported value: ["read"]: supported values: "create", "delete", '
            '"deletecollection", "get", "list", "patch", "proxy", "update", "watch"'
        ]),
        ("rules__0__resourceRules__0__resources", ["*", "pods"], [
            'rules[0].resourceRules[0].resources: Invalid value: ["*","pods"]: if \'*\' is present, must not specify '
            "other resources"
        ]),
        ("rules__0__resourceRules__0__namespaces", GONE, [
            "rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must "
            "supply at least one namespace"
        ]),
        ("rules__0__nonResourceRules__0__nonResourceURLs", ["a", "/a b", "/a//b", "/*/b", ""], [
            'rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "a": must start with slash',
            'rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a b": must not contain white-space',
            'rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/a//b": must not contain double slash',
            'rules[0].nonResourceRules[0].nonResourceURLs[3]: Invalid value: "/*/b": '
            "wildcard can only do suffix matching",
            'rules[0].nonResourceRules[0].nonResourceURLs[4]: Invalid value: "": must not be empty',
        ]),
    ],
)  # fmt: skip
def test_invalid(path: str, value: Any, findings: list[str]) -> None:
    assert FLOW.create(changed(BOTS, **{f"spec__{path}": value})) == [f"spec.{f}" for f in findings]


@pytest.mark.parametrize("name", ["exempt", "catch-all"])
def test_mandatory_ones_do_not_change(name: str) -> None:
    fixed = {"metadata": {"name": name}, "spec": to_dict(mandatory.FLOW_SCHEMAS[name])}
    assert FLOW.create(fixed) == []
    (found,) = FLOW.update(changed(fixed, spec__priorityLevelConfiguration__name="other"), fixed)
    assert found.endswith(f"spec of '{name}' must equal the fixed value")


def test_status() -> None:
    condition = {"type": "", "status": "True"}
    assert FLOW.status_update(changed(BOTS, status={"conditions": [condition, condition]}), BOTS) == [
        "status.conditions[0].type: Required value: must not be empty",
        'status.conditions[1].type: Duplicate value: ""',
        "status.conditions[1].type: Required value: must not be empty",
    ]


def test_row() -> None:
    assert FLOW.row(BOTS) == {
        "Name": "bots",
        "PriorityLevel": "workload-low",
        "MatchingPrecedence": 1000,
        "DistinguisherMethod": "<none>",
        "Age": "<unknown>",
        "MissingPL": "?",
    }
    known = changed(BOTS, status={"conditions": [{"type": "Dangling", "status": "False"}]})
    assert FLOW.row(known)["MissingPL"] == "False"
