from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

V1 = "resource.k8s.io/v1"
CLAIM = Kind(V1, "ResourceClaim")
TEMPLATE = Kind(V1, "ResourceClaimTemplate")
CLASS = Kind(V1, "DeviceClass")
GPU: dict[str, Any] = {
    "metadata": {"name": "gpu", "namespace": "default"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu.example.com"}}]}},
}
REQUEST = "spec__devices__requests__0"
EITHER = [{"name": "big", "deviceClassName": "big"}, {"name": "small", "deviceClassName": "small"}]
OPAQUE = {"opaque": {"driver": "gpu.example.com", "parameters": {"mode": "fast"}}}
USER = {"resource": "pods", "name": "p", "uid": "u"}
RESULT = {"request": "r", "driver": "gpu.example.com", "pool": "n", "device": "gpu-0"}


def test_defaults() -> None:
    (request,) = CLAIM.defaulted(GPU)["spec"]["devices"]["requests"]
    assert request["exactly"] == {"deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1}
    template = {"metadata": GPU["metadata"], "spec": {"spec": GPU["spec"]}}
    (request,) = TEMPLATE.defaulted(template)["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["count"] == 1


NO_SUCH = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, []),
        ({f"{REQUEST}": {"name": "r", "firstAvailable": EITHER}}, []),
        ({f"{REQUEST}__exactly__deviceClassName": ""}, ["requests[0].exactly.deviceClassName: Required value"]),
        ({f"{REQUEST}__exactly__count": -1}, [
            "requests[0].exactly.count: Invalid value: -1: must be greater than zero"
        ]),
        ({f"{REQUEST}__exactly__allocationMode": "All", f"{REQUEST}__exactly__count": 2}, [
            "requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"
        ]),
        ({f"{REQUEST}__exactly__allocationMode": "Some"}, [
            'requests[0].exactly.allocationMode: Unsupported value: "Some": supported values: "All", "ExactCount"'
        ]),
        ({f"{REQUEST}__exactly__selectors": [{}]}, ["requests[0].exactly.selectors[0].cel: Required value"]),
        ({f"{REQUEST}__exactly": GONE}, [
            "requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"
        ]),
        ({f"{REQUEST}__firstAvailable": EITHER}, [
            "requests[0]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple "
            "fields are set"
        ]),
        ({"spec__devices__requests__1": GPU["spec"]["devices"]["requests"][0]}, [
            'requests[1]: Duplicate value: "r"'
        ]),
        ({"spec__devices__constraints": [{"requests": ["x"], "matchAttribute": "model"}]}, [
            f'constraints[0].requests[0]: Invalid value: "x": {NO_SUCH}',
            'constraints[0].matchAttribute: Invalid value: "model": must include a domain',
        ]),
        ({"spec__devices__config": [{"requests": ["r"], **OPAQUE}]}, []),
        ({"spec__devices__config": [{"requests": ["r/x/y"]}]}, [
            f'config[0].requests[0]: Invalid value: "r/x/y": {NO_SUCH}',
            "config[0].opaque: Required value",
        ]),
    ],
)  # fmt: skip
def test_specs(changes: dict[str, Any], findings: list[str]) -> None:
    claim = changed(GPU, **changes)
    assert CLAIM.create(claim) == [f"spec.devices.{f}" for f in findings]
    template = {"metadata": claim["metadata"], "spec": {"spec": claim["spec"]}}
    assert TEMPLATE.create(template) == [f"spec.spec.devices.{f}" for f in findings]


def test_sub_requests_can_be_named() -> None:
    config = [{"requests": ["r/big"], **OPAQUE}]
    either = {"name": "r", "firstAvailable": EITHER}
    assert CLAIM.create(changed(GPU, spec__devices__requests__0=either, spec__devices__config=config)) == []


def test_specs_are_immutable() -> None:
    (found,) = CLAIM.update(changed(GPU, **{f"{REQUEST}__name": "s"}), GPU)
    assert found.endswith(": field is immutable")


ALLOCATED = {"allocation": {"devices": {"results": [RESULT]}}}


@pytest.mark.parametrize(
    ("status", "old", "findings"),
    [
        (ALLOCATED, {}, []),
        ({**ALLOCATED, "reservedFor": [USER]}, ALLOCATED, []),
        ({"reservedFor": [USER]}, {}, [
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
        ]),
        ({**ALLOCATED, "reservedFor": [{}]}, ALLOCATED, [
            "status.reservedFor[0].resource: Required value",
            "status.reservedFor[0].name: Required value",
            "status.reservedFor[0].uid: Required value",
        ]),
        ({"allocation": {"devices": {"results": [{**RESULT, "request": "x", "pool": ""}]}}}, {}, [
            f'status.allocation.devices.results[0].request: Invalid value: "x": {NO_SUCH}',
            "status.allocation.devices.results[0].pool: Required value",
        ]),
    ],
)  # fmt: skip
def test_status(status: dict[str, Any], old: dict[str, Any], findings: list[str]) -> None:
    assert CLAIM.status_update(changed(GPU, status=status), changed(GPU, status=old)) == findings


@pytest.mark.parametrize(
    ("status", "deleted", "state"),
    [
        ({}, False, "pending"),
        ({}, True, "deleted"),
        (ALLOCATED, False, "allocated"),
        ({**ALLOCATED, "reservedFor": [USER]}, True, "deleted,allocated,reserved"),
    ],
)
def test_row(status: dict[str, Any], deleted: bool, state: str) -> None:
    stamp = "2026-01-01T00:00:00Z" if deleted else None
    assert CLAIM.row(changed(GPU, status=status, metadata__deletionTimestamp=stamp))["State"] == state


@pytest.mark.parametrize(
    ("spec", "findings"),
    [
        ({"config": [OPAQUE], "selectors": [{"cel": {"expression": "true"}}]}, []),
        ({"config": [{"opaque": {"driver": "", "parameters": [1]}}]}, [
            "spec.config[0].opaque.driver: Required value",
            'spec.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object',
        ]),
        ({"selectors": [{"cel": {"expression": "x" * 10241}}]}, [
            "spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes"
        ]),
        ({"extendedResourceName": "gpu"}, [
            'spec.extendedResourceName: Invalid value: "gpu": must be a valid extended resource name'
        ]),
    ],
)  # fmt: skip
def test_classes(spec: dict[str, Any], findings: list[str]) -> None:
    assert CLASS.create({"metadata": {"name": "gpu.example.com"}, "spec": spec}) == findings
