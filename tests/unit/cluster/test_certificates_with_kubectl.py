"""Unmodified kubectl approves and denies certificate requests; the certificate that comes of it opens the door."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from podling.apiserver.server import HttpServer, tls_context
from podling.cluster import pki
from podling.cluster.config import ClusterConfig
from podling.cluster.control_plane import ControlPlane
from podling.store.memory import MemoryStore

every_kubectl = pytest.mark.parametrize(
    "kubectl", ["/usr/bin/kubectl", str(Path(sys.executable).parent / "kubectl")], ids=["1.32", "1.37"]
)


class Running:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = pki.Pki(directory / "pki")
        self.plane = ControlPlane(ClusterConfig(simulate=True), MemoryStore(), self.pki)
        self.http = HttpServer(self.plane.app)

    async def start(self) -> None:
        await self.plane.start()
        pair = self.pki.serving("apiserver", "kube-apiserver", ips=["127.0.0.1"])
        tls = tls_context(str(pair.certificate_path), str(pair.key_path), str(self.pki.path("ca.crt")))
        self.port = await self.http.start(tls=tls)
        admin = self.pki.client("admin", "admin", ("system:masters",))
        self.admin = self.kubeconfig("admin", admin.certificate, admin.key)

    async def close(self) -> None:
        await self.http.close()
        await self.plane.close()

    def kubeconfig(self, user: str, certificate: bytes, key: bytes) -> str:
        path = self.directory / f"{user}.kubeconfig"
        server = f"https://127.0.0.1:{self.port}"
        text = pki.kubeconfig(server=server, ca=self.pki.ca.certificate, certificate=certificate, key=key)
        pki.write_kubeconfig(path, text)
        return str(path)

    async def run(self, kubectl: str, *args: str, stdin: str = "", kubeconfig: str = "") -> str:
        pipe = asyncio.subprocess.PIPE
        environment = {"HOME": str(self.directory), "KUBECONFIG": kubeconfig or self.admin, "PATH": os.environ["PATH"]}
        process = await asyncio.create_subprocess_exec(
            kubectl, *args, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        assert process.returncode == 0, err.decode()
        return out.decode()


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Running]:
    made = Running(tmp_path)
    await made.start()
    yield made
    await made.close()


def manifest(name: str, key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return json.dumps(
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(request.public_bytes(Encoding.PEM)).decode(),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
            },
        }
    )


@every_kubectl
async def test_kubectl_certificate(cluster: Running, kubectl: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    for name in ("jane", "joe"):
        await cluster.run(kubectl, "create", "-f", "-", stdin=manifest(name, key))
    said = await cluster.run(kubectl, "certificate", "approve", "jane")
    assert said == "certificatesigningrequest.certificates.k8s.io/jane approved\n"
    said = await cluster.run(kubectl, "certificate", "deny", "joe")
    assert said == "certificatesigningrequest.certificates.k8s.io/joe denied\n"
    await cluster.run(kubectl, "wait", "csr/jane", "--for=jsonpath={.status.certificate}", "--timeout=20s")
    shown = [line.split() for line in (await cluster.run(kubectl, "get", "csr", "--no-headers")).splitlines()]
    assert [(row[0], row[-1]) for row in shown] == [("jane", "Approved,Issued"), ("joe", "Denied")]
    certificate = await cluster.run(kubectl, "get", "csr", "jane", "-o", "jsonpath={.status.certificate}")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    jane = cluster.kubeconfig("jane", base64.b64decode(certificate), pem)
    who = json.loads(await cluster.run(kubectl, "auth", "whoami", "-o", "json", kubeconfig=jane))
    assert who["status"]["userInfo"]["username"] == "jane"
