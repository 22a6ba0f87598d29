"""kubectl top, and the parts of the control plane as kubectl shows them."""

from __future__ import annotations

from tests.e2e.harness import Kubectl, sleeper


def test_top_shows_what_pods_and_nodes_use(kubectl: Kubectl) -> None:
    limits = {"resources": {"limits": {"cpu": "200m"}}}
    busy = sleeper("busy", command=["sh", "-c", "while :; do :; done"], container=limits)
    kubectl.apply(busy, sleeper("idle"))
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=30s")
    header, *rows = kubectl("top", "pods", "--sort-by=cpu").splitlines()
    assert header.split() == ["NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert [row.split()[0] for row in rows] == ["busy", "idle"]
    busiest, idle = (int(row.split()[1].removesuffix("m")) for row in rows)
    # A fifth of a core at most; less is shown in the first second of its life, and starting takes a little as well.
    assert idle < busiest and 20 <= busiest <= 300 and idle < 50
    assert kubectl("top", "pods", "-l", "app=idle", "--no-headers").split()[0] == "idle"
    assert kubectl("top", "pod", "busy", "--containers", "--no-headers").split()[:2] == ["busy", "c"]
    header, row = kubectl("top", "nodes").splitlines()
    assert header.split()[:3] == ["NAME", "CPU(cores)", "CPU(%)"] and row.split()[3].endswith("Mi")
    assert "not found" in kubectl.fails("top", "pod", "nobody")


def test_component_statuses(kubectl: Kubectl) -> None:
    rows = [line.split()[:3] for line in kubectl("get", "componentstatuses", "--no-headers").splitlines()]
    assert rows == [[name, "Healthy", "ok"] for name in ("controller-manager", "etcd-0", "scheduler")]
