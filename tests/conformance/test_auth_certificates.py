"""CertificateSigningRequests: the API, who may approve, and what the built-in signers sign."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.conformance.authority import MERGE, Authority, authority

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CLIENT = "kubernetes.io/kube-apiserver-client"


def pkcs10(common_name: str, *organizations: str) -> str:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return base64.b64encode(
        made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    ).decode()


def request(name: str, signer: str = "example.com/signer", user: str = "e2e-user", **more: Any) -> dict[str, Any]:
    spec = {"request": pkcs10(user, *more.pop("organizations", ())), "signerName": signer, "usages": ["client auth"]}
    return {
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "labels": {"test": "csr"}}, "spec": {**spec, **more},
    }  # fmt: skip


def condition(type_: str, reason: str = "test") -> dict[str, Any]:
    return {"type": type_, "status": "True", "reason": reason, "message": "said so"}


@authority
async def test_the_whole_api(cluster: Authority) -> None:
    versions = (await cluster.must("GET", "/apis"))["groups"]
    group = next(g for g in versions if g["name"] == "certificates.k8s.io")
    assert "certificates.k8s.io/v1" in [v["groupVersion"] for v in group["versions"]]
    resources = (await cluster.must("GET", "/apis/certificates.k8s.io/v1"))["resources"]
    names = {r["name"].removeprefix("certificatesigningrequests") for r in resources}
    assert {"", "/approval", "/status"} <= names
    made = await cluster.must("POST", REQUESTS, request("a"))
    assert made["spec"]["username"] == "admin" and "system:masters" in made["spec"]["groups"]
    path = f"{REQUESTS}/a"
    assert (await cluster.must("GET", path))["metadata"]["uid"] == made["metadata"]["uid"]
    assert len((await cluster.must("GET", f"{REQUESTS}?labelSelector=test=csr"))["items"]) == 1
    await cluster.must("PATCH", path, {"metadata": {"annotations": {"patched": "true"}}}, headers=MERGE)
    found = await cluster.must("GET", path)
    found["metadata"]["annotations"]["updated"] = "true"
    found = await cluster.must("PUT", path, found)
    assert found["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
    await _approval_and_status(cluster, path)
    await cluster.must("DELETE", path)
    assert (await cluster.ask("GET", path))[0] == 404
    await cluster.must("POST", REQUESTS, request("b"))
    await cluster.must("DELETE", f"{REQUESTS}?labelSelector=test=csr")
    assert (await cluster.must("GET", REQUESTS))["items"] == []


async def _approval_and_status(cluster: Authority, path: str) -> None:
    found = await cluster.must("GET", f"{path}/approval")
    found["status"] = {"conditions": [condition("Approved")]}
    found = await cluster.must("PUT", f"{path}/approval", found)
    assert [c["type"] for c in found["status"]["conditions"]] == ["Approved"]
    patch = {"metadata": {"annotations": {"patchedapproval": "true"}}}
    found = await cluster.must("PATCH", f"{path}/approval", patch, headers=MERGE)
    assert found["metadata"]["annotations"]["patchedapproval"] == "true"
    certificate = base64.b64encode(cluster.pki.ca.certificate).decode()
    found = await cluster.must("GET", f"{path}/status")
    found["status"]["certificate"] = certificate
    found = await cluster.must("PUT", f"{path}/status", found)
    assert found["status"]["certificate"] == certificate
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}}
    found = await cluster.must("PATCH", f"{path}/status", patch, headers=MERGE)
    assert found["metadata"]["annotations"]["patchedstatus"] == "true"


async def approve(cluster: Authority, name: str, type_: str = "Approved", **more: Any) -> tuple[int, Any]:
    found = await cluster.must("GET", f"{REQUESTS}/{name}")
    found["status"] = {"conditions": [condition(type_)]}
    return await cluster.ask("PUT", f"{REQUESTS}/{name}/approval", found, **more)


@authority
async def test_an_approved_certificate_is_a_users(cluster: Authority) -> None:
    await cluster.must("POST", REQUESTS, request("jane", CLIENT, "jane", organizations=["devs"]))
    assert (await approve(cluster, "jane"))[0] == 200
    found = await cluster.until(f"{REQUESTS}/jane", lambda r: (r.get("status") or {}).get("certificate"))
    made = x509.load_pem_x509_certificate(base64.b64decode(found["status"]["certificate"]))
    authority_ = x509.load_pem_x509_certificate(cluster.pki.ca.certificate)
    made.verify_directly_issued_by(authority_)
    assert made.subject.rfc4514_string() == "CN=jane,O=devs"


@authority
async def test_a_denied_request_is_never_signed_and_not_approved_either(cluster: Authority) -> None:
    await cluster.must("POST", REQUESTS, request("no", CLIENT))
    assert (await approve(cluster, "no", "Denied"))[0] == 200
    status, found = await approve(cluster, "no", "Approved")
    assert status == 422, found
    assert "certificate" not in (await cluster.must("GET", f"{REQUESTS}/no"))["status"]


@authority
async def test_nobody_gets_a_certificate_of_the_masters(cluster: Authority) -> None:
    status, found = await cluster.ask("POST", REQUESTS, request("m", CLIENT, organizations=["system:masters"]))
    assert status == 403
    assert f"use of {CLIENT} signer with system:masters group is not allowed" in found["message"]


@pytest.mark.parametrize("names", [["example.com/signer"], ["example.com/*"], ["other.com/*"], []])
@authority
async def test_who_may_approve_for_a_signer(cluster: Authority, names: list[str]) -> None:
    rules: list[Any] = [
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests/approval"],
            "verbs": ["update"],
        }
    ]
    if names:
        rules.append(
            {
                "apiGroups": ["certificates.k8s.io"],
                "resources": ["signers"],
                "verbs": ["approve"],
                "resourceNames": names,
            }
        )
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "r"},
        "rules": rules,
    }
    await cluster.must("POST", f"{rbac}/clusterroles", role)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "approver"}],
    }  # fmt: skip
    await cluster.must("POST", f"{rbac}/clusterrolebindings", binding)
    await cluster.must("POST", REQUESTS, request("a"))
    status, found = await approve(cluster, "a", user="approver", groups=())
    if names and names[0].startswith("example.com/"):
        assert status == 200, found
    else:
        assert status == 403
        assert 'user not permitted to approve requests with signerName "example.com/signer"' in found["message"]
