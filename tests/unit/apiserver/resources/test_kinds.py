"""Findings and rows of the smaller kinds, and what must hold for every kind."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.resources.make import NOW, findings, row, update_findings
from podling.api import registry
from podling.api.registry import Resource
from podling.apiserver.resources import strategy_for

RBAC = "rbac.authorization.k8s.io/v1"
ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}
STORAGE = {"requests": {"storage": "1Gi"}}


def manifest(api_version: str, kind: str, metadata: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    head = {"name": "a", "creationTimestamp": "2026-01-01T11:00:00Z", **(metadata or {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": head, **rest}


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            manifest("v1", "ConfigMap", data={"a": "x"}, binaryData={"a": "eA=="}),
            ['data[a]: Invalid value: "a": duplicate of key present in binaryData'],
        ),
        (
            manifest("v1", "Secret", type="kubernetes.io/tls", data={"tls.crt": "eA=="}),
            ["data[tls.key]: Required value"],
        ),
        (
            manifest("v1", "Node", spec={"taints": [{"key": "a", "effect": "No"}]}),
            [
                'metadata.taints[0].effect: Unsupported value: "No": '
                'supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
            ],
        ),
        (
            manifest("v1", "Event", {"namespace": "default"}, involvedObject={"kind": "Pod", "namespace": "other"}),
            ['involvedObject.namespace: Invalid value: "other": does not match event.namespace'],
        ),
        (
            manifest("v1", "Endpoints", subsets=[{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 0}]}]),
            [
                'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": '
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            manifest("discovery.k8s.io/v1", "EndpointSlice", addressType="IPv4", endpoints=[{"addresses": []}]),
            ["endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        (
            manifest("v1", "PersistentVolumeClaim", spec={"resources": {}}),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            manifest("v1", "ResourceQuota", spec={"scopes": ["Terminating", "NotTerminating"]}),
            ['spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes'],
        ),
        (
            manifest(RBAC, "Role", rules=[{"verbs": ["get"], "nonResourceURLs": ["/x"]}]),
            ['rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs'],
        ),
        (
            manifest(RBAC, "RoleBinding", roleRef={**ROLE_REF, "name": ""}, subjects=[{"kind": "Z", "name": "z"}]),
            [
                "roleRef.name: Required value",
                'subjects[0].kind: Unsupported value: "Z": supported values: "ServiceAccount", "User", "Group"',
            ],
        ),
        (
            manifest("networking.k8s.io/v1", "Ingress", spec={}),
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        ),
        (
            manifest(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                spec={"podSelector": {}, "ingress": [{"from": [{}], "ports": [{"port": 5, "endPort": 3}]}]},
            ),
            [
                "spec.ingress[0].ports[0].endPort: Invalid value: 3: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
            ],
        ),
        (
            manifest(
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                spec={"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 3, "maxReplicas": 2},
            ),
            ["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"],
        ),
        (
            manifest("policy/v1", "PodDisruptionBudget", spec={"minAvailable": "150%", "selector": {}}),
            ['spec.minAvailable: Invalid value: "150%": must not be greater than 100%'],
        ),
        (
            manifest("scheduling.k8s.io/v1", "PriorityClass", value=2_000_000_000),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            manifest("coordination.k8s.io/v1", "Lease", spec={"leaseDurationSeconds": 0}),
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
    ],
)
def test_a_new_object_is_refused_in_upstreams_words(obj: dict[str, Any], expected: list[str]) -> None:
    assert findings(obj) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            manifest("v1", "ConfigMap", data={"a": "x"}, immutable=True),
            manifest("v1", "ConfigMap", data={"a": "y"}),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        ),
        (
            manifest("v1", "Secret", type="Opaque"),
            manifest("v1", "Secret", type="x"),
            ['type: Invalid value: "x": field is immutable'],
        ),
        (
            manifest(RBAC, "RoleBinding", roleRef=ROLE_REF),
            manifest(RBAC, "RoleBinding", roleRef={**ROLE_REF, "name": "b"}),
            [
                'roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"b"}: '
                "cannot change roleRef"
            ],
        ),
    ],
)
def test_a_change_is_refused_in_upstreams_words(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    assert update_findings(before, after) == expected


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (manifest("v1", "ConfigMap", data={"a": "x"}, binaryData={"b": "eA=="}), {"Data": 2, "Age": "60m"}),
        (manifest("v1", "Namespace", status={"phase": "Active"}), {"Status": "Active"}),
        (
            manifest(
                "v1",
                "Node",
                {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"}},
                spec={"unschedulable": True},
                status={"conditions": [{"type": "Ready", "status": "True"}]},
            ),
            {"Status": "Ready,SchedulingDisabled", "Roles": "control-plane,x"},
        ),
        (
            manifest("v1", "Node", status={"conditions": [{"type": "Ready", "status": "Unknown"}]}),
            {"Status": "NotReady", "Roles": "<none>", "Internal-IP": "<none>", "OS-Image": "<unknown>"},
        ),
        (
            manifest(
                "v1",
                "Event",
                {"namespace": "default"},
                involvedObject={"kind": "Pod", "namespace": "default", "name": "x"},
                reason="R",
                type="Normal",
                message=" m\n",
                firstTimestamp="2026-01-01T11:00:00Z",
                lastTimestamp="2026-01-01T11:59:00Z",
                count=3,
            ),
            {"Last Seen": "60s", "Object": "pod/x", "Message": "m", "First Seen": "60m"},
        ),
        (
            manifest(
                "v1",
                "Endpoints",
                subsets=[{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 5)], "ports": [{"port": 80}]}],
            ),
            {"Endpoints": "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."},
        ),
        (
            manifest(
                "v1",
                "PersistentVolumeClaim",
                spec={"accessModes": ["ReadWriteOnce"], "volumeName": "v", "resources": STORAGE},
                status={"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
            ),
            {"Status": "Bound", "Volume": "v", "Capacity": "1Gi", "Access Modes": "RWO", "StorageClass": ""},
        ),
        (
            manifest(
                "storage.k8s.io/v1",
                "StorageClass",
                {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                provisioner="p",
            ),
            {"Name": "a (default)", "ReclaimPolicy": "Delete", "VolumeBindingMode": "Immediate"},
        ),
        (
            manifest(
                "networking.k8s.io/v1",
                "Ingress",
                spec={"ingressClassName": "c", "tls": [{"hosts": ["h"]}], "rules": [{"host": "h"}, {"host": "i"}]},
            ),
            {"Class": "c", "Hosts": "h,i", "Ports": "80, 443"},
        ),
        (
            manifest("networking.k8s.io/v1", "NetworkPolicy", spec={"podSelector": {"matchLabels": {"a": "b"}}}),
            {"Pod-Selector": "a=b"},
        ),
        (
            manifest("policy/v1", "PodDisruptionBudget", spec={"minAvailable": 1}, status={"disruptionsAllowed": 2}),
            {"Min Available": "1", "Max Unavailable": "N/A", "Allowed Disruptions": 2},
        ),
        (manifest("coordination.k8s.io/v1", "Lease", spec={"holderIdentity": "h"}), {"Holder": "h"}),
    ],
)
def test_the_row_of_a_kind(obj: dict[str, Any], expected: dict[str, Any]) -> None:
    cells = row(obj)
    assert {name: cells[name] for name in expected} == expected


@pytest.mark.parametrize(
    "resource", [r for r in registry.BUILTIN if not r.virtual], ids=lambda r: f"{r.name}.{r.version}.{r.group}"
)
def test_every_kind_can_be_created_with_nothing_but_a_name_and_printed(resource: Resource) -> None:
    strategy = strategy_for(resource)
    obj = resource.type()
    obj.metadata.name = "a"
    strategy.default(obj)
    before = str(obj)
    strategy.default(obj)
    assert str(obj) == before, "defaults are idempotent"
    assert len(strategy.row(obj, NOW)) == len(strategy.columns)
    assert {"metadata.name", *strategy.selectable_fields} <= {"metadata.name", *strategy.fields(obj)}
