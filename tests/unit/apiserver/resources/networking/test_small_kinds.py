from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind, changed

V1 = "networking.k8s.io/v1"
CLASS = Kind(V1, "IngressClass")
ADDRESS = Kind(V1, "IPAddress")
RANGE = Kind(V1, "ServiceCIDR")
NGINX: dict[str, Any] = {
    "metadata": {"name": "nginx"},
    "spec": {"controller": "example.com/nginx", "parameters": {"kind": "ConfigMap", "name": "c"}},
}
ONE: dict[str, Any] = {
    "metadata": {"name": "10.96.0.1"},
    "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}},
}
SERVICES: dict[str, Any] = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.96.0.0/16"]}}


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, []),
        ({"controller": ""}, ["spec.controller: Required value"]),
        ({"controller": "nginx"}, [
            'spec.controller: Invalid value: "nginx": must be a domain-prefixed path (such as "acme.io/foo")'
        ]),
        ({"parameters__kind": ""}, ["spec.parameters.kind: Required value"]),
        ({"parameters__scope": "Galaxy"}, [
            'spec.parameters.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespace"'
        ]),
        ({"parameters__scope": "Namespace"}, [
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"
        ]),
        ({"parameters__namespace": "n"}, [
            "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"
        ]),
    ],
)  # fmt: skip
def test_classes(changes: dict[str, Any], findings: list[str]) -> None:
    assert CLASS.create(changed(NGINX, **{f"spec__{path}": value for path, value in changes.items()})) == findings


def test_class_updates_and_rows() -> None:
    assert CLASS.defaulted(NGINX)["spec"]["parameters"]["scope"] == "Cluster"
    assert CLASS.update(changed(NGINX, spec__controller="example.com/other"), NGINX) == [
        'spec.controller: Invalid value: "example.com/other": field is immutable'
    ]
    assert CLASS.row(NGINX) == {
        "Name": "nginx", "Controller": "example.com/nginx", "Parameters": "ConfigMap/c", "Age": "<unknown>",
    }  # fmt: skip
    grouped = changed(NGINX, spec__parameters__apiGroup="example.com")
    assert CLASS.row(grouped)["Parameters"] == "ConfigMap.example.com/c"


def test_addresses() -> None:
    assert ADDRESS.create(ONE) == []
    assert ADDRESS.name("10.96.0.1") == []
    assert ADDRESS.name("010.96.0.1") != []
    assert ADDRESS.create(changed(ONE, spec={})) == ["spec.parentRef: Required value"]
    assert ADDRESS.create(changed(ONE, spec__parentRef__name="")) == ["spec.parentRef.name: Required value"]
    (found,) = ADDRESS.update(changed(ONE, spec__parentRef__name="other"), ONE)
    assert found.endswith(": field is immutable")
    assert ADDRESS.row(ONE)["ParentRef"] == "services/default/kubernetes"


@pytest.mark.parametrize(
    ("cidrs", "finding"),
    [
        (["10.96.0.0/16", "2001:db8::/112"], None),
        ([], "spec.cidrs: Required value: at least one CIDR required"),
        (["10.96.0.1/16"], 'spec.cidrs[0]: Invalid value: "10.96.0.1/16": '),
        (["10.96.0.0/16", "10.97.0.0/16"], 'spec.cidrs: Invalid value: ["10.96.0.0/16","10.97.0.0/16"]: may'),
        (["10.96.0.0/16"] * 3, "spec.cidrs: Invalid value: "),
    ],
)  # fmt: skip
def test_ranges(cidrs: list[str], finding: str | None) -> None:
    found = RANGE.create(changed(SERVICES, spec__cidrs=cidrs))
    assert len(found) == (finding is not None)
    assert finding is None or found[0].startswith(finding)


@pytest.mark.parametrize(
    ("cidrs", "findings"),
    [
        (["10.96.0.0/16"], []),
        (["10.96.0.0/16", "2001:db8::/112"], []),
        (["10.97.0.0/16"], ['spec.cidrs[0]: Invalid value: "10.97.0.0/16": field is immutable']),
        ([], ["spec.cidrs: Invalid value: []: field is immutable"]),
    ],
)
def test_a_range_may_get_a_second_family(cidrs: list[str], findings: list[str]) -> None:
    assert RANGE.update(changed(SERVICES, spec__cidrs=cidrs), SERVICES) == findings
