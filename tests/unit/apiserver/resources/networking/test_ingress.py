from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

INGRESS = Kind("networking.k8s.io/v1", "Ingress")
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}
WEB: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "rules": [
            {"host": "web.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}
        ]
    },
}
PATH = "spec__rules__0__http__paths__0"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, []),
        ({"spec": {"defaultBackend": BACKEND}}, []),
        ({"spec__rules__0__host": "10.0.0.1"}, [
            'spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address'
        ]),
        ({"spec__rules__0__http__paths": []}, ["spec.rules[0].http.paths: Required value"]),
        ({f"{PATH}__pathType": GONE}, [
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"
        ]),
        ({f"{PATH}__pathType": "Regex"}, [
            'spec.rules[0].http.paths[0].pathType: Unsupported value: "Regex": supported values: "Exact", '
            '"ImplementationSpecific", "Prefix"'
        ]),
        ({f"{PATH}__path": "a"}, [
            'spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path'
        ]),
        ({f"{PATH}__path": "/a/../b/."}, [
            'spec.rules[0].http.paths[0].path: Invalid value: "/a/../b/.": must not contain \'/../\'',
            'spec.rules[0].http.paths[0].path: Invalid value: "/a/../b/.": cannot end with \'/.\'',
        ]),
        ({f"{PATH}__backend": {}}, [
            'spec.rules[0].http.paths[0].backend: Invalid value: "": resource or service backend is required'
        ]),
        ({f"{PATH}__backend__service__port": {"number": 80, "name": "http"}}, [
            'spec.rules[0].http.paths[0].backend: Invalid value: "": cannot set both port name & port number'
        ]),
        ({f"{PATH}__backend__service__port": {}}, [
            "spec.rules[0].http.paths[0].backend: Required value: port name or number is required"
        ]),
        ({f"{PATH}__backend": {"resource": {"kind": "", "name": "a/b"}}}, [
            "spec.rules[0].http.paths[0].backend.resource.kind: Required value",
            'spec.rules[0].http.paths[0].backend.resource.name: Invalid value: "a/b": may not contain \'/\'',
        ]),
        ({"metadata__annotations": {"kubernetes.io/ingress.class": "a"}, "spec__ingressClassName": "b"}, [
            'annotations.kubernetes.io/ingress.class: Invalid value: "a": '
            "must match `ingressClassName` when both are specified"
        ]),
    ],
)  # fmt: skip
def test_create(changes: dict[str, Any], findings: list[str]) -> None:
    assert INGRESS.create(changed(WEB, **changes)) == findings


def test_secrets_of_tls_are_named() -> None:
    (found,) = INGRESS.create(changed(WEB, spec__tls=[{"hosts": ["*.example.com"], "secretName": "A"}]))
    assert found.startswith('spec.tls[0].secretName: Invalid value: "A": a lowercase RFC 1123 subdomain')


def test_status() -> None:
    points = {"loadBalancer": {"ingress": [{"ip": "256.0.0.1"}, {"hostname": "10.0.0.1"}]}}
    found = INGRESS.status_update(changed(WEB, status=points), WEB)
    assert found == [
        'status.loadBalancer.ingress[0].ip: Invalid value: "256.0.0.1": '
        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        'status.loadBalancer.ingress[1].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
    ]


def test_the_annotation_is_deprecated() -> None:
    old_style = changed(WEB, metadata__annotations={"kubernetes.io/ingress.class": "a"})
    assert INGRESS.warnings(old_style) == [
        "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
    ]
    assert INGRESS.warnings(old_style, old_style) == []


def test_row() -> None:
    rules = [{"host": f"{letter}.example.com"} for letter in "abcd"]
    shown = changed(WEB, spec__rules=rules, spec__tls=[{}], spec__ingressClassName="nginx",
                    status={"loadBalancer": {"ingress": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.1"}]}})  # fmt: skip
    assert INGRESS.row(shown) == {
        "Name": "web",
        "Class": "nginx",
        "Hosts": "a.example.com,b.example.com,c.example.com + 1 more...",
        "Address": "10.0.0.1,10.0.0.2",
        "Ports": "80, 443",
        "Age": "<unknown>",
    }
