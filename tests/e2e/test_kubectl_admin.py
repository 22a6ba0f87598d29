"""kubectl cordon, drain, uncordon, taint, auth and certificate."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.harness import IMAGE, Kubectl, eventually, sleeper


@pytest.fixture
def node(kubectl: Kubectl) -> Iterator[str]:
    """The name of the node, which is schedulable again afterwards."""
    name = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    try:
        yield name
    finally:
        kubectl("uncordon", name)
        kubectl.outcome("taint", "nodes", name, "e2e-")


def test_cordon_and_drain(kubectl: Kubectl, node: str) -> None:
    kubectl("create", "deployment", "d", f"--image={IMAGE}", "--", "sleep", "60")
    kubectl("wait", "deployment/d", "--for=condition=Available", "--timeout=30s")
    kubectl.apply(sleeper("bare", labels={"app": "bare"}))
    assert kubectl("cordon", node) == f"node/{node} cordoned\n"
    assert kubectl("cordon", node) == f"node/{node} already cordoned\n"
    assert "Ready,SchedulingDisabled" in kubectl("get", "node", node)
    said = kubectl.fails("drain", node, "--pod-selector=app=bare", "--timeout=5s")
    assert f"cannot delete Pods that declare no controller (use --force to override): {kubectl.namespace}/bare" in said
    kubectl("drain", node, "--pod-selector=app=bare", "--force", "--timeout=20s")
    kubectl("create", "pdb", "p", "--selector=app=d", "--min-available=1")
    kubectl("wait", "pdb/p", "--for=jsonpath={.status.currentHealthy}=1", "--timeout=10s")
    code, said = kubectl.outcome("drain", node, "--pod-selector=app=d", "--timeout=1s")
    assert code == 1 and "Cannot evict pod as it would violate the pod's disruption budget." in said
    kubectl("delete", "pdb", "p")
    kubectl("patch", "deployment", "d", "-p", '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":0}}}}')
    drained = kubectl("drain", node, "--pod-selector=app=d", "--grace-period=1", "--timeout=30s")
    assert f"node/{node} drained" in drained and "evicted" in drained
    eventually(lambda: "Pending" in kubectl("get", "pods", "-l", "app=d"))
    assert kubectl("uncordon", node) == f"node/{node} uncordoned\n"
    kubectl("wait", "deployment/d", "--for=condition=Available", "--timeout=30s")


def test_taints(kubectl: Kubectl, node: str) -> None:
    kubectl("taint", "nodes", node, "e2e=a:NoSchedule")
    kubectl.apply(sleeper("p"))
    message = eventually(lambda: kubectl.json("get", "pod", "p")["status"]["conditions"][0]["message"])
    assert message.startswith("0/1 nodes are available: 1 node(s) had untolerated taint")
    assert "--overwrite is false" in kubectl.fails("taint", "nodes", node, "e2e=b:NoSchedule")
    kubectl("taint", "nodes", node, "e2e=b:NoSchedule", "--overwrite")
    assert "untainted" in kubectl("taint", "nodes", node, "e2e:NoSchedule-")
    kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=30s")


def test_auth(kubectl: Kubectl) -> None:
    user = f"--as=system:serviceaccount:{kubectl.namespace}:default"
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert kubectl("auth", "can-i", "*", "*", "--all-namespaces") == "yes\n"
    assert kubectl.outcome("auth", "can-i", "get", "pods", user) == (1, "no\n")
    said = kubectl.fails("get", "pods", user)
    assert 'cannot list resource "pods" in API group "" in the namespace' in said
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "b", "--role=r", f"--serviceaccount={kubectl.namespace}:default")
    assert eventually(lambda: kubectl.outcome("auth", "can-i", "get", "pods", user)[1] == "yes\n")
    assert any(line.split() == ["pods", "[]", "[]", "[get]"]
               for line in kubectl("auth", "can-i", "--list", user).splitlines())  # fmt: skip
    assert "kubernetes-admin" in kubectl("auth", "whoami")
    who = kubectl.json("auth", "whoami", "--as=ann", "--as-group=dev", "--as-uid=5")["status"]["userInfo"]
    assert who == {"username": "ann", "uid": "5", "groups": ["dev", "system:authenticated"]}
    role = kubectl.json("create", "role", "r", "--verb=list", "--resource=secrets", "--dry-run=client")
    code, said = kubectl.outcome("auth", "reconcile", "-f", "-", input=json.dumps(role))
    assert code == 0 and "missing rules added" in said
    code, said = kubectl.outcome("auth", "reconcile", "-f", "-", "--remove-extra-permissions", input=json.dumps(role))
    assert code == 0 and "extra rules removed" in said
    assert [r["resources"] for r in kubectl.json("get", "role", "r")["rules"]] == [["secrets"]]
    more = kubectl.json("create", "role", "more", "--verb=get", "--resource=nodes", "--dry-run=client")
    said = kubectl.fails("create", "-f", "-", user, input=json.dumps(more))
    assert 'cannot create resource "roles" in API group "rbac.authorization.k8s.io"' in said


def test_certificates(kubectl: Kubectl) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    names = [f"{kubectl.namespace}-{n}" for n in ("yes", "no")]
    spec = {
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
        "request": base64.b64encode(wanted.public_bytes(serialization.Encoding.PEM)).decode(),
    }
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    try:
        kubectl.apply(*({**kind, "metadata": {"name": n}, "spec": spec} for n in names))
        assert kubectl("get", "csr", names[0]).split()[-1] == "Pending"
        kubectl("certificate", "approve", names[0])
        issued = eventually(lambda: kubectl.json("get", "csr", names[0])["status"]["certificate"])
        certificate = x509.load_pem_x509_certificate(base64.b64decode(issued))
        assert certificate.subject == name
        assert kubectl("get", "csr", names[0]).split()[-1] == "Approved,Issued"
        kubectl("certificate", "deny", names[1])
        assert kubectl("get", "csr", names[1]).split()[-1] == "Denied"
        assert "already Denied" in kubectl.outcome("certificate", "approve", names[1])[1]
    finally:
        kubectl("delete", "csr", *names, "--ignore-not-found")
