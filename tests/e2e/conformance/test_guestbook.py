"""The guestbook: a front that writes to a primary and reads of its replicas, each a Deployment behind a Service."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.conformance.client import Namespace, Object, eventually
from tests.e2e.conformance.pods import agnhost, port, service


def tier(name: str, replicas: int, number: int, *args: str, tier: str, role: str = "") -> list[Object]:
    """A Service and the Deployment behind it."""
    labels = {"app": "guestbook" if tier == "frontend" else "agnhost", "tier": tier, **({"role": role} if role else {})}
    resources = {"requests": {"cpu": "10m", "memory": "10Mi"}}
    server = agnhost("guestbook", *args, ports=[{"containerPort": number}], resources=resources)
    template = {"metadata": {"labels": labels}, "spec": {"containers": [server], "terminationGracePeriodSeconds": 1}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    made = service(name, labels, port(number, number))
    return [{"apiVersion": "v1", "kind": "Service", **made, "metadata": {"name": name, "labels": labels}}, deployment]


def test_the_guestbook_is_written_and_read_and_stopped(space: Namespace) -> None:
    kubectl = space.kubectl
    objects = [
        *tier("agnhost-replica", 2, 6379, "--replicaof", "agnhost-primary", "--http-port", "6379",
              tier="backend", role="replica"),
        *tier("frontend", 3, 80, "--backend-port", "6379", tier="frontend"),
        *tier("agnhost-primary", 1, 6379, "--http-port", "6379", tier="backend", role="primary"),
    ]  # fmt: skip
    manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    made = kubectl("create", "-f", "-", input=manifests).split("\n")
    assert sorted(made) == ["", *sorted(
        f"{kind}/{name} created" for kind in ("deployment.apps", "service")
        for name in ("agnhost-primary", "agnhost-replica", "frontend")
    )]  # fmt: skip
    kubectl("rollout", "status", "deployment/frontend", "--timeout=60s")
    kubectl("wait", "pods", "--all", "--for=condition=Ready", "--timeout=60s")

    def ask(command: str, **query: Any) -> Any:
        path = f"{space.path('services', 'frontend', 'proxy')}/guestbook"
        answer = space.api.raw("GET", path, cmd=command, key="messages", **query)
        assert answer.status == 200, answer.data
        return json.loads(answer.data)

    eventually(lambda: ask("get") == {"data": ""})
    eventually(lambda: len(space.list("pods", labelSelector="role=replica")) == 2)
    # Not every frontend may listen yet.
    eventually(lambda: ask("set", value="TestEntry") == {"message": "Updated"})
    # Whichever replica answers: all have been told.
    for _ in range(10):
        eventually(lambda: ask("get") == {"data": "TestEntry"})
    kubectl("delete", "--grace-period=0", "--force", "-f", "-", input=manifests)
    assert kubectl("get", "deployments,services", "--no-headers") == ""
    eventually(lambda: kubectl("get", "pods", "-l", "app in (guestbook, agnhost)", "--no-headers") == "")
