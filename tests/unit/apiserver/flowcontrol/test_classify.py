"""Which schema a request matches."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import flowcontrol_v1 as v1
from podling.api import meta_v1, struct
from podling.api.request import User
from podling.apiserver.flowcontrol import bootstrap, classify
from podling.apiserver.flowcontrol.levels import imagined_schema
from podling.apiserver.request_info import RequestInfo, resolve

ANN = User("ann", ("dev", "system:authenticated"))
ACCOUNT = User("system:serviceaccount:web:builder", ("system:serviceaccounts", "system:authenticated"))
GET_POD = resolve("GET", "/api/v1/namespaces/web/pods/p", {})
POD_STATUS = resolve("PUT", "/api/v1/namespaces/web/pods/p/status", {})
LIST_NODES = resolve("GET", "/api/v1/nodes", {})
METRICS = resolve("GET", "/metrics/slis", {})


def spec(subject: dict[str, Any], **rules: Any) -> v1.FlowSchemaSpec:
    made: v1.FlowSchemaSpec = struct.from_dict({"rules": [{"subjects": [subject], **rules}]}, v1.FlowSchemaSpec)
    return made


def resources(**fields: Any) -> list[dict[str, Any]]:
    return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], **fields}]


EVERYONE = {"kind": "Group", "group": {"name": "*"}}


@pytest.mark.parametrize(
    ("subject", "user", "matches"),
    [
        ({"kind": "User", "user": {"name": "ann"}}, ANN, True),
        ({"kind": "User", "user": {"name": "*"}}, ANN, True),
        ({"kind": "User", "user": {"name": "bob"}}, ANN, False),
        ({"kind": "Group", "group": {"name": "dev"}}, ANN, True),
        ({"kind": "Group", "group": {"name": "*"}}, User("nobody"), True),
        ({"kind": "Group", "group": {"name": "ops"}}, ANN, False),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "web", "name": "builder"}}, ACCOUNT, True),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "web", "name": "*"}}, ACCOUNT, True),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "we", "name": "*"}}, ACCOUNT, False),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "web", "name": "build"}}, ACCOUNT, False),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "web", "name": "*"}}, ANN, False),
        ({"kind": "User"}, ANN, False),
    ],
)
def test_subjects(subject: dict[str, Any], user: User, matches: bool) -> None:
    assert classify.matches(spec(subject, resourceRules=resources()), user, GET_POD) is matches


@pytest.mark.parametrize(
    ("rule", "info", "matches"),
    [
        ({}, GET_POD, True),
        ({"verbs": ["list"]}, GET_POD, False),
        ({"verbs": ["get", "list"]}, GET_POD, True),
        ({"apiGroups": ["apps"]}, GET_POD, False),
        ({"apiGroups": [""]}, GET_POD, True),
        ({"resources": ["pods"]}, GET_POD, True),
        ({"resources": ["pods"]}, POD_STATUS, False),
        ({"resources": ["pods/status"]}, POD_STATUS, True),
        ({"namespaces": ["web"]}, GET_POD, True),
        ({"namespaces": ["db"]}, GET_POD, False),
        ({}, LIST_NODES, False),
        ({"clusterScope": True}, LIST_NODES, True),
        ({"clusterScope": True, "namespaces": []}, GET_POD, False),
        ({}, METRICS, False),
    ],
)
def test_resource_rules(rule: dict[str, Any], info: RequestInfo, matches: bool) -> None:
    assert classify.matches(spec(EVERYONE, resourceRules=resources(**rule)), ANN, info) is matches


@pytest.mark.parametrize(
    ("url", "path", "matches"),
    [
        ("*", "/metrics", True),
        ("/metrics", "/metrics", True),
        ("/metrics", "/metrics/slis", True),
        ("/metrics", "/metricsque", False),
        ("/metrics/*", "/metrics/slis", True),
        ("/metrics/*", "/metrics", False),
        ("/healthz", "/livez", False),
    ],
)
def test_paths(url: str, path: str, matches: bool) -> None:
    rules = [{"verbs": ["get"], "nonResourceURLs": [url]}]
    info = resolve("GET", path, {})
    assert classify.matches(spec(EVERYONE, nonResourceRules=rules), ANN, info) is matches


def schemas() -> list[v1.FlowSchema]:
    return sorted((o for o in bootstrap.objects() if isinstance(o, v1.FlowSchema)), key=classify.precedence)


@pytest.mark.parametrize(
    ("user", "method", "path", "chosen"),
    [
        (User("admin", ("system:masters", "system:authenticated")), "GET", "/api/v1/pods", "exempt"),
        (User("system:anonymous", ("system:unauthenticated",)), "GET", "/livez/ping", "probes"),
        (User("system:anonymous", ("system:unauthenticated",)), "GET", "/version", "global-default"),
        (
            User("system:kube-scheduler", ("system:authenticated",)),
            "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler",
            "system-leader-election",
        ),
        (User("system:kube-scheduler", ("system:authenticated",)), "GET", "/api/v1/nodes", "kube-scheduler"),
        (User("system:kube-controller-manager", ()), "GET", "/api/v1/nodes", "kube-controller-manager"),
        (User("system:node:a", ("system:nodes",)), "PATCH", "/api/v1/nodes/a/status", "system-node-high"),
        (
            User("system:node:a", ("system:nodes",)),
            "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/a",
            "system-node-high",
        ),
        (User("system:node:a", ("system:nodes",)), "GET", "/api/v1/pods", "system-nodes"),
        (
            User("system:serviceaccount:kube-system:x", ("system:serviceaccounts",)),
            "GET", "/api/v1/pods",
            "kube-system-service-accounts",
        ),
        (ACCOUNT, "GET", "/api/v1/pods", "service-accounts"),
        (ANN, "GET", "/api/v1/pods", "global-default"),
        (User("lost"), "GET", "/api/v1/pods", "catch-all"),
    ],
)  # fmt: skip
def test_the_schemas_of_every_cluster(user: User, method: str, path: str, chosen: str) -> None:
    assert classify.choose(schemas(), user, resolve(method, path, {})).metadata.name == chosen


def test_precedence_then_name() -> None:
    made = [imagined_schema("catch-all")]
    for name, value in (("b", 5), ("a", 5), ("z", 4)):
        schema = v1.FlowSchema(metadata=meta_v1.ObjectMeta(name=name))
        schema.spec.matching_precedence = value
        made.append(schema)
    assert [s.metadata.name for s in sorted(made, key=classify.precedence)] == ["z", "a", "b", "catch-all"]


def test_distinguishers() -> None:
    def of(method: str | None) -> str:
        made = v1.FlowSchemaSpec(distinguisher_method=v1.FlowDistinguisherMethod(type=method) if method else None)
        return classify.distinguisher(made, ANN, GET_POD)

    assert (of("ByUser"), of("ByNamespace"), of(None)) == ("ann", "web", "")
