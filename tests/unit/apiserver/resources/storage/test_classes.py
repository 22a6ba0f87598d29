from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

STORAGE = Kind("storage.k8s.io/v1", "StorageClass")
ATTRIBUTES = Kind("storage.k8s.io/v1", "VolumeAttributesClass")
FAST: dict[str, Any] = {"metadata": {"name": "fast"}, "provisioner": "disk.example.com"}
GOLD: dict[str, Any] = {
    "metadata": {"name": "gold"},
    "driverName": "disk.example.com",
    "parameters": {"iops": "5000"},
}
ZONE = {"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}


def test_defaults() -> None:
    made = STORAGE.defaulted(FAST)
    assert (made["reclaimPolicy"], made["volumeBindingMode"]) == ("Delete", "Immediate")
    assert STORAGE.create(changed(FAST, allowedTopologies=[ZONE])) == []


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"provisioner": ""}, ["provisioner: Required value"]),
        ({"parameters": {"": "x"}}, ['parameters: Invalid value: "": field can not be empty.']),
        ({"parameters": {"k": "v" * 262144}}, ["parameters: Too long: may not be more than 262144 bytes"]),
        ({"reclaimPolicy": "Recycle"}, [
            'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"'
        ]),
        ({"volumeBindingMode": "Later"}, [
            'volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"'
        ]),
        ({"allowedTopologies": [ZONE, ZONE]}, ['allowedTopologies[1].matchLabelExpressions: Duplicate value: ""']),
        ({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": []}]}]}, [
            "allowedTopologies.matchLabelExpressions[0].values: Required value"
        ]),
    ],
)  # fmt: skip
def test_invalid(changes: dict[str, Any], findings: list[str]) -> None:
    assert STORAGE.create(changed(FAST, **changes)) == findings


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"parameters": {"a": "b"}}, ["parameters: Forbidden: updates to parameters are forbidden."]),
        ({"provisioner": "x.example.com"}, ["provisioner: Forbidden: updates to provisioner are forbidden."]),
        ({"reclaimPolicy": "Retain"}, ["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."]),
        ({"volumeBindingMode": "WaitForFirstConsumer"}, [
            'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable'
        ]),
        ({"allowVolumeExpansion": True}, []),
    ],
)  # fmt: skip
def test_updates(changes: dict[str, Any], findings: list[str]) -> None:
    assert STORAGE.update(changed(FAST, **changes), FAST) == findings


@pytest.mark.parametrize("prefix", ["", "beta."])
def test_row(prefix: str) -> None:
    default = {f"storageclass.{prefix}kubernetes.io/is-default-class": "true"}
    assert STORAGE.row(changed(FAST, metadata__annotations=default, allowVolumeExpansion=True)) == {
        "Name": "fast (default)",
        "Provisioner": "disk.example.com",
        "ReclaimPolicy": "Delete",
        "VolumeBindingMode": "Immediate",
        "AllowVolumeExpansion": "true",
        "Age": "<unknown>",
    }
    assert STORAGE.row(FAST)["Name"] == "fast"


def test_attributes() -> None:
    assert ATTRIBUTES.create(GOLD) == []
    assert ATTRIBUTES.create(changed(GOLD, driverName="", parameters=GONE)) == [
        "driverName: Required value",
        "parameters: Required value: must contain at least one key/value pair",
    ]
    assert ATTRIBUTES.update(changed(GOLD, driverName="x.y", parameters__iops="1"), GOLD) == [
        "driverName: Forbidden: updates to driverName are forbidden.",
        "parameters: Forbidden: updates to parameters are forbidden.",
    ]
    assert ATTRIBUTES.row(GOLD) == {"Name": "gold", "DriverName": "disk.example.com", "Age": "<unknown>"}
