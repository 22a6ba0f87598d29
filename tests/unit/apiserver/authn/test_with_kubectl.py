"""Unmodified kubectl asks who it is and what it may do, over TLS, of an API server with everything in place."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from podling.api import certificates_v1, core_v1, meta_v1, rbac_v1
from podling.apiserver.assembly import Assembly, Settings
from podling.apiserver.authz import policy
from podling.apiserver.server import HttpServer, tls_context
from podling.client.client import ApiClient
from podling.cluster import pki
from podling.store.memory import MemoryStore

every_kubectl = pytest.mark.parametrize(
    "kubectl", ["/usr/bin/kubectl", str(Path(sys.executable).parent / "kubectl")], ids=["1.32", "1.37"]
)


class Server:
    """An API server on loopback, with the default policy and a service account."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = pki.Pki(directory / "pki")
        self.store = MemoryStore()
        self.assembly = Assembly(self.store, Settings(signing_key=self.pki.service_account_key().key))
        self.http = HttpServer(self.assembly.app)
        self.client = ApiClient(self.assembly.app)

    async def start(self) -> None:
        pair = self.pki.serving("apiserver", "kube-apiserver", ips=["127.0.0.1"])
        await self.store.open()
        await self.assembly.start()
        tls = tls_context(str(pair.certificate_path), str(pair.key_path), str(self.pki.path("ca.crt")))
        self.port = await self.http.start(tls=tls)
        for namespace in ("default", "kube-system", "kube-public"):
            with contextlib.suppress(Exception):
                await self.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=namespace)))
        await policy.reconcile(self.client)
        meta = meta_v1.ObjectMeta(name="builder", namespace="default")
        await self.client.create(core_v1.ServiceAccount(metadata=meta))

    async def close(self) -> None:
        await self.http.close()
        await self.assembly.app.close()
        await self.store.close()

    def kubeconfig(self, user: str, *groups: str, token: str = "") -> str:
        path = self.directory / f"{user}.kubeconfig"
        pair = None if token else self.pki.client(user, user, groups)
        text = pki.kubeconfig(
            server=f"https://127.0.0.1:{self.port}",
            ca=self.pki.ca.certificate,
            certificate=pair.certificate if pair else None,
            key=pair.key if pair else None,
            token=token or None,
        )
        pki.write_kubeconfig(path, text)
        return str(path)

    async def run(self, kubectl: str, kubeconfig: str, *args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            kubectl,
            *args,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={"HOME": str(self.directory), "KUBECONFIG": kubeconfig, "PATH": os.environ["PATH"]},
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    await made.start()
    yield made
    await made.close()


@every_kubectl
async def test_whoami(server: Server, kubectl: str) -> None:
    config = server.kubeconfig("alice", "devs", "ops")
    code, out, err = await server.run(kubectl, config, "auth", "whoami")
    assert code == 0, err
    assert "alice" in out and "[devs ops system:authenticated]" in out
    assert "X509SHA256=" in out


@every_kubectl
async def test_rights_come_with_a_binding_and_go_with_it(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    alice = server.kubeconfig("alice", "devs")

    async def may(*args: str) -> str:
        return (await server.run(kubectl, alice, "auth", "can-i", *args))[1].strip()

    assert await may("list", "pods") == "no"
    code, _, err = await server.run(kubectl, alice, "get", "pods")
    assert code == 1
    assert (
        'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "default"' in err
    )
    made = await server.run(kubectl, admin, "create", "role", "r", "--verb=get,list", "--resource=pods")
    assert made[0] == 0, made
    made = await server.run(kubectl, admin, "create", "rolebinding", "b", "--role=r", "--group=devs")
    assert made[0] == 0, made
    assert await may("list", "pods") == "yes"
    assert await may("list", "pods", "-n", "kube-system") == "no"
    assert await may("get", "/version") == "yes"
    code, out, _ = await server.run(kubectl, alice, "auth", "can-i", "--list")
    assert code == 0 and "pods" in out and "selfsubjectaccessreviews.authorization.k8s.io" in out
    await server.run(kubectl, admin, "delete", "rolebinding", "b")
    assert await may("list", "pods") == "no"


@every_kubectl
async def test_impersonation(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    code, out, _ = await server.run(
        kubectl, admin, "auth", "whoami", "--as=bob", "--as-group=a", "--as-group=b", "--as-uid=7"
    )
    assert code == 0
    assert "bob" in out and "[a b system:authenticated]" in out and "7" in out
    code, out, _ = await server.run(
        kubectl, admin, "auth", "can-i", "create", "pods", "--as=system:serviceaccount:kube-system:job-controller"
    )
    assert (code, out) == (0, "yes\n")
    alice = server.kubeconfig("alice")
    code, _, err = await server.run(kubectl, alice, "get", "pods", "--as=root", "--as-group=system:masters")
    assert code == 1
    # The first of the rights that are looked for is named.
    assert 'User "alice" cannot impersonate-on:user-info:' in err


@every_kubectl
async def test_a_service_account_token_is_issued_and_used(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    code, token, err = await server.run(kubectl, admin, "create", "token", "builder", "--duration=20m")
    assert code == 0, err
    config = server.kubeconfig("builder", token=token.strip())
    code, out, err = await server.run(kubectl, config, "auth", "whoami")
    assert code == 0, err
    assert "system:serviceaccount:default:builder" in out and "JTI=" in out
    assert "[system:serviceaccounts system:serviceaccounts:default system:authenticated]" in out
    code, out, err = await server.run(kubectl, config, "get", "--raw", "/.well-known/openid-configuration")
    assert code == 0 and '"issuer":"https://kubernetes.default.svc.cluster.local"' in out, err
    code, out, err = await server.run(kubectl, config, "get", "--raw", "/openid/v1/jwks")
    assert code == 0 and '"kty":"EC"' in out, err
    await server.run(kubectl, admin, "delete", "serviceaccount", "builder")
    code, _, err = await server.run(kubectl, config, "get", "pods")
    assert code == 1
    assert "You must be logged in to the server" in err or "Unauthorized" in err


@every_kubectl
async def test_nobody_grants_what_they_do_not_hold(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    granted = ["create", "clusterrole", "rbac", "--verb=*", "--resource=roles,rolebindings"]
    assert (await server.run(kubectl, admin, *granted))[0] == 0
    bound = ["create", "rolebinding", "rbac", "--clusterrole=rbac", "--user=alice"]
    assert (await server.run(kubectl, admin, *bound))[0] == 0
    alice = server.kubeconfig("alice")
    # `--verb=*` on roles includes bind and escalate; on cluster roles nothing is held, so binding one takes its rights.
    own = await server.run(kubectl, alice, "create", "rolebinding", "x", "--clusterrole=cluster-admin", "--user=alice")
    assert own[0] == 1
    assert 'user "alice" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not' in own[2]
    assert '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}' in own[2]


@every_kubectl
async def test_a_wrong_or_missing_credential(server: Server, kubectl: str) -> None:
    config = server.kubeconfig("nobody", token="not-a-token")
    code, _, err = await server.run(kubectl, config, "get", "pods")
    assert code == 1
    assert "You must be logged in to the server" in err or "Unauthorized" in err


@every_kubectl
async def test_subject_access_reviews_are_created_like_other_objects(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    review = b"""
apiVersion: authorization.k8s.io/v1
kind: SubjectAccessReview
spec:
  user: system:kube-scheduler
  resourceAttributes: {verb: create, resource: pods, subresource: binding, namespace: default}
"""
    shown = "-o=jsonpath={.status.allowed} {.status.reason}"
    code, out, err = await server.run(kubectl, admin, "create", "--validate=false", "-f", "-", shown, stdin=review)
    assert code == 0, err
    assert out == (
        'true RBAC: allowed by ClusterRoleBinding "system:kube-scheduler" of ClusterRole "system:kube-scheduler" '
        'to User "system:kube-scheduler"'
    )


@every_kubectl
async def test_reconcile_takes_roles_from_a_file(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    role = b"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: viewer}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
"""
    code, out, err = await server.run(kubectl, admin, "auth", "reconcile", "-f", "-", stdin=role)
    assert code == 0, err
    assert "clusterrole.rbac.authorization.k8s.io/viewer reconciled" in out


@every_kubectl
async def test_auth_reconcile_adds_what_is_missing_and_takes_away_when_told(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    meta = {"name": "r", "namespace": "default"}

    async def reconcile(verbs: list[str], *more: str) -> str:
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": rules}
        stdin = json.dumps(role).encode()
        code, out, err = await server.run(kubectl, admin, "auth", "reconcile", "-f", "-", *more, stdin=stdin)
        assert code == 0, err
        return out

    async def verbs() -> set[str]:
        found = await server.client.get(rbac_v1.Role, "r", "default")
        return {v for r in found.rules or [] for v in r.verbs}

    assert "role.rbac.authorization.k8s.io/r reconciled" in await reconcile(["get"])
    assert await verbs() == {"get"}
    await reconcile(["list"])
    assert await verbs() == {"get", "list"}
    await reconcile(["list"], "--remove-extra-permissions")
    assert await verbs() == {"list"}


@every_kubectl
async def test_certificates_are_approved_and_denied(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    for name in ("yes", "no"):
        spec = certificates_v1.CertificateSigningRequestSpec(
            request=pkcs10("jane"), signer_name="example.com/signer", usages=["client auth"]
        )
        meta = meta_v1.ObjectMeta(name=name)
        await server.client.create(certificates_v1.CertificateSigningRequest(metadata=meta, spec=spec))
    code, out, err = await server.run(kubectl, admin, "certificate", "approve", "yes")
    assert (code, out) == (0, "certificatesigningrequest.certificates.k8s.io/yes approved\n"), err
    code, out, err = await server.run(kubectl, admin, "certificate", "deny", "no")
    assert (code, out) == (0, "certificatesigningrequest.certificates.k8s.io/no denied\n"), err
    code, out, _ = await server.run(kubectl, admin, "get", "csr")
    rows = {line.split()[0]: line.split()[-1] for line in out.splitlines()[1:]}
    assert code == 0 and rows == {"yes": "Approved", "no": "Denied"}
    alice = server.kubeconfig("alice")
    code, _, err = await server.run(kubectl, alice, "certificate", "approve", "no")
    assert code == 1 and 'cannot get resource "certificatesigningrequests"' in err


def pkcs10(common_name: str) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


@every_kubectl
async def test_create_token_says_what_can_not_be(server: Server, kubectl: str) -> None:
    admin = server.kubeconfig("root", "system:masters")
    code, _, err = await server.run(kubectl, admin, "create", "token", "nobody")
    assert code == 1 and 'serviceaccounts "nobody" not found' in err
    code, _, err = await server.run(kubectl, admin, "create", "token", "builder", "--duration=5m")
    assert code == 1 and "may not specify a duration less than 10 minutes" in err
    code, out, err = await server.run(kubectl, admin, "create", "token", "builder", "--audience=vault")
    assert code == 0, err
    config = server.kubeconfig("vaulted", token=out.strip())
    code, _, err = await server.run(kubectl, config, "get", "pods")
    assert code == 1 and "must be logged in to the server" in err
