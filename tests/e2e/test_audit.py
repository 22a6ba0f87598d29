"""The audit log and encryption at rest, as an administrator meets them: flags, files and real kubectl.

The clusters are simulated: no containers are needed to see what the API server writes.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.harness import CommandError, Kubectl, eventually, free_port, kubectls, podling

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:nodes"]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: RequestResponse
  verbs: [create, patch, update, delete]
- level: Metadata
"""


@contextmanager
def cluster(directory: Path, port: str, *flags: str) -> Iterator[Kubectl]:
    words = [word for flag in flags for word in ("--kube-apiserver-arg", flag)]
    try:
        podling(directory, "up", "--simulate", "--name", directory.name, "--port", port, *words)
        yield Kubectl(next(iter(kubectls().values())), directory / "admin.kubeconfig")
    finally:
        podling(directory, "down")


def events(log: Path, **wanted: str) -> list[dict[str, Any]]:
    """Events of kubectl's requests, by fields of their objectRef, verb or stage."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    mine = [e for e in found if e["user"].get("username") == "kubernetes-admin"]
    return [e for e in mine if all({**e, **e.get("objectRef", {})}.get(k) == v for k, v in wanted.items())]


def test_the_audit_log_holds_what_kubectl_does(tmp_path: Path) -> None:
    log, policy = tmp_path / "audit.log", tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with cluster(tmp_path / "audited", free_port(), f"audit-policy-file={policy}", f"audit-log-path={log}") as kubectl:
        kubectl("create", "secret", "generic", "s", "--from-literal=password=topsecret")
        kubectl("create", "configmap", "c", "--from-literal=k=v")
        kubectl("label", "configmap", "c", "seen=yes")
        kubectl("run", "p", "--image=busybox")
        kubectl("wait", "--for=condition=Ready", "pod/p")
        kubectl("logs", "p")
        kubectl.outcome("get", "pods", "--as=bob")
        eventually(lambda: events(log, subresource="log", stage="ResponseComplete")[0])

    (made,) = events(log, resource="secrets", verb="create")
    assert made["level"] == "Metadata" and "requestObject" not in made and made["responseStatus"]["code"] == 201
    assert "topsecret" not in log.read_text() and base64.b64encode(b"topsecret").decode() not in log.read_text()
    (made,) = events(log, resource="configmaps", verb="create")
    assert made["requestObject"]["data"] == made["responseObject"]["data"] == {"k": "v"}
    assert made["annotations"]["authorization.k8s.io/decision"] == "allow" and made["userAgent"].startswith("kubectl/")
    (patched,) = events(log, resource="configmaps", verb="patch")
    assert patched["requestObject"] == {"metadata": {"labels": {"seen": "yes"}}}
    (made,) = events(log, resource="pods", verb="create")
    assert made["annotations"]["pod-security.kubernetes.io/enforce-policy"] == "privileged:latest"
    assert [e["stage"] for e in events(log, subresource="log")] == ["ResponseStarted", "ResponseComplete"]
    assert {e["stage"] for e in events(log, resource="pods", verb="watch")} == {"ResponseStarted", "ResponseComplete"}
    (refused,) = [e for e in events(log, resource="pods", verb="list") if "impersonatedUser" in e]
    assert refused["impersonatedUser"]["username"] == "bob" and refused["responseStatus"]["reason"] == "Forbidden"
    names = {json.loads(line)["user"].get("username") for line in log.read_text().splitlines()}
    assert {"system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"} <= names


def configuration(*providers: str) -> str:
    head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n"
    return f"{head}resources:\n- resources: [secrets]\n  providers: [{', '.join(providers)}]\n"


def provider(kind: str, name: str) -> str:
    secret = base64.b64encode(name.encode().ljust(32)).decode()
    return f"{{{kind}: {{keys: [{{name: {name}, secret: {secret}}}]}}}}"


def on_disk(directory: Path, text: bytes) -> bool:
    return any(text in file.read_bytes() for file in directory.glob("state.db*"))


def test_secrets_are_encrypted_on_the_disk_and_keys_can_be_changed(tmp_path: Path) -> None:
    directory, file = tmp_path / "encrypted", tmp_path / "encryption.yaml"
    port = free_port()
    value = base64.b64encode(b"topsecret" * 20)
    old, new = provider("aescbc", "key1"), provider("secretbox", "key2")

    file.write_text(configuration(old, "{identity: {}}"))
    with cluster(directory, port, f"encryption-provider-config={file}") as kubectl:
        kubectl("create", "secret", "generic", "s", f"--from-literal=p={'topsecret' * 20}")
        assert on_disk(directory, b"k8s:enc:aescbc:v1:key1:") and not on_disk(directory, value)

    file.write_text(configuration(new, old))
    with cluster(directory, port) as kubectl:
        assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.p}") == value.decode()
        everything = kubectl("get", "secrets", "--all-namespaces", "-o", "json")
        assert "secret/s replaced" in kubectl("replace", "-f", "-", input=everything)
        assert on_disk(directory, b"k8s:enc:secretbox:v1:key2:")

    file.write_text(configuration(new))
    with cluster(directory, port) as kubectl:
        assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.p}") == value.decode()

    file.write_text(configuration(old))
    said = refusal(directory, "--port", port)
    assert f'{file} can\'t decrypt /registry/core/secrets/default/s, encrypted with the secretbox key "key2"' in said
    said = refusal(directory, "--port", port, "--kube-apiserver-arg", "encryption-provider-config=")
    assert "/registry/core/secrets/default/s is encrypted: give the --encryption-provider-config" in said
    podling(directory, "down", "--purge")


def refusal(directory: Path, *words: str) -> str:
    """What `podling up` says when it does not."""
    command = [sys.executable, "-m", "podling.cli.main", "up", "--simulate", "--data-dir", str(directory), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if not done.returncode:
        raise CommandError("the cluster started")
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr
