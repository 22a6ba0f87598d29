"""kubectl scale, autoscale, rollout, set and wait."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, Kubectl, eventually


def workload(kind: str) -> dict[str, Any]:
    """A Deployment, StatefulSet or DaemonSet named `w`, with one pod."""
    container = {"name": "c", "image": IMAGE, "command": ["sleep", "3600"]}
    template = {
        "metadata": {"labels": {"app": "w"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": "w"}}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = "w"
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w"}, "spec": spec}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_rollouts(kubectl: Kubectl, kind: str) -> None:
    target = f"{kind.lower()}/w"

    def settle() -> None:
        kubectl("rollout", "status", target, "--timeout=60s")

    def container() -> dict[str, Any]:
        found: dict[str, Any] = kubectl.json("get", target)["spec"]["template"]["spec"]["containers"][0]
        return found

    kubectl.apply(workload(kind))
    settle()
    kubectl("set", "env", target, "A=1")
    kubectl("annotate", target, "kubernetes.io/change-cause=set A")
    settle()
    kubectl("set", "resources", target, "-c=c", "--limits=memory=64Mi", "--requests=cpu=1m")
    settle()
    history = kubectl("rollout", "history", target)
    assert [line.split()[0] for line in history.strip().splitlines()[2:]] == ["1", "2", "3"] and "set A" in history
    assert "A:\t1" in kubectl("rollout", "history", target, "--revision=2")
    kubectl("rollout", "undo", target)
    settle()
    assert container()["resources"] == {} and container()["env"] == [{"name": "A", "value": "1"}]
    kubectl("rollout", "undo", target, "--to-revision=1")
    settle()
    assert "env" not in container()
    before = kubectl.json("get", "pods", "-l", "app=w", "--field-selector=status.phase=Running")["items"]
    kubectl("rollout", "restart", target)
    settle()

    def replaced() -> bool:
        pods = kubectl.json("get", "pods", "-l", "app=w", "--field-selector=status.phase=Running")["items"]
        return len(pods) == 1 and pods[0]["metadata"]["uid"] not in [p["metadata"]["uid"] for p in before]

    eventually(replaced)
    if kind == "Deployment":
        kubectl("rollout", "pause", target)
        kubectl("set", "env", target, "B=2")
        assert "already paused" in kubectl.fails("rollout", "pause", target)
        kubectl("rollout", "resume", target)
        settle()
    else:
        assert "pausing is not supported" in kubectl.fails("rollout", "pause", target)


def test_scale_and_autoscale(kubectl: Kubectl) -> None:
    kubectl.apply(workload("Deployment"))
    kubectl("scale", "deployment/w", "--replicas=2", "--timeout=30s")
    kubectl("wait", "deployment/w", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=30s")
    assert "Expected replicas to be 5, was 2" in kubectl.fails(
        "scale", "deployment/w", "--current-replicas=5", "--replicas=1"
    )
    shown = kubectl("get", "deployment", "w", "--subresource=scale").split()
    assert shown[:6] == ["NAME", "DESIRED", "AVAILABLE", "AGE", "w", "2"]
    kubectl("patch", "deployment", "w", "--subresource=scale", "--type=merge", "-p", '{"spec":{"replicas":0}}')
    kubectl("wait", "--for=delete", "pods", "-l", "app=w", "--timeout=30s")
    assert "the server could not find the requested resource" in kubectl.fails(
        "scale", "--replicas=2", "configmap/kube-root-ca.crt"
    )
    kubectl("autoscale", "deployment", "w", "--min=1", "--max=4", "--cpu-percent=50")
    made = kubectl.json("get", "hpa", "w")["spec"]
    assert (made["minReplicas"], made["maxReplicas"]) == (1, 4)
    assert made["metrics"][0]["resource"]["target"] == {"averageUtilization": 50, "type": "Utilization"}
    assert "cpu: <unknown>/50%" in kubectl("get", "hpa")


def test_an_autoscaler_at_work(simulated: Kubectl) -> None:
    deployment = workload("Deployment")
    deployment["spec"]["template"]["spec"]["containers"] = [
        {"name": "c", "image": IMAGE, "resources": {"requests": {"cpu": "10m"}}}
    ]
    simulated.apply(deployment)
    simulated("scale", "deployment/w", "--replicas=3")
    simulated("autoscale", "deployment", "w", "--min=1", "--max=2", "--cpu-percent=50")
    simulated("wait", "hpa/w", "--for=condition=ScalingActive", "--timeout=90s")
    row = re.split(r"  +", simulated("get", "hpa", "w", "--no-headers").strip())
    # How much an idle container is said to use is for the clock to say.
    assert row[:2] + row[3:6] == ["w", "Deployment/w", "1", "2", "2"] and re.fullmatch(r"cpu: \d+%/50%", row[2])
    told = simulated("describe", "hpa", "w")
    assert re.search(r"resource cpu on pods +\(as a percentage of request\): +\d+% \(\d+m\) / 50%", told)
    assert re.search(r"AbleToScale +True +ScaleDownStabilized +recent recommendations were higher", told)
    assert re.search(r"ScalingActive +True +ValidMetricFound +the HPA was able to successfully calculate", told)
    assert re.search(r"ScalingLimited +True +TooManyReplicas +the desired replica count is more than the maximum", told)
    said = "New size: 2; reason: Current number of replicas above Spec.MaxReplicas"
    assert re.search(rf"Normal +SuccessfulRescale .* horizontal-pod-autoscaler +{said}", told)


def test_set(kubectl: Kubectl) -> None:
    kubectl.apply(workload("Deployment"))
    kubectl("create", "configmap", "cm", "--from-literal=KEY=value")
    kubectl("create", "secret", "generic", "s", "--from-literal=TOKEN=x")
    kubectl("create", "serviceaccount", "sa")
    kubectl("set", "env", "deployment/w", "--from=configmap/cm", "--prefix=P_")
    kubectl("set", "env", "deployment/w", "--from=secret/s")
    assert kubectl("set", "env", "deployment/w", "--list", "--resolve").splitlines()[1:] == ["P_KEY=value", "TOKEN=x"]
    kubectl("set", "env", "deployment/w", "P_KEY-")
    kubectl("set", "image", "deployment/w", "c=localhost/other:2")
    kubectl("set", "serviceaccount", "deployment/w", "sa")
    spec = kubectl.json("get", "deployment", "w")["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["containers"][0]["image"]) == ("sa", "localhost/other:2")
    assert [e["name"] for e in spec["containers"][0]["env"]] == ["TOKEN"]
    assert "unable to find container" in kubectl.fails("set", "image", "deployment/w", "nope=x")
    code, said = kubectl.outcome("rollout", "status", "deployment/w", "--timeout=1s")
    assert code == 1 and "timed out waiting for the condition" in said
    kubectl("expose", "deployment", "w", "--port=80", "--target-port=8080", "--name=e")
    assert kubectl.json("get", "service", "e")["spec"]["selector"] == {"app": "w"}
    kubectl("set", "selector", "service", "e", "app=other")
    assert kubectl.json("get", "service", "e")["spec"]["selector"] == {"app": "other"}
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "b", "--role=r", "--user=ann")
    kubectl("set", "subject", "rolebinding", "b", "--user=bob")
    assert [x["name"] for x in kubectl.json("get", "rolebinding", "b")["subjects"]] == ["ann", "bob"]


def test_wait(kubectl: Kubectl) -> None:
    kubectl("run", "p", f"--image={IMAGE}", "--", "sleep", "60")
    kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=30s")
    kubectl("wait", "pod/p", "--for=jsonpath={.status.podIP}", "--timeout=5s")
    kubectl("wait", "pod", "--all", "--for=jsonpath={.status.phase}=Running", "--timeout=5s")
    assert "NotFound" in kubectl.fails("wait", "pod/nobody", "--for=condition=Ready", "--timeout=1s")
    assert "timed out" in kubectl.fails("wait", "pod/p", "--for=condition=Nope", "--timeout=1s")
    created = kubectl.start("wait", "configmap/later", "--for=create", "--timeout=20s")
    kubectl("create", "configmap", "later")
    assert "condition met" in created.communicate(timeout=20)[0]
    deleted = kubectl.start("wait", "configmap/later", "--for=delete", "--timeout=20s")
    kubectl("delete", "configmap", "later")
    assert deleted.wait(timeout=20) == 0
    deleted.communicate()
