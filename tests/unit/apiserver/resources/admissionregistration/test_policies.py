from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

V1 = "admissionregistration.k8s.io/v1"
VALIDATING = Kind(V1, "ValidatingAdmissionPolicy")
MUTATING = Kind(V1, "MutatingAdmissionPolicy")
VALIDATING_BINDING = Kind(V1, "ValidatingAdmissionPolicyBinding")
MUTATING_BINDING = Kind(V1, "MutatingAdmissionPolicyBinding")
RULE = {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
CHECKS: dict[str, Any] = {
    "metadata": {"name": "replicas.example.com"},
    "spec": {
        "matchConstraints": {"resourceRules": [RULE]},
        "validations": [{"expression": "object.spec.replicas <= 5"}],
    },
}
CHANGES = changed(
    CHECKS,
    spec__validations=GONE,
    spec__mutations=[{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
    spec__reinvocationPolicy="Never",
)
BINDING: dict[str, Any] = {
    "metadata": {"name": "b"},
    "spec": {"policyName": "replicas.example.com", "validationActions": ["Deny"]},
}


@pytest.mark.parametrize(("kind", "good"), [(VALIDATING, CHECKS), (MUTATING, CHANGES)])
def test_defaults(kind: Kind, good: dict[str, Any]) -> None:
    spec = kind.defaulted(good)["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"] == {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "resourceRules": [{**RULE, "scope": "*"}],
    }
    assert kind.create(good) == []


COMMON = [
    ("failurePolicy", "No", ['failurePolicy: Unsupported value: "No": supported values: "Fail", "Ignore"']),
    ("matchConstraints", GONE, ["matchConstraints: Required value"]),
    ("matchConstraints__resourceRules", [], ["matchConstraints.resourceRules: Required value"]),
    (
        "matchConstraints__resourceRules__0__resourceNames",
        ["a", "a"],
        ['matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: "a"'],
    ),
    ("paramKind", {}, ["paramKind.apiVersion: Required value", "paramKind.kind: Required value"]),
    (
        "paramKind",
        {"apiVersion": "a/b/c", "kind": "K"},
        ['paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'],
    ),
    (
        "variables",
        [{"name": "in", "expression": ""}],
        [
            'variables[0].name: Invalid value: "in": name is not a valid CEL identifier',
            "variables[0].expression: Required value: expression is not specified",
        ],
    ),
    ("matchConditions", [{"name": "", "expression": "true"}], ["matchConditions[0].name: Required value"]),
]


@pytest.mark.parametrize(("kind", "good"), [(VALIDATING, CHECKS), (MUTATING, CHANGES)])
@pytest.mark.parametrize(("path", "value", "findings"), COMMON)
def test_what_all_policies_share(kind: Kind, good: dict[str, Any], path: str, value: Any, findings: list[str]) -> None:
    assert kind.create(changed(good, **{f"spec__{path}": value})) == [f"spec.{f}" for f in findings]


NOTHING = "Required value: validations or auditAnnotations must contain at least one item"


@pytest.mark.parametrize(
    ("path", "value", "findings"),
    [
        ("validations", GONE, [f"validations: {NOTHING}", f"auditAnnotations: {NOTHING}"]),
        ("validations", [{"expression": ""}], [
            "validations[0].expression: Required value: expression is not specified"
        ]),
        (
            "validations__0__message",
            "a\nb",
            ['validations[0].message: Invalid value: "a\\nb": message must not contain line breaks'],
        ),
        ("validations__0__message", " ", [
            'validations[0].message: Invalid value: " ": message must be non-empty if specified'
        ]),
        ("validations__0__messageExpression", " ", [
            'validations[0].messageExpression: Invalid value: " ": must be non-empty if specified'
        ]),
        ("validations__0__reason", "Because", [
            'validations[0].reason: Unsupported value: "Because": supported values: "Forbidden", "Invalid", '
            '"RequestEntityTooLarge"'
        ]),
        ("auditAnnotations", [{"key": "k", "valueExpression": ""}, {"key": "k", "valueExpression": "'x'"}], [
            "auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
            'auditAnnotations[1].key: Duplicate value: "k"',
        ]),
    ],
)  # fmt: skip
def test_validations(path: str, value: Any, findings: list[str]) -> None:
    assert VALIDATING.create(changed(CHECKS, **{f"spec__{path}": value})) == [f"spec.{f}" for f in findings]


@pytest.mark.parametrize(
    ("path", "value", "findings"),
    [
        ("mutations", [], ["mutations: Required value: mutations must contain at least one item"]),
        ("mutations__0__patchType", "", ["mutations[0].patchType: Required value"]),
        ("mutations__0__patchType", "X", [
            'mutations[0].patchType: Unsupported value: "X": supported values: "ApplyConfiguration", "JSONPatch"'
        ]),
        ("mutations__0__patchType", "ApplyConfiguration", [
            "mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
            'mutations[0].jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is '
            "ApplyConfiguration",
        ]),
        ("reinvocationPolicy", GONE, ["reinvocationPolicy: Required value"]),
        ("matchConstraints__resourceRules__0__operations", ["DELETE"], [
            'matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", '
            '"CREATE", "UPDATE"'
        ]),
    ],
)  # fmt: skip
def test_mutations(path: str, value: Any, findings: list[str]) -> None:
    assert MUTATING.create(changed(CHANGES, **{f"spec__{path}": value})) == [f"spec.{f}" for f in findings]


@pytest.mark.parametrize("kind", [VALIDATING_BINDING, MUTATING_BINDING])
@pytest.mark.parametrize(
    ("path", "value", "findings"),
    [
        ("policyName", "", ["policyName: Required value"]),
        ("paramRef", {"parameterNotFoundAction": "Deny"}, [
            "paramRef: Required value: one of name or selector must be specified"
        ]),
        ("paramRef", {"name": "n", "selector": {}, "parameterNotFoundAction": "Allow"}, [
            "paramRef.name: Forbidden: name and selector are mutually exclusive",
            "paramRef.selector: Forbidden: name and selector are mutually exclusive",
        ]),
        ("paramRef", {"name": "n"}, ["paramRef.parameterNotFoundAction: Required value"]),
        ("paramRef", {"name": "n", "parameterNotFoundAction": "Panic"}, [
            'paramRef.parameterNotFoundAction: Unsupported value: "Panic": supported values: "Deny", "Allow"'
        ]),
        ("matchResources", {"matchPolicy": "X"}, [
            'matchResources.matchPolicy: Unsupported value: "X": supported values: "Equivalent", "Exact"'
        ]),
    ],
)  # fmt: skip
def test_bindings(kind: Kind, path: str, value: Any, findings: list[str]) -> None:
    assert kind.create(BINDING) == []
    assert kind.create(changed(BINDING, **{f"spec__{path}": value})) == [f"spec.{f}" for f in findings]


@pytest.mark.parametrize(
    ("actions", "finding"),
    [
        ([], "Required value: at least one validation action is required"),
        (["Deny", "Warn"], 'Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn (repeating'),
    ],
)
def test_actions(actions: list[str], finding: str) -> None:
    (found,) = VALIDATING_BINDING.create(changed(BINDING, spec__validationActions=actions))
    assert found.startswith(f"spec.validationActions: {finding}")


def test_rows() -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert VALIDATING.row(CHECKS) == {
        "Name": "replicas.example.com", "Validations": 1, "ParamKind": "<unset>", "Age": "<unknown>",
    }  # fmt: skip
    assert MUTATING.row(changed(CHANGES, spec__paramKind=kind))["ParamKind"] == "v1/ConfigMap"


@pytest.mark.parametrize(
    ("reference", "cell"),
    [
        (None, "<unset>"),
        ({"name": "p"}, "*/p"),
        ({"name": "p", "namespace": "n"}, "n/p"),
        (
            {"selector": {"matchLabels": {"a": "b"}}},
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}",
        ),
    ],
)
def test_binding_rows(reference: Any, cell: str) -> None:
    row = VALIDATING_BINDING.row(changed(BINDING, spec__paramRef=reference))
    assert row == {"Name": "b", "PolicyName": "replicas.example.com", "ParamRef": cell, "Age": "<unknown>"}
