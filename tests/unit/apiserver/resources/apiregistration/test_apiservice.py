from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind, changed

API = Kind("apiregistration.k8s.io/v1", "APIService")
METRICS: dict[str, Any] = {
    "metadata": {"name": "v1beta1.metrics.k8s.io"},
    "spec": {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": "kube-system", "name": "metrics-server"},
    },
}
LOCAL: dict[str, Any] = {
    "metadata": {"name": "v1."},
    "spec": {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1},
}


def test_defaults() -> None:
    assert API.defaulted(METRICS)["spec"]["service"]["port"] == 443
    assert API.create(METRICS) == []
    assert API.create(LOCAL) == []


def test_local_ones_are_available() -> None:
    (condition,) = API.created(LOCAL).status.conditions
    assert (condition.type, condition.status, condition.reason) == ("Available", "True", "Local")
    assert API.created(METRICS).status.conditions is None


@pytest.mark.parametrize(
    ("good", "changes", "findings"),
    [
        (METRICS, {"metadata__name": "metrics"}, [
            'metadata.name: Invalid value: "metrics": must be `spec.version+"."+spec.group`: "v1beta1.metrics.k8s.io"'
        ]),
        (LOCAL, {"metadata__name": "v2.", "spec__version": "v2"}, [
            "spec.group: Required value: only v1 may have an empty group and it better be legacy kube"
        ]),
        (METRICS, {"spec__groupPriorityMinimum": 20001, "spec__versionPriority": 0}, [
            "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ]),
        (LOCAL, {"spec__caBundle": "QUJD", "spec__insecureSkipTLSVerify": True}, [
            'spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle',
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ]),
        (METRICS, {"spec__caBundle": "QUJD"}, [
            "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"
        ]),
        (METRICS, {"spec__service": {"port": 70000}}, [
            "spec.service.namespace: Required value",
            "spec.service.name: Required value",
            "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
        ]),
    ],
)  # fmt: skip
def test_invalid(good: dict[str, Any], changes: dict[str, Any], findings: list[str]) -> None:
    assert API.create(changed(good, **changes)) == findings


def test_status() -> None:
    bad = changed(METRICS, status={"conditions": [{"type": "Available", "status": "Maybe"}]})
    assert API.status_update(bad, METRICS) == [
        'status.conditions[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown"'
    ]


@pytest.mark.parametrize(
    ("good", "conditions", "service", "available"),
    [
        (LOCAL, [], "Local", "Unknown"),
        (METRICS, [{"type": "Available", "status": "True"}], "kube-system/metrics-server", "True"),
        (
            METRICS,
            [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}],
            "kube-system/metrics-server",
            "False (MissingEndpoints)",
        ),
    ],
)
def test_row(good: dict[str, Any], conditions: list[Any], service: str, available: str) -> None:
    row = API.row(changed(good, status={"conditions": conditions}))
    assert (row["Service"], row["Available"]) == (service, available)
