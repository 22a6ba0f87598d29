from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind, changed

PRIORITY = Kind("scheduling.k8s.io/v1", "PriorityClass")
HIGH: dict[str, Any] = {"metadata": {"name": "high"}, "value": 1000}
RESERVED = (
    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
)
NODE = "system-node-critical"


def test_defaults() -> None:
    assert PRIORITY.defaulted(HIGH)["preemptionPolicy"] == "PreemptLowerPriority"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, []),
        ({"value": 1_000_000_000}, []),
        ({"value": 1_000_000_001}, [
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
        ]),
        ({"metadata__name": NODE, "value": 2000001000}, []),
        ({"metadata__name": NODE, "value": 1}, [
            f"{RESERVED}value of system-node-critical PriorityClass must be 2000001000"
        ]),
        ({"metadata__name": NODE, "value": 2000001000, "globalDefault": True}, [
            f"{RESERVED}globalDefault of system-node-critical PriorityClass must be false"
        ]),
        ({"metadata__name": "system-x"}, [f"{RESERVED}system-x is not a known system priority class"]),
        ({"preemptionPolicy": "Ask"}, [
            'preemptionPolicy: Unsupported value: "Ask": supported values: "PreemptLowerPriority", "Never"'
        ]),
    ],
)  # fmt: skip
def test_create(changes: dict[str, Any], findings: list[str]) -> None:
    assert PRIORITY.create(changed(HIGH, **changes)) == findings


def test_update() -> None:
    assert PRIORITY.update(changed(HIGH, value=1, preemptionPolicy="Never", description="d"), HIGH) == [
        "value: Forbidden: may not be changed in an update.",
        'preemptionPolicy: Invalid value: "Never": field is immutable',
    ]


def test_row() -> None:
    assert PRIORITY.row(HIGH) == {
        "Name": "high",
        "Value": 1000,
        "Global-Default": False,
        "Age": "<unknown>",
        "PreemptionPolicy": "PreemptLowerPriority",
    }
