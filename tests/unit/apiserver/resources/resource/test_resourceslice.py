from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

SLICE = Kind("resource.k8s.io/v1", "ResourceSlice")
NODE: dict[str, Any] = {
    "metadata": {"name": "n-gpu"},
    "spec": {
        "driver": "gpu.example.com",
        "nodeName": "n",
        "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": "gpu-0", "attributes": {"model": {"string": "a"}, "index": {"int": 0}}}],
    },
}
ONE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, []),
        ({"nodeName": GONE}, [f"spec: Required value: {ONE}"]),
        ({"allNodes": True}, [
            f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {ONE}, but multiple fields are set'
        ]),
        ({"allNodes": False}, ["spec.allNodes: Invalid value: false: must be either unset or set to true"]),
        ({"pool__resourceSliceCount": 0}, [
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"
        ]),
        ({"pool__name": ""}, ["spec.pool.name: Required value"]),
        ({"devices__1": {"name": "gpu-0"}}, ['spec.devices[1]: Duplicate value: "gpu-0"']),
        ({"devices__0__attributes": {"model": {}}}, [
            "spec.devices[0].attributes[model]: Required value: exactly one value must be specified"
        ]),
        ({"sharedCounters": [{"name": "c", "counters": {}}], "devices": GONE}, [
            "spec.sharedCounters[0].counters: Required value"
        ]),
        ({"devices": [{"name": f"d{i}"} for i in range(129)]}, [
            "spec.devices: Too many: 129: must have at most 128 items"
        ]),
    ],
)  # fmt: skip
def test_create(changes: dict[str, Any], findings: list[str]) -> None:
    assert SLICE.create(changed(NODE, **{f"spec__{path}": value for path, value in changes.items()})) == findings


def test_updates() -> None:
    assert SLICE.update(changed(NODE, spec__driver="x.example.com", spec__devices=[]), NODE) == [
        'spec.driver: Invalid value: "x.example.com": field is immutable'
    ]


def test_row_and_fields() -> None:
    assert SLICE.row(NODE) == {
        "Name": "n-gpu", "Node": "n", "Driver": "gpu.example.com", "Pool": "n", "Age": "<unknown>",
    }  # fmt: skip
    assert SLICE.strategy.fields(SLICE.make(NODE)) == {"spec.nodeName": "n", "spec.driver": "gpu.example.com"}
