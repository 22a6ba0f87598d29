"""One real and one simulated cluster for all end-to-end tests; each test gets a namespace of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, Kubectl, alone, eventually, free_port, kubectls, podling

OPTIONS = ["--name", "e2e", "--port", free_port(), "--node-cidr", "10.214.0.0/24", "--pod-cidr", "10.245.0.0/16"]
OPTIONS += ["--service-cidr", "10.97.0.0/16"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a cluster with one node and the example's image."""
    directory = tmp_path_factory.mktemp("e2e") / "cluster"
    with alone("e2e"):
        try:
            podling(directory, "up", *OPTIONS)
            podling(directory, "image", "create", IMAGE, "--package", "busybox-static")
            yield directory
        finally:
            podling(directory, "down", "--purge")


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a cluster with two simulated nodes, for what needs no container."""
    directory = tmp_path_factory.mktemp("simulation") / "cluster"
    try:
        podling(directory, "up", "--simulate", "--name", "simulation", "--port", free_port(), "--nodes", "2")
        yield directory
    finally:
        podling(directory, "down", "--purge")


def in_namespace(program: str, cluster: Path) -> Kubectl:
    """A kubectl in a new namespace, whose default account is there."""
    kubectl = Kubectl(program, cluster / "admin.kubeconfig", f"t-{secrets.token_hex(3)}")
    kubectl("create", "namespace", kubectl.namespace)
    eventually(lambda: kubectl("get", "serviceaccount", "default"))
    return kubectl


@pytest.fixture(params=sorted(kubectls()))
def simulated(request: pytest.FixtureRequest, simulation: Path) -> Iterator[Kubectl]:
    """Each kubectl of this machine, against simulated nodes."""
    program = in_namespace(kubectls()[request.param], simulation)
    yield program
    program("delete", "namespace", program.namespace, "--wait=false")


@pytest.fixture(params=sorted(kubectls()))
def kubectl(request: pytest.FixtureRequest, data: Path) -> Iterator[Kubectl]:
    """Each kubectl of this machine, in a namespace that is gone afterwards."""
    program = in_namespace(kubectls()[request.param], data)
    namespace = program.namespace
    yield program
    # What ignores SIGTERM, as most first processes do, would hold everything up for its 30 seconds.
    program("delete", "namespace", namespace, "--wait=false")
    program("delete", "pods", "--all", "--now", "--wait=false")
    program("wait", "--for=delete", f"namespace/{namespace}", "--timeout=90s")
