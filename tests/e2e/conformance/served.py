"""Servers in pods that the API server calls, behind a Service, with a certificate for its name; admission webhooks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podling.cluster.pki import Pki
from tests.e2e.conformance.client import Namespace, Object, Refused
from tests.e2e.conformance.pods import agnhost, pod, port, service

SERVICE = "e2e-test-webhook"
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"

_FILES = {"name": "certificate", "mountPath": "/certificate", "readOnly": True}
_VARIABLES = [{"name": f"{n}_FILE", "value": f"/certificate/tls.{e}"} for n, e in (("CERT", "crt"), ("KEY", "key"))]


def certify(space: Namespace, name: str, directory: Path) -> str:
    """A Secret with a certificate for the service `name`, in the form of a pod's volume; the authority, encoded."""
    pki = Pki(directory, "tests")
    pair = pki.serving(name, name, dns=[f"{name}.{space.name}.svc"])
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    space.create("secrets", {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": encoded})
    return base64.b64encode(pki.ca.certificate).decode()


def container(*args: str, path: str = "/readyz", number: int = 8443, **fields: Any) -> Object:
    """A command of agnhost that serves HTTPS with the certificate of its Service."""
    probe = {"httpGet": {"path": path, "port": number, "scheme": "HTTPS"}, "periodSeconds": 1}
    return agnhost(*args, volumeMounts=[_FILES], env=_VARIABLES, readinessProbe=probe, **fields)


def volumes(secret: str) -> list[Object]:
    return [{"name": "certificate", "secret": {"secretName": secret}}]


def on_each_node(space: Namespace, name: str, *args: str) -> list[str]:
    """A Service `name` and a pod of it on each node; the pods' names."""
    nodes = [node["metadata"]["name"] for node in space.list("nodes")]
    pods = [
        pod(
            f"{name}-{node}", container(*args), labels={"app": name}, volumes=volumes(name),
            nodeSelector={"kubernetes.io/hostname": node},
        )
        for node in nodes
    ]  # fmt: skip
    space.create("services", service(name, {"app": name}, port(443, 8443)))
    space.run(*pods)
    return [p["metadata"]["name"] for p in pods]


class Hooks:
    """The webhook servers of one namespace, and what is configured to be asked."""

    def __init__(self, space: Namespace, authority: str, pods: list[str]) -> None:
        self.space, self.authority, self.pods = space, authority, pods
        self.configured: list[str] = []

    @classmethod
    def start(cls, space: Namespace, directory: Path) -> Hooks:
        """A server on each node; `directory` is for its certificate."""
        return cls(space, certify(space, SERVICE, directory), on_each_node(space, SERVICE, "webhook"))

    def webhook(self, path: str, *rules: Object, **more: Any) -> Object:
        reference = {"name": SERVICE, "namespace": self.space.name, "path": path}
        return {
            "name": f"{path.strip('/').replace('/', '-')}.k8s.io",
            "clientConfig": {"service": reference, "caBundle": self.authority},
            "rules": list(rules),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.space.name}},
            **more,
        }

    def configure(self, kind: str, *webhooks: Object, name: str = "") -> str:
        """A configuration of the kind Validating or Mutating, which lives until the test ends; its path."""
        body = {
            "metadata": {"name": name or f"{self.space.name}-{len(self.configured)}", "labels": {"e2e": "in-pods"}},
            "webhooks": [hook | {"name": f"n{i}.{hook['name']}"} for i, hook in enumerate(webhooks)],
        }
        made = self.space.api.request("POST", f"{REGISTRATION}/{kind.lower()}webhookconfigurations", body)
        path = f"{REGISTRATION}/{kind.lower()}webhookconfigurations/{made['metadata']['name']}"
        self.configured.append(path)
        return path

    def forget(self) -> None:
        for path in self.configured:
            try:
                self.space.api.request("DELETE", path)
            except Refused as error:
                assert error.code == 404
        self.configured.clear()

    def reviews(self) -> list[Object]:
        """What the servers were asked, in order, each with the `pod` that was."""
        found = []
        for name in self.pods:
            for line in self.space.log(name, timestamps="true").splitlines():
                stamp, _, said = line.partition(" ")
                found.append((stamp, json.loads(said) | {"pod": name}))
        return [review for _, review in sorted(found, key=lambda pair: pair[0])]


def rule(*operations: str, resources: str = "configmaps", group: str = "", version: str = "v1") -> Object:
    return {"apiGroups": [group], "apiVersions": [version], "operations": list(operations), "resources": [resources]}


def denied(act: Callable[[], Any]) -> str:
    """What is said by an answer that refuses."""
    with pytest.raises(Refused) as caught:
        act()
    said: str = json.loads(caught.value.text)["message"]
    return said
