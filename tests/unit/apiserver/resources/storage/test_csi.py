from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind, changed

V1 = "storage.k8s.io/v1"
DRIVER = Kind(V1, "CSIDriver")
NODE = Kind(V1, "CSINode")
CAPACITY = Kind(V1, "CSIStorageCapacity")
ATTACHMENT = Kind(V1, "VolumeAttachment")
DISK: dict[str, Any] = {"metadata": {"name": "disk.example.com"}, "spec": {}}
ON_NODE: dict[str, Any] = {
    "metadata": {"name": "n"},
    "spec": {"drivers": [{"name": "disk.example.com", "nodeID": "id", "topologyKeys": ["zone"]}]},
}
ROOM: dict[str, Any] = {
    "metadata": {"name": "c", "namespace": "d"},
    "storageClassName": "fast",
    "nodeTopology": {"matchLabels": {"zone": "a"}},
    "capacity": "10Gi",
}
ATTACHED: dict[str, Any] = {
    "metadata": {"name": "a"},
    "spec": {"attacher": "disk.example.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"}},
}


def test_driver_defaults() -> None:
    assert DRIVER.defaulted(DISK)["spec"] == {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "requiresRepublish": False,
        "seLinuxMount": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "volumeLifecycleModes": ["Persistent"],
    }
    assert DRIVER.create(DISK) == []


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"metadata__name": "d" * 64}, ["name: Too long: may not be more than 63 bytes"]),
        ({"spec__fsGroupPolicy": "Some"}, [
            'spec.fsGroupPolicy: Unsupported value: "Some": supported values: "File", "None", "ReadWriteOnceWithFSType"'
        ]),
        ({"spec__volumeLifecycleModes": ["Eternal"]}, [
            'spec.volumeLifecycleModes: Unsupported value: "Eternal": supported values: "Persistent", "Ephemeral"'
        ]),
        ({"spec__tokenRequests": [{"audience": "a", "expirationSeconds": 599}, {"audience": "a"}]}, [
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: "
            "may not specify a duration less than 10 minutes",
            'spec.tokenRequests[1].audience: Duplicate value: "a"',
        ]),
        ({"spec__tokenRequests": [{"audience": "", "expirationSeconds": 2**32 + 1}]}, [
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 4294967297: "
            "may not specify a duration larger than 2^32 seconds"
        ]),
    ],
)  # fmt: skip
def test_invalid_drivers(changes: dict[str, Any], findings: list[str]) -> None:
    assert DRIVER.create(changed(DISK, **changes)) == findings


def test_driver_updates() -> None:
    new = changed(DISK, spec__attachRequired=False, spec__fsGroupPolicy="None", spec__podInfoOnMount=True)
    assert DRIVER.update(new, DISK) == [
        "spec.attachedRequired: Invalid value: false: field is immutable",
        'spec.fsGroupPolicy: Invalid value: "None": field is immutable',
    ]


def test_driver_row() -> None:
    assert DRIVER.row(changed(DISK, spec__tokenRequests=[{"audience": "a"}, {"audience": "b"}])) == {
        "Name": "disk.example.com",
        "AttachRequired": True,
        "PodInfoOnMount": False,
        "StorageCapacity": False,
        "TokenRequests": "a,b",
        "RequiresRepublish": False,
        "Modes": "Persistent",
        "Age": "<unknown>",
    }
    assert DRIVER.row(DISK)["TokenRequests"] == "<unset>"


@pytest.mark.parametrize(
    ("driver", "findings"),
    [
        ({"name": "", "nodeID": ""}, ["name: Required value", "nodeID: Required value"]),
        ({"name": "a", "nodeID": "i" * 257}, [
            f'nodeID: Invalid value: "{"i" * 257}": must be 256 characters or less'
        ]),
        ({"name": "a", "nodeID": "i", "allocatable": {"count": -1}}, [
            "allocatable.count: Invalid value: -1: must be greater than or equal to 0"
        ]),
        ({"name": "a", "nodeID": "i", "topologyKeys": ["z", "z"]}, ['topologyKeys: Duplicate value: "z"']),
        ({"name": "disk.example.com", "nodeID": "i"}, ['name: Duplicate value: "disk.example.com"']),
    ],
)  # fmt: skip
def test_invalid_nodes(driver: dict[str, Any], findings: list[str]) -> None:
    assert NODE.create(ON_NODE) == []
    assert NODE.create(changed(ON_NODE, spec__drivers__1=driver)) == [f"spec.drivers[1].{f}" for f in findings]


def test_of_a_driver_on_a_node_only_the_count_changes() -> None:
    assert NODE.update(changed(ON_NODE, spec__drivers__0__allocatable={"count": 3}), ON_NODE) == []
    (found,) = NODE.update(changed(ON_NODE, spec__drivers__0__nodeID="other"), ON_NODE)
    assert found.startswith("CSINodeDriver: Invalid value: ")
    assert found.endswith(": field is immutable")
    assert NODE.row(ON_NODE) == {"Name": "n", "Drivers": 1, "Age": "<unknown>"}


def test_capacities() -> None:
    assert CAPACITY.create(ROOM) == []
    assert CAPACITY.create(changed(ROOM, capacity="-1", maximumVolumeSize="-2")) == [
        'capacity: Invalid value: "-1": must be greater than or equal to 0',
        'maximumVolumeSize: Invalid value: "-2": must be greater than or equal to 0',
    ]
    assert CAPACITY.update(changed(ROOM, storageClassName="slow", capacity="1Gi"), ROOM) == [
        'storageClassName: Invalid value: "slow": field is immutable'
    ]
    assert CAPACITY.row(ROOM) == {"Name": "c", "StorageClassName": "fast", "Capacity": "10Gi"}


ONE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"spec__attacher": ""}, ["spec.attacher: Required value"]),
        ({"spec__source": {}}, [f"spec.source: Required value: {ONE}"]),
        ({"spec__source__inlineVolumeSpec": {}}, [f"spec.source: Forbidden: {ONE}"]),
        ({"spec__source__persistentVolumeName": ""}, [
            "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName"
        ]),
    ],
)  # fmt: skip
def test_invalid_attachments(changes: dict[str, Any], findings: list[str]) -> None:
    assert ATTACHMENT.create(ATTACHED) == []
    assert ATTACHMENT.create(changed(ATTACHED, **changes)) == findings


def test_attachment_updates() -> None:
    (found,) = ATTACHMENT.update(changed(ATTACHED, spec__nodeName="m"), ATTACHED)
    assert found.endswith(": field is immutable")
    long = changed(ATTACHED, status={"attached": False, "attachError": {"message": "m" * 1025}})
    assert ATTACHMENT.status_update(long, ATTACHED) == [
        "status.attachError.message: Too long: may not be more than 1024 bytes"
    ]
    assert ATTACHMENT.row(ATTACHED) == {
        "Name": "a", "Attacher": "disk.example.com", "PV": "pv", "Node": "n", "Attached": False, "Age": "<unknown>",
    }  # fmt: skip
