"""Kinds with rules of their own, through the API server: what is stored and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api.request import LOOPBACK
from podling.api.struct import to_dict
from tests.unit.apiserver.harness import Server, virtual
from tests.unit.apiserver.resources.apiextensions.test_customresourcedefinition import TABS
from tests.unit.apiserver.resources.certificates.test_certificatesigningrequest import ALICE, APPROVED, ISSUED

CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def ask(server: Server, method: str, path: str, body: Any = None, **more: Any) -> Any:
    response = await server.ask(method, path, body, **more)
    return to_dict(response.obj)


def whole(api_version: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, **obj}


@virtual
async def test_a_request_is_approved_and_then_issued(server: Server) -> None:
    made = await ask(server, "POST", CSRS, whole("certificates.k8s.io/v1", "CertificateSigningRequest", ALICE))
    assert made["spec"]["username"] == LOOPBACK.name
    made["status"] = {"conditions": [APPROVED]}
    refused = await server.fails("PUT", f"{CSRS}/alice/status", made)
    assert 'updates may not add a condition of type "Approved"' in (refused.status.message or "")
    approved = await ask(server, "PUT", f"{CSRS}/alice/approval", made)
    assert approved["status"]["conditions"][0]["lastUpdateTime"]
    approved["status"]["certificate"] = ISSUED
    issued = await ask(server, "PUT", f"{CSRS}/alice/status", approved)
    assert issued["status"]["certificate"] == ISSUED
    issued["status"]["certificate"] = ALICE["spec"]["request"]
    refused = await server.fails("PUT", f"{CSRS}/alice/status", issued)
    assert refused.status.code == 422


@virtual
async def test_a_definition_keeps_its_stored_versions(server: Server) -> None:
    made = await ask(server, "POST", CRDS, whole("apiextensions.k8s.io/v1", "CustomResourceDefinition", TABS))
    name = made["metadata"]["name"]
    assert made["metadata"]["generation"] == 1
    assert made["status"]["storedVersions"] == ["v1"]
    made["status"]["acceptedNames"] = made["spec"]["names"]
    made["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    made = await ask(server, "PUT", f"{CRDS}/{name}/status", made)
    versions = made["spec"]["versions"]
    versions.append({**versions[0], "name": "v2"})
    versions[0]["storage"] = False
    made = await ask(server, "PUT", f"{CRDS}/{name}", made)
    assert made["metadata"]["generation"] == 2
    assert made["status"]["storedVersions"] == ["v1", "v2"]
    made["spec"]["scope"] = "Cluster"
    refused = await server.fails("PUT", f"{CRDS}/{name}", made)
    assert 'spec.scope: Invalid value: "Cluster": field is immutable' in (refused.status.message or "")


@pytest.mark.parametrize(
    ("path", "obj"),
    [
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "p"}, "value": 1},
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "s"},
                "provisioner": "disk.example.com",
            },
        ),
        (
            "/apis/networking.k8s.io/v1/ingressclasses",
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "IngressClass",
                "metadata": {"name": "i"},
                "spec": {"controller": "example.com/i"},
            },
        ),
    ],
)
@virtual
async def test_writing_a_class_as_it_is_changes_nothing(server: Server, path: str, obj: dict[str, Any]) -> None:
    made = await ask(server, "POST", path, obj)
    del made["metadata"]["managedFields"]
    again = await ask(server, "PUT", f"{path}/{obj['metadata']['name']}", made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
