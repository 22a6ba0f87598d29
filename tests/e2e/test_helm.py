"""Helm 4 and the chart `charts/shop`: against simulated nodes for all that Helm does, and once with real containers."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import CommandError, Kubectl, eventually, free_port, kubectls, podling, run

CHART = str(Path(__file__).parent / "charts" / "shop")
HELM = Path(sys.executable).parent / "helm"
#: What simulated containers do for `helm test`.
SIMULATED = ("--set", "check=exit 0")


class Helm:
    """Helm against one cluster, in one namespace."""

    def __init__(self, kubectl: Kubectl, kubeconfig: Path, home: Path) -> None:
        self.kubectl = kubectl
        self._env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "HELM_NAMESPACE": kubectl.namespace,
            **{f"HELM_{name}_HOME": str(home / name) for name in ("CACHE", "CONFIG", "DATA")},
        }

    def __call__(self, *words: str) -> str:
        if not HELM.exists():
            raise CommandError(f"there is no {HELM}: make {HELM.relative_to(Path.cwd())}")
        return run(str(HELM), *words, env=self._env)

    def fails(self, *words: str) -> str:
        done = subprocess.run([HELM, *words], env=self._env, capture_output=True, text=True, timeout=120)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def history(self) -> list[tuple[int, str]]:
        found: list[dict[str, Any]] = json.loads(self("history", "web", "-o", "json"))
        return [(release["revision"], release["status"]) for release in found]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("helm") / "cluster"
    try:
        podling(directory, "up", "--simulate", "--name", "helm", "--port", free_port(), "--nodes", "2")
        yield directory
    finally:
        podling(directory, "down", "--purge")


def _helm(cluster: Path, home: Path) -> Helm:
    kubectl = Kubectl(next(iter(kubectls().values())), cluster / "admin.kubeconfig", f"shop-{secrets.token_hex(3)}")
    return Helm(kubectl, cluster / "admin.kubeconfig", home)


@pytest.fixture
def helm(simulated: Path, tmp_path: Path) -> Iterator[Helm]:
    made = _helm(simulated, tmp_path)
    yield made
    made.kubectl("delete", "namespace", made.kubectl.namespace, "--ignore-not-found")


def install(helm: Helm, *words: str) -> str:
    return helm("install", "web", CHART, "--create-namespace", "--wait", "--timeout=60s", *SIMULATED, *words)


def data(helm: Helm, name: str) -> dict[str, str]:
    found: dict[str, str] = helm.kubectl.json("get", "configmap", name)["data"]
    return found


def test_a_release_from_installation_to_removal(helm: Helm) -> None:
    kubectl = helm.kubectl
    assert "STATUS: deployed" in install(helm)
    # The hook ran before everything else, the custom resource was there for its definition's first object.
    hook = kubectl.json("get", "job", "web-pre-install")
    assert hook["status"]["succeeded"] == 1
    deployment = kubectl.json("get", "deployment", "web")
    assert deployment["status"]["readyReplicas"] == 2
    assert hook["status"]["completionTime"] <= deployment["metadata"]["creationTimestamp"]
    assert kubectl.json("get", "offer", "web")["spec"] == {"price": 5, "currency": "EUR"}
    config = data(helm, "web-config")
    assert config["deployments"] == "true" and config["kubernetes"].startswith("v1.37.")
    assert int(config["namespaces"]) >= 4
    password = kubectl.json("get", "secret", "web-password")["data"]

    assert "Phase:          Succeeded" in helm("test", "web")
    helm("upgrade", "web", CHART, "--wait", "--set", "greeting=bye,replicas=3", *SIMULATED)
    assert kubectl.json("get", "secret", "web-password")["data"] == password
    assert data(helm, "web-config")["greeting"] == "bye"
    assert kubectl.json("get", "deployment", "web")["status"]["readyReplicas"] == 3
    helm("rollback", "web", "1", "--wait")
    assert data(helm, "web-config")["greeting"] == "hello"
    assert helm.history() == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    assert "kind: Deployment" in helm("get", "manifest", "web")
    assert [r["name"] for r in json.loads(helm("list", "-o", "json"))] == ["web"]

    assert "web-kept" in helm("uninstall", "web", "--wait")
    kubectl("wait", "--for=delete", "pods", "-l", "app.kubernetes.io/instance=web", "--timeout=30s")
    assert kubectl("get", "deployments,services,secrets,offers", "-o", "name") == ""
    assert "configmap/web-kept" in kubectl("get", "configmaps", "-o", "name").split()


def test_what_others_changed_is_a_conflict(helm: Helm) -> None:
    install(helm)
    helm.kubectl("scale", "deployment/web", "--replicas=4")
    said = helm.fails("upgrade", "web", CHART, "--set", "replicas=1")
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in said
    helm("upgrade", "web", CHART, "--set", "replicas=1", "--force-conflicts", "--wait")
    assert helm.kubectl.json("get", "deployment", "web")["status"]["readyReplicas"] == 1
    owners = helm.kubectl.json("get", "deployment", "web", "--show-managed-fields")["metadata"]["managedFields"]
    assert ("helm", "Apply") in [(o["manager"], o["operation"]) for o in owners]


def test_a_failed_upgrade_is_rolled_back(helm: Helm) -> None:
    install(helm)
    said = helm.fails(
        "upgrade", "web", CHART, "--set", "hookExit=3,greeting=bad", "--rollback-on-failure", "--timeout=20s"
    )
    assert "post-upgrade hooks failed" in said and "has been rolled back" in said
    assert helm.history() == [(1, "superseded"), (2, "failed"), (3, "deployed")]
    assert data(helm, "web-config")["greeting"] == "hello"


def test_client_side_and_dry_runs(helm: Helm) -> None:
    install(helm, "--server-side=false")
    assert "greeting: dry" in helm("upgrade", "web", CHART, "--dry-run=server", "--set", "greeting=dry").replace(
        '"', ""
    )
    assert helm.history() == [(1, "deployed")]
    # As Helm 3 would; `auto` stays with what the release was installed by.
    helm("upgrade", "web", CHART, "--server-side=auto", "--set", "greeting=more", "--wait")
    assert data(helm, "web-config")["greeting"] == "more"
    owners = helm.kubectl.json("get", "configmap", "web-config", "--show-managed-fields")["metadata"]["managedFields"]
    assert {o["operation"] for o in owners} == {"Update"}
    helm("upgrade", "--install", "web", CHART, "--reset-values", "--take-ownership", "--server-side=true",
         "--force-conflicts", "--wait")  # fmt: skip
    assert data(helm, "web-config")["greeting"] == "hello"


def test_an_invalid_chart_value_is_refused_by_the_server(helm: Helm) -> None:
    said = helm.fails("install", "web", CHART, "--create-namespace", "--set", "replicas=-1")
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in said


def test_rendered_manifests_can_be_applied(helm: Helm) -> None:
    kubectl = helm.kubectl
    kubectl("create", "namespace", kubectl.namespace)
    words = ("template", "web", CHART, "--include-crds", "--no-hooks", "--namespace", kubectl.namespace)
    rendered = helm(*words)
    kubectl("apply", "-f", "-", input=rendered.partition("---\n# Source: shop/templates")[0])
    kubectl("wait", "--for=condition=Established", "crd/offers.shop.example.com", "--timeout=20s")
    kubectl("apply", "-f", "-", input=rendered)
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    again = kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=rendered)
    assert "offer.shop.example.com/web serverside-applied" in again


def test_with_real_containers(data: Path, tmp_path: Path) -> None:
    helm = _helm(data, tmp_path)
    try:
        helm("install", "web", CHART, "--create-namespace", "--wait", "--timeout=60s")
        pods = helm.kubectl.json("get", "pods", "-l", "app.kubernetes.io/instance=web")["items"]
        assert all(pod["status"]["phase"] == "Running" for pod in pods) and len(pods) == 2
        assert "Phase:          Succeeded" in helm("test", "web", "--timeout=60s")
        helm("upgrade", "web", CHART, "--wait", "--timeout=60s", "--set", "greeting=bye,replicas=1")
        assert "Phase:          Succeeded" in helm("test", "web", "--timeout=60s")
        helm("uninstall", "web", "--wait", "--timeout=60s")
        eventually(lambda: helm.kubectl("get", "pods", "-l", "app.kubernetes.io/instance=web", "-o", "name") == "")
    finally:
        helm.kubectl("delete", "namespace", helm.kubectl.namespace, "--ignore-not-found", "--wait=false")
        helm.kubectl("delete", "crd", "offers.shop.example.com", "--ignore-not-found")
