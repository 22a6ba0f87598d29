from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

MUTATING = Kind("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")
VALIDATING = Kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration")
BOTH = pytest.mark.parametrize("kind", [MUTATING, VALIDATING], ids=["mutating", "validating"])
RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
HOOKS: dict[str, Any] = {
    "metadata": {"name": "hooks"},
    "webhooks": [
        {
            "name": "a.example.com",
            "clientConfig": {"service": {"namespace": "n", "name": "s"}},
            "rules": [RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
    ],
}


def test_defaults() -> None:
    expected = {
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "timeoutSeconds": 10,
    }
    hook = VALIDATING.defaulted(HOOKS)["webhooks"][0]
    assert expected.items() <= hook.items()
    assert "reinvocationPolicy" not in hook
    assert hook["rules"][0]["scope"] == "*"
    assert hook["clientConfig"]["service"]["port"] == 443
    assert MUTATING.defaulted(HOOKS)["webhooks"][0]["reinvocationPolicy"] == "Never"


@BOTH
def test_valid(kind: Kind) -> None:
    assert kind.create(HOOKS) == []


@BOTH
@pytest.mark.parametrize(
    ("path", "value", "findings"),
    [
        ("name", "", ["name: Required value"]),
        (
            "name",
            "a.b",
            ['name: Invalid value: "a.b": should be a domain with at least three segments separated by dots'],
        ),
        ("failurePolicy", "Shrug", ['failurePolicy: Unsupported value: "Shrug": supported values: "Fail", "Ignore"']),
        ("matchPolicy", "Some", ['matchPolicy: Unsupported value: "Some": supported values: "Equivalent", "Exact"']),
        ("sideEffects", "", ["sideEffects: Required value: must specify one of None, NoneOnDryRun"]),
        (
            "sideEffects",
            "Some",
            ['sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'],
        ),
        (
            "timeoutSeconds",
            31,
            ["timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"],
        ),
        (
            "admissionReviewVersions",
            [],
            ["admissionReviewVersions: Required value: must specify one of v1, v1beta1"],
        ),
        (
            "admissionReviewVersions",
            ["v9"],
            ['admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1'],
        ),
        ("clientConfig", {}, ["clientConfig: Required value: exactly one of url or service is required"]),
        (
            "clientConfig",
            {"url": "https:///path"},
            [
                'clientConfig.url: Invalid value: "": host must be specified; '
                "desired format: https://host[/path]"
            ],
        ),
        ("clientConfig__service__port", 0, [
            "clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"
        ]),
        ("clientConfig__service__path", "a//b", [
            'clientConfig.service.path: Invalid value: "a//b": must start with a \'/\'',
            'clientConfig.service.path: Invalid value: "a//b": segment[0] may not be empty',
            'clientConfig.service.path: Invalid value: "a//b": segment[1] may not be empty',
        ]),
        ("rules__0__operations", ["*", "CREATE"], [
            'rules[0].operations: Invalid value: ["*","CREATE"]: if \'*\' is present, must not specify other operations'
        ]),
        ("rules__0__operations", ["READ"], [
            'rules[0].operations[0]: Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", '
            '"UPDATE"'
        ]),
        ("rules__0__apiGroups", GONE, ["rules[0].apiGroups: Required value"]),
        ("rules__0__apiVersions", [""], ["rules[0].apiVersions[0]: Required value"]),
        ("rules__0__resources", ["pods/*", "pods/status"], [
            'rules[0].resources[1]: Invalid value: "pods/status": if \'pods/*\' is present, must not specify '
            'pods/status'
        ]),
        ("rules__0__resources", ["*", "pods"], [
            'rules[0].resources: Invalid value: ["*","pods"]: if \'*\' is present, must not specify other resources '
            "without subresources"
        ]),
        ("rules__0__resources", ["*/*", "pods"], [
            'rules[0].resources: Invalid value: ["*/*","pods"]: if \'*/*\' is present, must not specify other resources'
        ]),
        ("rules__0__scope", "Galaxy", [
            'rules[0].scope: Unsupported value: "Galaxy": supported values: "*", "Cluster", "Namespaced"'
        ]),
        ("matchConditions", [{"name": "a", "expression": "true"}, {"name": "a", "expression": ""}], [
            "matchConditions[1].expression: Required value",
            'matchConditions[1].name: Duplicate value: "a"',
        ]),
    ],
)  # fmt: skip
def test_invalid(kind: Kind, path: str, value: Any, findings: list[str]) -> None:
    assert kind.create(changed(HOOKS, **{f"webhooks__0__{path}": value})) == [f"webhooks[0].{f}" for f in findings]


@BOTH
def test_names_are_unique(kind: Kind) -> None:
    twice = changed(HOOKS, webhooks__1=HOOKS["webhooks"][0])
    assert kind.create(twice) == ['webhooks[1].name: Duplicate value: "a.example.com"']
    assert kind.update(twice, HOOKS) == ['webhooks[1].name: Duplicate value: "a.example.com"']
    assert kind.update(twice, twice) == []


def test_only_mutating_ones_are_called_again() -> None:
    bad = changed(HOOKS, webhooks__0__reinvocationPolicy="Always")
    assert MUTATING.create(bad) == [
        'webhooks[0].reinvocationPolicy: Unsupported value: "Always": supported values: "IfNeeded", "Never"'
    ]


@BOTH
def test_row(kind: Kind) -> None:
    assert kind.row(HOOKS) == {"Name": "hooks", "Webhooks": 1, "Age": "<unknown>"}
