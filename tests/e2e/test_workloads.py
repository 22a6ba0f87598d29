"""Deployments heal, roll, and are reached by name all the while."""

from __future__ import annotations

import os
import signal
import time

from tests.e2e.harness import EXAMPLES, Kubectl, eventually, main_process, sleeper


def web(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLES / "web.yaml"))
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def ask(kubectl: Kubectl, url: str = "http://web/") -> str:
    return kubectl("exec", "client", "--", "timeout", "3", "wget", "-qO-", url)


def test_a_deployment_heals_while_a_service_finds_it(kubectl: Kubectl) -> None:
    web(kubectl)
    kubectl.apply(sleeper("client"))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    eventually(lambda: "Hello from web-" in ask(kubectl))
    pods = [p["metadata"]["name"] for p in kubectl.json("get", "pods", "-l", "app=web")["items"]]
    kubectl("delete", "pod", pods[0], "--wait=false")
    for _ in range(10):
        assert "Hello from web-" in ask(kubectl)
        time.sleep(0.1)
    eventually(lambda: kubectl.json("get", "deployment", "web")["status"].get("readyReplicas") == 2)
    # A killed process is started again in its pod.
    before = kubectl.json("get", "pod", pods[1])["status"]["containerStatuses"][0]
    os.kill(main_process(before["containerID"]), signal.SIGKILL)
    again = eventually(
        lambda: next(
            c for c in kubectl.json("get", "pod", pods[1])["status"]["containerStatuses"] if c["restartCount"] == 1
        )
    )
    assert again["lastState"]["terminated"]["exitCode"] == 137
    eventually(lambda: kubectl.json("get", "deployment", "web")["status"].get("readyReplicas") == 2)
    assert "Hello from web-" in ask(kubectl)


def test_names_resolve_in_every_form(kubectl: Kubectl) -> None:
    web(kubectl)
    kubectl.apply(sleeper("client"))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    for name in ("web", f"web.{kubectl.namespace}", f"web.{kubectl.namespace}.svc.cluster.local"):
        assert "Hello from web-" in ask(kubectl, f"http://{name}/")


def test_scale_roll_undo(kubectl: Kubectl) -> None:
    web(kubectl)
    kubectl("scale", "deployment/web", "--replicas=4")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    kubectl("set", "env", "deployment/web", "COLOR=blue")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(kubectl("rollout", "history", "deployment/web").strip().splitlines()) == 4
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert "COLOR" not in kubectl("get", "deployment", "web", "-o", "yaml")
    eventually(lambda: len(kubectl.json("get", "pods", "-l", "app=web")["items"]) == 4)


def test_a_node_port_is_open_on_the_node(kubectl: Kubectl) -> None:
    web(kubectl)
    kubectl("patch", "service", "web", "-p", '{"spec":{"type":"NodePort"}}')
    port = kubectl.json("get", "service", "web")["spec"]["ports"][0]["nodePort"]
    kubectl.apply(sleeper("client"))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    node = kubectl.json("get", "pod", "client")["status"]["hostIP"]
    eventually(lambda: "Hello from web-" in ask(kubectl, f"http://{node}:{port}/"))


def test_a_service_without_endpoints_refuses_at_once(kubectl: Kubectl) -> None:
    kubectl("create", "service", "clusterip", "nobody", "--tcp=80:80")
    kubectl.apply(sleeper("client"))
    kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    began = time.monotonic()
    assert "refused" in kubectl.fails("exec", "client", "--", "timeout", "10", "wget", "-qO-", "http://nobody/")
    assert time.monotonic() - began < 5
