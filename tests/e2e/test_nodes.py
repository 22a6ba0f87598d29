"""Two node agents on one machine, each in a network namespace of its own, with pods that reach each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, Kubectl, alone, eventually, free_port, kubectls, podling, sleeper

OPTIONS = ["--name", "pair", "--nodes", "2", "--port", free_port(), "--node-cidr", "10.215.0.0/24"]
OPTIONS += ["--pod-cidr", "10.246.0.0/16", "--service-cidr", "10.98.0.0/16"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    directory: Path = tmp_path_factory.mktemp("pair") / "cluster"
    with alone("pair"):
        try:
            podling(directory, "image", "create", IMAGE, "--package", "busybox-static")
            podling(directory, "up", *OPTIONS)
            yield Kubectl(next(iter(kubectls().values())), directory / "admin.kubeconfig")
        finally:
            podling(directory, "down", "--purge")


def test_pods_reach_each_other_across_nodes(pair: Kubectl) -> None:
    eventually(lambda: pair("get", "serviceaccount", "default"))
    for name, node in (("server", "pair-1"), ("client", "pair-2")):
        command = ["httpd", "-f", "-p", "8080", "-h", "/etc"] if name == "server" else None
        pair.apply(sleeper(name, command=command, nodeSelector={"kubernetes.io/hostname": node}))
    pair("wait", "--for=condition=Ready", "pod/server", "pod/client", "--timeout=60s")
    pair("expose", "pod", "server", "--port=80", "--target-port=8080", "--type=NodePort")
    pods = {p["metadata"]["name"]: p for p in pair.json("get", "pods")["items"]}
    assert {p["spec"]["nodeName"] for p in pods.values()} == {"pair-1", "pair-2"}
    address = pods["server"]["status"]["podIP"]

    def ask(url: str) -> str:
        return pair("exec", "client", "--", "timeout", "3", "wget", "-qO-", f"{url}/hostname")

    assert ask(f"http://{address}:8080") == "server\n"
    eventually(lambda: ask("http://server") == "server\n")
    port = pair.json("get", "service", "server")["spec"]["ports"][0]["nodePort"]
    for pod in pods.values():
        host = pod["status"]["hostIP"]
        assert eventually(lambda host=host: ask(f"http://{host}:{port}")) == "server\n"  # type: ignore[misc]
    assert pair("logs", "client") == ""
