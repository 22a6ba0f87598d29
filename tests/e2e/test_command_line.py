"""The command line: simulated clusters, and one clear sentence for bad input."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.harness import Kubectl, eventually, free_port, kubectls, podling, run, sleeper


def fails(*words: str, env: dict[str, str] | None = None) -> str:
    """What `podling WORDS` says when it fails; never a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "podling.cli.main", *words],
        capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_simulated_cluster_needs_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "simulated"
    try:
        assert "ready" in podling(directory, "up", "--simulate", "--port", free_port(), "--nodes", "3")
        assert "already" in podling(directory, "up", "--simulate")
        kubectl = Kubectl(next(iter(kubectls().values())), directory / "admin.kubeconfig")
        eventually(lambda: kubectl("get", "serviceaccount", "default"))
        kubectl("create", "deployment", "web", "--image=nginx", "--replicas=5")
        kubectl("rollout", "status", "deployment/web", "--timeout=30s")
        nodes = {p["spec"]["nodeName"] for p in kubectl.json("get", "pods")["items"]}
        assert len(nodes) == 3
        kubectl.apply(sleeper("once", command=["false"], restartPolicy="Never"))
        eventually(lambda: kubectl.json("get", "pod", "once")["status"]["phase"] == "Failed")
        assert "3 of 3 nodes ready" in podling(directory, "status")
    finally:
        podling(directory, "down", "--purge")
    assert not directory.exists()


def test_a_kubeconfig_is_merged_never_overwritten(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "config"
    theirs = {"apiVersion": "v1", "kind": "Config", "current-context": "mine", "clusters": [], "users": []}
    theirs["contexts"] = [{"name": "mine", "context": {}}]
    target.write_text(yaml.safe_dump(theirs))
    for _ in range(2):
        podling(data, "kubeconfig", "--merge", env={"KUBECONFIG": str(target)})
    merged = yaml.safe_load(target.read_text())
    assert merged["current-context"] == "mine"
    assert [c["name"] for c in merged["contexts"]] == ["mine", "e2e"]


def test_status_and_version(data: Path) -> None:
    assert "1 of 1 nodes ready" in podling(data, "status")
    assert "Kubernetes API v1.37" in run(sys.executable, "-m", "podling.cli.main", "version")


def test_kubectl_is_passed_through(data: Path) -> None:
    said = run(
        sys.executable, "-m", "podling.cli.main", "kubectl", "--data-dir", str(data), "get", "nodes", "-o", "json"
    )
    assert json.loads(said)["items"][0]["metadata"]["name"] == "e2e"


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = fails("up", "--simulate", "--data-dir", str(tmp_path / "c"), "--port", port)
    assert f"port {port}" in said and "--port" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["up", "--nodes", "0"], "--nodes 0"),
        (["up", "--port", "99999"], "--port 99999"),
        (["up", "--pod-cidr", "10.0.0.0/33"], "--pod-cidr"),
        (["up", "--pod-cidr", "10.96.0.0/16"], "overlaps"),
        (["up", "--name", "Not_Good"], "lower-case"),
        (["status"], "podling up"),
        (["logs"], "podling up"),
        (["kubeconfig"], "podling up"),
    ],
)
def test_bad_input(tmp_path: Path, words: list[str], expected: str) -> None:
    assert expected in fails(words[0], "--data-dir", str(tmp_path / "none"), *words[1:])


def test_a_data_directory_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"format": 99}')
    assert "format 99" in fails("up", "--data-dir", str(tmp_path))
    (tmp_path / "cluster.json").write_text("{")
    assert "damaged" in fails("up", "--data-dir", str(tmp_path))


def test_a_missing_program_is_named_with_the_way_out(tmp_path: Path) -> None:
    program = "import os, shutil; shutil.which = lambda *a, **k: None; from podling.cli.main import main; exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "up", "--data-dir", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "conmon" in done.stderr and "apt-get install" in done.stderr and "--simulate" in done.stderr


def test_images_that_are_not(data: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    assert "broken.tar" in fails("image", "import", "--data-dir", str(data), str(tmp_path / "broken.tar"))
    assert "nowhere" in fails("image", "remove", "--data-dir", str(data), "localhost/nowhere:1")
