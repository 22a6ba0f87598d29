"""kubectl where no container is needed: against simulated nodes, which start in a second and need no privileges."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.e2e.harness import Kubectl, UnixConnection, eventually, running

CONTROLLER = {
    "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "rc"},
    "spec": {
        "replicas": 2, "selector": {"app": "rc"},
        "template": {
            "metadata": {"labels": {"app": "rc"}},
            "spec": {"containers": [{"name": "update-demo", "image": "demo:1", "ports": [{"containerPort": 6379}]}]},
        },
    },
}  # fmt: skip
#: What the conformance programme asks of each pod of the update demo.
RUNNING = (
    '{{if (exists . "status" "containerStatuses")}}{{range .status.containerStatuses}}'
    '{{if (and (eq .name "update-demo") (exists . "state" "running"))}}true{{end}}{{end}}{{end}}'
)


def controller(kubectl: Kubectl) -> list[str]:
    """Applies the ReplicationController; its pods, once they run."""
    kubectl.apply(CONTROLLER)
    return demo(kubectl, 2)


def demo(kubectl: Kubectl, count: int) -> list[str]:
    def pods() -> list[str]:
        return kubectl(
            "get", "pods", "-l", "app=rc", "-o", "template={{range.items}}{{.metadata.name}} {{end}}"
        ).split()

    eventually(lambda: len(pods()) == count)
    for pod in pods():
        eventually(lambda pod=pod: kubectl("get", "pods", pod, "-o", f"template={RUNNING}") == "true")
    return pods()


def test_the_update_demo(simulated: Kubectl) -> None:
    controller(simulated)
    simulated("scale", "rc", "rc", "--replicas=1", "--timeout=30s")
    demo(simulated, 1)
    simulated("scale", "rc", "rc", "--current-replicas=1", "--replicas=2", "--timeout=30s")
    assert "2 current / 2 desired" in simulated("describe", "rc", "rc")
    demo(simulated, 2)
    simulated("delete", "rc", "rc", "--grace-period=0", "--force")
    simulated("wait", "--for=delete", "pods", "-l", "app=rc", "--timeout=20s")
    assert simulated("get", "rc,svc", "-l", "app=rc", "--no-headers") == ""


def test_exposing_a_controller_and_a_service(simulated: Kubectl) -> None:
    controller(simulated)
    assert simulated("expose", "rc", "rc", "--name=first", "--port=1234", "--target-port=6379") == (
        "service/first exposed\n"
    )
    simulated("expose", "service", "first", "--name=second", "--port=2345", "--target-port=6379")
    for name, port in (("first", 1234), ("second", 2345)):
        spec = simulated.json("get", "service", name)["spec"]
        assert [(p["port"], p["targetPort"]) for p in spec["ports"]] == [(port, 6379)]
        eventually(lambda name=name: simulated("get", "endpoints", name).count(":6379") == 2)
    pod = controller(simulated)[0]
    simulated("expose", "pod", pod, "--name=third", "--port=80", "--type=LoadBalancer", "--labels=a=b")
    third = simulated.json("get", "service", "third")
    assert (third["spec"]["selector"], third["metadata"]["labels"]) == ({"app": "rc"}, {"a": "b"})
    said = simulated.fails("expose", "configmap", "kube-root-ca.crt", "--port=1")
    assert said == "error: cannot expose a ConfigMap\n"


def test_patching_each_pod_of_a_controller(simulated: Kubectl) -> None:
    for pod in controller(simulated):
        simulated("patch", "pod", pod, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
        assert simulated("get", "pod", pod, "-o", "jsonpath={.metadata.annotations.x}") == "y"


def test_replacing_the_image_of_a_running_pod(simulated: Kubectl) -> None:
    simulated("run", "p", "--image=first:1", "--labels=run=p", "--pod-running-timeout=2m0s")
    simulated("wait", "pod/p", "--for=condition=Ready", "--timeout=20s")
    live = simulated("get", "pod", "p", "-o", "json")
    assert simulated("replace", "-f", "-", input=live.replace("first:1", "second:1")) == "pod/p replaced\n"
    assert simulated.json("get", "pod", "p")["spec"]["containers"][0]["image"] == "second:1"
    dry = '{"spec":{"containers":[{"name":"p","image":"third:1"}]}}'
    assert simulated("patch", "pod", "p", "-p", dry, "--dry-run=server") == "pod/p patched\n"
    assert simulated.json("get", "pod", "p")["spec"]["containers"][0]["image"] == "second:1"
    old = simulated.json("get", "pod", "p")["metadata"]["uid"]
    said = simulated("replace", "--force", "--grace-period=0", "-f", "-", input=live)
    assert 'pod "p" ' in said and said.endswith("pod/p replaced\n")
    assert simulated.json("get", "pod", "p")["metadata"]["uid"] != old


def test_labels_show_as_columns(simulated: Kubectl) -> None:
    simulated("run", "p", "--image=x")
    simulated("label", "pods", "p", "testing-label=value")
    assert "value" in simulated("get", "pod", "p", "-L", "testing-label")
    simulated("label", "pods", "p", "testing-label-")
    assert "value" not in simulated("get", "pod", "p", "-L", "testing-label")


def test_the_proxy_on_a_free_port_and_on_a_socket(simulated: Kubectl, tmp_path: Path) -> None:
    with running(simulated, "proxy", "-p", "0", "--disable-filter") as (_, first):
        port = re.fullmatch(r"Starting to serve on 127\.0\.0\.1:(\d+)\n", first)
        assert port is not None
        with urlopen(f"http://127.0.0.1:{port[1]}/api/", timeout=10) as answer:
            assert json.load(answer)["versions"] == ["v1"]
    with running(simulated, "proxy", f"--unix-socket={tmp_path}/socket") as (_, first):
        assert first == f"Starting to serve on {tmp_path}/socket\n"
        connection = UnixConnection(tmp_path / "socket")
        connection.request("GET", "/api/")
        assert json.loads(connection.getresponse().read())["versions"] == ["v1"]
        connection.close()


def test_versions_and_the_cluster(simulated: Kubectl) -> None:
    assert {"v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1"} <= set(simulated("api-versions").split())
    info = simulated("cluster-info")
    assert re.search(r"Kubernetes control plane.* is running at .*https://127\.0\.0\.1:\d+", info)
    versions = simulated.json("version")
    for side in ("clientVersion", "serverVersion"):
        assert {"major", "minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler",
                "platform"} <= versions[side].keys()  # fmt: skip
    assert (versions["serverVersion"]["major"], versions["serverVersion"]["minor"]) == ("1", "37")


def test_explaining(simulated: Kubectl) -> None:
    recursive = simulated("explain", "deployment.spec.strategy", "--recursive")
    assert "  rollingUpdate\t<RollingUpdateDeployment>\n    maxSurge\t<IntOrString>\n" in recursive
    assert "    maxUnavailable\t<IntOrString>\n  type\t<string>\n" in recursive
    old = simulated("explain", "cronjobs.spec", "--output=plaintext-openapiv2")
    assert "RESOURCE: spec <Object>" in old and "   schedule\t<string> -required-" in old
    assert "jobTemplate\t<Object>" in simulated("explain", "cj.spec", "--output=plaintext-openapiv2", "--recursive")


@pytest.fixture
def gadgets(simulated: Kubectl) -> Iterator[str]:
    """The group of a custom resource definition of this test's own."""
    group = f"{secrets.token_hex(3)}.example.com"
    properties = {"size": {"type": "integer", "description": "How large it is."}}
    spec = {"type": "object", "description": "What is wanted.", "properties": properties, "required": ["size"]}
    schema = {"type": "object", "description": "A thing.", "properties": {"spec": spec}}
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        "subresources": {"scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
    }  # fmt: skip
    names = {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "shortNames": ["gg"], "categories": ["all"]}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }  # fmt: skip
    try:
        simulated.apply(definition)
        simulated("wait", f"crd/gadgets.{group}", "--for=condition=Established", "--timeout=10s")
        yield group
    finally:
        simulated("delete", "crd", f"gadgets.{group}")


def test_a_custom_resource_is_as_good_as_any(simulated: Kubectl, gadgets: str) -> None:
    gadget: dict[str, Any] = {
        "apiVersion": f"{gadgets}/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 3},
    }  # fmt: skip
    eventually(lambda: simulated.apply(gadget))
    assert simulated("get", f"gadgets.{gadgets}").split() == ["NAME", "SIZE", "g", "3"]
    assert f"gadget.{gadgets}/g" in simulated("get", "all", "-o", "name")
    assert f"{gadgets}/v1" in simulated("api-versions").split()
    assert simulated("api-resources", f"--api-group={gadgets}", "--no-headers").split() == [
        "gadgets", "gg", f"{gadgets}/v1", "true", "Gadget",
    ]  # fmt: skip
    explained = eventually(lambda: simulated("explain", f"gadgets.{gadgets}.spec"))
    assert "size\t<integer> -required-\n    How large it is." in explained
    simulated("scale", f"gadgets.{gadgets}", "g", "--replicas=5")
    assert simulated.json("get", f"gadgets.{gadgets}", "g")["spec"]["size"] == 5
    wrong = {**gadget, "metadata": {"name": "w"}, "spec": {"size": "x"}}
    said = simulated.fails("apply", "-f", "-", input=json.dumps(wrong))
    assert "spec.size" in said and "integer" in said
    # What a shell asks for at the tabulator key.
    assert completions(simulated, "get", "gadg") == [f"gadgets.{gadgets}"]
    assert completions(simulated, "get", f"gadgets.{gadgets}", "") == ["g"]
    assert completions(simulated, "delete", f"gadgets.{gadgets}", "g") == ["g"]


def completions(kubectl: Kubectl, *words: str) -> list[str]:
    """What `kubectl` offers a shell for the last word."""
    first, *rest = words
    environment = {"KUBECONFIG": str(kubectl.kubeconfig)}
    said = kubectl.bare("__complete", first, "-n", kubectl.namespace, *rest, env=environment)
    return [line.split("\t")[0] for line in said.splitlines() if not line.startswith(":")]


def test_plugins(simulated: Kubectl, tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-say_hello"
    plugin.write_text('#!/bin/sh\necho "plugin says $*"\n')
    plugin.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert str(plugin) in simulated("plugin", "list", env=environment)
    assert simulated.bare("say-hello", "a", "b", env=environment) == "plugin says a b\n"


def test_configuration_files(simulated: Kubectl, tmp_path: Path) -> None:
    """kubectl config: a second context and user beside the administrator's, in a copy of the file."""
    copy = tmp_path / "config"
    copy.write_text(simulated.kubeconfig.read_text())
    own = Kubectl(simulated.program, copy, simulated.namespace)
    cluster = own("config", "get-clusters").split()[1]
    own("create", "serviceaccount", "robot")
    own("create", "rolebinding", "robot", "--clusterrole=view", f"--serviceaccount={own.namespace}:robot")
    token = own("create", "token", "robot").strip()
    own("config", "set-credentials", "robot", f"--token={token}")
    own("config", "set-context", "robot", f"--cluster={cluster}", "--user=robot", f"--namespace={own.namespace}")
    assert own("config", "use-context", "robot") == 'Switched to context "robot".\n'
    name = f"system:serviceaccount:{own.namespace}:robot"
    who = json.loads(own("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert who["username"] == name and f"system:serviceaccounts:{own.namespace}" in who["groups"]
    assert own("get", "pods") == ""
    said = own.fails("get", "secrets")
    assert said == (
        f'Error from server (Forbidden): secrets is forbidden: User "{name}" cannot list resource "secrets" '
        f'in API group "" in the namespace "{own.namespace}"\n'
    )
    own("config", "set", f"clusters.{cluster}.tls-server-name", "localhost")
    own("get", "pods")
    own("config", "rename-context", "robot", "other")
    own("config", "unset", "current-context")
    assert sorted(own("config", "get-contexts", "-o", "name").split()) == sorted([cluster, "other"])
    own("config", "delete-context", "other")
    own("config", "delete-user", "robot")
    assert "robot" not in copy.read_text()
