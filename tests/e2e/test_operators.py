"""Operators that know nothing of podling: one on kopf, one on the official client, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Kubectl, eventually, free_port, kubectls, podling

OPERATORS = Path(__file__).parent / "operators"
NAMESPACE = "operators"
SHELF = {"apiVersion": "shop.example.com/v1", "kind": "Shelf"}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "shelves.shop.example.com"},
    "spec": {
        "group": "shop.example.com",
        "scope": "Namespaced",
        "names": {"plural": "shelves", "singular": "shelf", "kind": "Shelf"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "books": {"type": "array", "items": {"type": "string"}},
                                    "copies": {"type": "integer"},
                                },
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A simulated cluster with a definition of shelves."""
    directory = tmp_path_factory.mktemp("operators") / "cluster"
    try:
        podling(directory, "up", "--simulate", "--name", "operators", "--port", free_port())
        found = Kubectl(next(iter(kubectls().values())), directory / "admin.kubeconfig", NAMESPACE)
        found("create", "namespace", NAMESPACE)
        found.apply(DEFINITION)
        found("wait", "--for=condition=Established", "crd/shelves.shop.example.com", "--timeout=20s")
        yield found
    finally:
        podling(directory, "down", "--purge")


@contextmanager
def running(kubectl: Kubectl, log: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """An operator; what it said is shown if the test fails."""
    environment = {**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)}
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *words], stdout=output, stderr=output, text=True, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(log.read_text())


def shelf(name: str, **spec: Any) -> dict[str, Any]:
    return {**SHELF, "metadata": {"name": name}, "spec": spec}


def test_kopf(kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("create", "configmap", "early")
    kubectl("label", "configmap", "early", "watched=yes")
    operator = str(OPERATORS / "kopf_operator.py")
    log = tmp_path / "log"
    with running(kubectl, log, "-m", "kopf", "run", "--namespace", NAMESPACE, "--standalone", operator):
        eventually(lambda: kubectl.json("get", "configmap", "early")["metadata"]["annotations"]["seen"] == "yes")
        kubectl.apply(shelf("a", books=["one", "two"]))

        def state() -> dict[str, Any]:
            found: dict[str, Any] = kubectl.json("get", "shelf", "a")
            return found

        eventually(lambda: state()["status"]["created"] == {"map": "a-books"})
        books = kubectl.json("get", "configmap", "a-books")
        assert books["data"] == {"books": "one,two"}
        assert books["metadata"]["ownerReferences"][0]["uid"] == state()["metadata"]["uid"]
        assert state()["metadata"]["finalizers"] == ["shop.example.com/kopf"]
        kubectl("patch", "shelf", "a", "--type=merge", "-p", '{"spec":{"books":["three"]}}')
        eventually(lambda: kubectl.json("get", "configmap", "a-books")["data"] == {"books": "three"})
        eventually(lambda: state()["status"]["count"] == 1 and state()["status"]["ticks"] >= 2)
        assert eventually(
            lambda: "filled with 2 books" in kubectl("get", "events", "--field-selector=involvedObject.kind=Shelf")
        )
        kubectl("delete", "shelf", "a", "--timeout=20s")
        kubectl("get", "configmap", "a-cleared")
        kubectl("wait", "--for=delete", "configmap/a-books", "--timeout=20s")
    assert "Traceback" not in log.read_text()


def test_leader_election_and_reconciling(kubectl: Kubectl, tmp_path: Path) -> None:
    operator = str(OPERATORS / "leader_operator.py")
    first, second = tmp_path / "first", tmp_path / "second"
    kubectl.apply(shelf("b", copies=2))
    with running(kubectl, second, operator, NAMESPACE, "zero") as zero:
        eventually(lambda: "zero leads" in second.read_text())
        with running(kubectl, first, operator, NAMESPACE, "one"):
            eventually(lambda: kubectl.json("get", "shelf", "b")["status"] == {"made": 2})
            assert "leads" not in first.read_text()
            kubectl("patch", "shelf", "b", "--type=merge", "-p", '{"spec":{"copies":3}}')
            eventually(lambda: kubectl.json("get", "shelf", "b")["status"] == {"made": 3})
            zero.kill()
            eventually(lambda: "one leads" in first.read_text())
            kubectl.apply(shelf("c", copies=1))
            eventually(lambda: kubectl.json("get", "shelf", "c")["status"] == {"made": 1})
            kubectl("delete", "shelves", "b", "c", "--timeout=20s")
            eventually(lambda: kubectl("get", "configmaps", "-l", "of", "-o", "name") == "")
    assert "Traceback" not in first.read_text()
