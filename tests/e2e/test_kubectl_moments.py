"""kubectl get, events, wait, rollout, drain and debug against simulated nodes: what they show and wait for."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from podling import clock
from tests.e2e.harness import Kubectl, eventually, running


def test_columns_templates_and_order(simulated: Kubectl, tmp_path: Path) -> None:
    for name, cpu in (("a", "500m"), ("b", "1"), ("c", "90m")):
        override = {"spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}]}}
        simulated("run", name, "--image=x", f"--overrides={json.dumps(override)}")
    simulated("wait", "pods", "--all", "--for=condition=Ready", "--timeout=20s")
    request = ".spec.containers[0].resources.requests.cpu"
    # Quantities sort by their value.
    assert simulated("get", "pods", f"--sort-by={request}", "-o", "name").split() == ["pod/c", "pod/a", "pod/b"]
    newest = simulated("get", "pods", "--sort-by={.metadata.creationTimestamp}", "--no-headers")
    assert len(newest.splitlines()) == 3
    (tmp_path / "columns").write_text(f"NAME CPU GONE\n.metadata.name {request} .spec.nothing\n")
    table = simulated("get", "pods", "-o", f"custom-columns-file={tmp_path}/columns").splitlines()
    assert [row.split() for row in table[:2]] == [["NAME", "CPU", "GONE"], ["a", "500m", "<none>"]]
    assert simulated("get", "pods", "-o", "custom-columns=N:{.metadata.name}", "--no-headers") == "a\nb\nc\n"
    (tmp_path / "path").write_text('{.items[?(@.spec.containers[0].resources.requests.cpu=="1")].metadata.name}')
    assert simulated("get", "pods", "-o", f"jsonpath-file={tmp_path}/path") == "b"
    assert json.loads(simulated("get", "pods", "-o", "jsonpath-as-json={.items[*].metadata.name}")) == ["a", "b", "c"]
    (tmp_path / "template").write_text('{{range .items}}{{.metadata.name | printf "%s,"}}{{end}}')
    assert simulated("get", "pods", "-o", f"go-template-file={tmp_path}/template") == "a,b,c,"
    plain = simulated("get", "pods", "--server-print=false").splitlines()
    assert [row.split()[0] for row in plain] == ["NAME", "a", "b", "c"] and plain[0].split()[1:] == ["AGE"]
    path = f"/api/v1/namespaces/{simulated.namespace}/pods"
    page = json.loads(simulated("get", "--raw", f"{path}?limit=2"))
    assert len(page["items"]) == 2 and page["metadata"]["remainingItemCount"] == 1
    rest = json.loads(simulated("get", "--raw", f"{path}?limit=2&continue={page['metadata']['continue']}"))
    assert [p["metadata"]["name"] for p in rest["items"]] == ["c"]
    several = simulated.fails("get", "pod/a", "pod/nobody", "service/none")
    assert 'pods "nobody" not found' in several and 'services "none" not found' in several
    assert simulated("get", "pod", "nobody", "--ignore-not-found") == ""


def test_watching_what_is_read_by_programs(simulated: Kubectl) -> None:
    simulated("create", "configmap", "a")
    words = ["get", "configmap", "a", "--watch-only", "-o", "jsonpath={.data}{'\\n'}"]
    process = simulated.start(*words)
    try:
        number = iter(range(1_000_000))

        def changed() -> bool:
            simulated("patch", "configmap", "a", "-p", json.dumps({"data": {"n": str(next(number))}}))
            return True

        # The watch starts some time after the process.
        assert process.stdout is not None
        with running(simulated, "get", "configmap", "a", "-w", "-o", "name") as (_, first):
            assert first == "configmap/a\n"
        for _ in range(3):
            eventually(changed)
        assert json.loads(process.stdout.readline())["n"] in "012"
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert "NotFound" in simulated.fails("get", "configmap", "nobody", "--watch")


def test_events(simulated: Kubectl) -> None:
    simulated("create", "deployment", "d", "--image=x")
    simulated("run", "never", "--image=x", '--overrides={"spec":{"nodeSelector":{"no":"such"}}}')
    simulated("wait", "deployment/d", "--for=condition=Available", "--timeout=20s")
    header, *rows = eventually(lambda: simulated("events", "--types=Warning")).splitlines()
    assert header.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert all(row.split()[1:4] == ["Warning", "FailedScheduling", "Pod/never"] for row in rows)
    assert "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector." in rows[0]
    scaled = simulated("events", "--for=deployment/d")
    assert "ScalingReplicaSet" in scaled and "Pod/never" not in scaled
    found = json.loads(simulated("events", "-o", "json"))["items"]
    assert {"Deployment", "ReplicaSet", "Pod"} <= {e["involvedObject"]["kind"] for e in found}
    by_time = simulated("get", "events", "--sort-by=.lastTimestamp", "-o", "jsonpath={.items[*].reason}")
    assert "Scheduled" in by_time.split()
    process = simulated.start("events", "--watch")
    try:
        # The watch starts some time after the process.
        for number in range(5):
            simulated("run", f"later-{number}", "--image=x")
        assert process.stdout is not None
        header, row = process.stdout.readline(), process.stdout.readline()
        assert header.split()[:2] == ["LAST", "SEEN"] and "Normal" in row.split()
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_waiting(simulated: Kubectl) -> None:
    started = simulated.start("wait", "pod/p", "--for=create", "--timeout=20s")
    simulated("run", "p", "--image=x", "--labels=app=p")
    assert started.communicate(timeout=20)[0] == "pod/p condition met\n"
    simulated("wait", "pod/p", "--for=condition=Ready=true", "--timeout=20s")
    simulated("wait", "pods", "-l", "app=p", "--for=jsonpath={.status.podIP}", "--timeout=5s")
    simulated("wait", "pod/p", '--for=jsonpath={.status.conditions[?(@.type=="Ready")].status}=True', "--timeout=5s")
    simulated("wait", "pod/p", "--for=jsonpath={.status.phase}=Running", "--for=condition=Ready", "--timeout=5s")
    code, said = simulated.outcome("wait", "pod/p", "--for=delete", "--timeout=1s")
    assert code == 1 and said.endswith("error: timed out waiting for the condition on pods/p\n")
    begun = clock.now()
    assert "condition not met for pods/p" in simulated.fails(
        "wait", "pod/p", "--for=jsonpath={.status.phase}=Failed", "--timeout=0"
    )
    assert (clock.now() - begun).total_seconds() < 5
    deleted = simulated.start("wait", "pods", "-l", "app=p", "--for=delete", "--timeout=20s")
    simulated("delete", "pod", "p", "--now")
    assert deleted.wait(timeout=20) == 0
    deleted.communicate()
    assert simulated("wait", "pod/p", "--for=delete", "--timeout=5s") == ""
    assert (
        simulated.fails("wait", "pods", "-l", "app=p", "--for=condition=Ready")
        == "error: no matching resources found\n"
    )


def test_what_a_rollout_refuses(simulated: Kubectl) -> None:
    simulated("create", "deployment", "d", "--image=x:1")
    simulated("rollout", "status", "deployment/d", "--timeout=20s")
    assert simulated.fails("rollout", "undo", "deployment/d") == 'error: no rollout history found for deployment "d"\n'
    simulated("set", "image", "deployment/d", "*=x:2")
    simulated("rollout", "status", "deployment/d", "--timeout=20s")
    assert "unable to find the specified revision" in simulated.fails(
        "rollout", "history", "deployment/d", "--revision=9"
    )
    assert "unable to find specified revision 9 in history" in simulated.fails(
        "rollout", "undo", "deployment/d", "--to-revision=9"
    )
    assert "(server dry run)" in simulated("rollout", "undo", "deployment/d", "--dry-run=server")
    assert "image: x:1" in simulated("rollout", "history", "deployment/d", "--revision=1", "-o", "yaml")
    assert "skipped rollback (current template already matches revision 2)" in simulated(
        "rollout", "undo", "deployment/d", "--to-revision=2"
    )
    simulated("rollout", "restart", "deployments", "-l", "app=d")
    simulated("rollout", "status", "deployment/d", "--timeout=20s")
    simulated("rollout", "pause", "deployment/d")
    assert "you cannot rollback a paused deployment; resume it first" in simulated.fails(
        "rollout", "undo", "deployment/d"
    )
    assert "can't restart paused deployment" in simulated.fails("rollout", "restart", "deployment/d")
    simulated("set", "image", "deployment/d", "x=x:3")
    assert [r["spec"]["template"]["spec"]["containers"][0]["image"] for r in replica_sets(simulated)] == [
        "x:1", "x:2", "x:2",
    ]  # fmt: skip
    simulated("rollout", "resume", "deployment/d")
    simulated("rollout", "status", "deployment/d", "--timeout=20s")
    assert len(replica_sets(simulated)) == 4
    assert "is not paused" in simulated.fails("rollout", "resume", "deployment/d")


def replica_sets(kubectl: Kubectl) -> list[dict[str, dict[str, dict[str, dict[str, list[dict[str, str]]]]]]]:
    found: list[dict[str, dict[str, dict[str, dict[str, list[dict[str, str]]]]]]] = kubectl.json(
        "get", "rs", "-l", "app=d", "--sort-by=.metadata.annotations.deployment\\.kubernetes\\.io/revision"
    )["items"]
    return found


@pytest.fixture
def node(simulated: Kubectl) -> Iterator[str]:
    """A node, which takes pods again afterwards."""
    name = "simulation-1"
    try:
        yield name
    finally:
        simulated("uncordon", name)


def test_a_budget_holds_a_drain_up(simulated: Kubectl, node: str) -> None:
    marker = secrets.token_hex(3)
    override = {"spec": {"nodeName": node, "volumes": [{"name": "v", "emptyDir": {}}]}}
    words = ["drain", node, f"--pod-selector=run={marker}"]
    simulated("run", marker, "--image=x", f"--overrides={json.dumps(override)}")
    simulated("wait", f"pod/{marker}", "--for=condition=Ready", "--timeout=20s")
    assert "Pods with local storage (use --delete-emptydir-data to override)" in simulated.fails(*words, "--force")
    words += ["--force", "--delete-emptydir-data"]
    dry = simulated(*words, "--dry-run=server")
    assert f"evicting pod {simulated.namespace}/{marker} (server dry run)" in dry
    simulated("create", "pdb", "p", f"--selector=run={marker}", "--min-available=1")
    simulated("wait", "pdb/p", "--for=jsonpath={.status.currentHealthy}=1", "--timeout=10s")
    draining = simulated.start(*words, "--timeout=30s")
    eventually(lambda: simulated.json("get", "node", node)["spec"].get("unschedulable"))
    assert simulated("get", "pod", marker, "-o", "jsonpath={.metadata.deletionTimestamp}") == ""
    simulated("delete", "pdb", "p")
    said, complaints = draining.communicate(timeout=40)
    assert f"pod/{marker} evicted\nnode/{node} drained\n" in said, complaints
    simulated("create", "deployment", "d", "--image=x", "--replicas=3")
    simulated("wait", "deployment/d", "--for=condition=Available", "--timeout=20s")
    nodes = simulated("get", "pods", "-l", "app=d", "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert set(nodes) == {"simulation-2"}


def test_debugging(simulated: Kubectl, node: str) -> None:
    simulated("run", "p", "--image=x", "--labels=app=p")
    simulated("wait", "pod/p", "--for=condition=Ready", "--timeout=20s")
    simulated("debug", "p", "--image=tools", "-c", "dbg", "--target=p", "--profile=general", "--", "sleep", "60")
    made = simulated.json("get", "pod", "p")["spec"]["ephemeralContainers"][0]
    assert (made["targetContainerName"], made["image"], made["command"]) == ("p", "tools", ["sleep", "60"])
    assert made["securityContext"] == {"capabilities": {"add": ["SYS_PTRACE"]}}
    simulated("debug", "p", "--copy-to=copy", "--set-image=*=other", "--share-processes", "--profile=baseline")
    copy = simulated.json("get", "pod", "copy")
    assert copy["spec"]["containers"][0]["image"] == "other" and copy["spec"]["shareProcessNamespace"]
    simulated("debug", "p", "--copy-to=instead", "--replace", "--same-node", "--image=tools", "-c", "extra",
              "--profile=general", "--", "sleep", "9")  # fmt: skip
    assert len(simulated.json("get", "pod", "instead")["spec"]["containers"]) == 2
    simulated("wait", "pod/p", "--for=delete", "--timeout=20s")
    said = simulated.outcome("debug", f"node/{node}", "--image=tools", "--profile=sysadmin", "--", "sleep", "9")[1]
    name = said.split()[3]
    spec = simulated.json("get", "pod", name)["spec"]
    assert (spec["nodeName"], spec["hostPID"], spec["hostNetwork"]) == (node, True, True)
    assert spec["volumes"][0] == {"name": "host-root", "hostPath": {"path": "/", "type": ""}}
    assert spec["containers"][0]["securityContext"] == {"privileged": True}
