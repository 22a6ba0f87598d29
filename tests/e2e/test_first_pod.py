"""examples/first-pod.yaml, by everything that a newcomer types."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path
from urllib.request import urlopen

from tests.e2e.harness import EXAMPLES, Kubectl, eventually


def first_pod(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", str(EXAMPLES / "first-pod.yaml"))
    kubectl("wait", "--for=condition=Ready", "pod/first-pod", "--timeout=30s")


def test_it_runs_and_is_shown(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    assert re.search(r"first-pod\s+2/2\s+Running\s+0", kubectl("get", "pods"))
    described = kubectl("describe", "pod", "first-pod")
    for text in ("Status:           Running", "Reason:       Completed", "Scheduled", "Started", "Created"):
        assert text in described
    assert "Normal" in described and "Warning" not in described.partition("Events:")[2]


def test_logs_of_each_container(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    kubectl("exec", "first-pod", "-c", "web", "--", "wget", "-qO-", "http://localhost:8080/")
    assert eventually(lambda: "response:200" in kubectl("logs", "first-pod", "-c", "log-shipper"))
    assert (
        "Defaulted container"
        in subprocess.run(kubectl.command("logs", "first-pod"), capture_output=True, text=True, check=True).stderr
    )
    assert kubectl("logs", "first-pod", "-c", "log-shipper", "--tail=1").count("\n") == 1
    assert kubectl("logs", "first-pod", "-c", "prepare") == ""


def test_exec_gives_output_and_exit_code(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    text = kubectl("exec", "first-pod", "-c", "web", "--", "cat", "/www/index.html")
    assert text == "Hello from first-pod\n"
    failed = subprocess.run(
        kubectl.command("exec", "first-pod", "-c", "web", "--", "sh", "-c", "echo oops >&2; exit 7"),
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 7
    assert "oops" in failed.stderr


def test_exec_passes_standard_input(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    text = "x" * 300_000
    assert kubectl("exec", "-i", "first-pod", "-c", "web", "--", "wc", "-c", input=text).strip() == "300000"


def test_copying_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    first_pod(kubectl)
    (tmp_path / "up").write_bytes(bytes(range(256)) * 2000)
    kubectl("cp", str(tmp_path / "up"), "first-pod:/log/file", "-c", "web")
    kubectl("cp", "first-pod:/log/file", str(tmp_path / "down"), "-c", "log-shipper")
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()


def test_port_forward(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    forward = kubectl.start("port-forward", "pod/first-pod", f"{port}:8080")
    try:
        assert forward.stdout is not None
        assert "Forwarding from" in forward.stdout.readline()
        for _ in range(3):
            with urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read() == b"Hello from first-pod\n"
    finally:
        forward.terminate()
        forward.communicate(timeout=10)


def test_attach_follows_the_output(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    attached = kubectl.start("attach", "first-pod", "-c", "log-shipper")
    try:
        assert attached.stdout is not None
        kubectl("exec", "first-pod", "-c", "web", "--", "wget", "-qO-", "http://localhost:8080/")
        assert "response:200" in attached.stdout.readline()
    finally:
        attached.terminate()
        attached.communicate(timeout=10)


def test_deleting_takes_it_away(kubectl: Kubectl) -> None:
    first_pod(kubectl)
    kubectl("delete", "pod", "first-pod", "--timeout=30s")
    assert "NotFound" in kubectl.fails("get", "pod", "first-pod")
