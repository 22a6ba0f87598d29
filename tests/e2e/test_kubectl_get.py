"""kubectl get, describe, events, explain, api-resources, cluster-info, config and version."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.e2e.harness import IMAGE, Kubectl, sleeper


def test_outputs_and_selection(kubectl: Kubectl) -> None:
    kubectl.apply(sleeper("b", labels={"app": "x"}), sleeper("a", labels={"app": "x", "tier": "t"}))
    kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=30s")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    wide = kubectl("get", "pods", "-o", "wide").splitlines()
    assert wide[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert wide[1].split()[0] == "a" and wide[1].split()[6] == node
    assert "app=x,tier=t" in kubectl("get", "pods", "--show-labels")
    assert "TIER" in kubectl("get", "pods", "-L", "tier")
    assert kubectl("get", "pods", "-l", "app in (x),!tier", "-o", "name") == "pod/b\n"
    fields = f"status.phase=Running,spec.nodeName={node},metadata.name!=b"
    assert kubectl("get", "pods", "--field-selector", fields, "-o", "name") == "pod/a\n"
    assert "field label not supported: nope" in kubectl.fails("get", "pods", "--field-selector=nope=x")
    columns = kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase").split()
    assert columns == ["N", "P", "a", "Running", "b", "Running"]
    template = '{range .items[*]}{.metadata.name}{"-"}{.spec.containers[0].image}{"\\n"}{end}'
    assert kubectl("get", "pods", "-o", f"jsonpath={template}") == f"a-{IMAGE}\nb-{IMAGE}\n"
    assert kubectl("get", "pods", "a", "-o", "go-template={{.metadata.name}}") == "a"
    assert kubectl("get", "pods", "--chunk-size=1", "--no-headers").count("\n") == 2
    assert "name: a" in kubectl("get", "pod/a", "-o", "yaml")
    kubectl("patch", "pod", "b", "-p", '{"metadata":{"annotations":{"rank":"0"}}}')
    kubectl("patch", "pod", "a", "-p", '{"metadata":{"annotations":{"rank":"1"}}}')
    ranked = kubectl("get", "pods", "--sort-by=.metadata.annotations.rank", "-o", "name")
    assert ranked.split() == ["pod/b", "pod/a"]
    everywhere = kubectl("get", "pods", "-A", "--field-selector", f"metadata.namespace={kubectl.namespace}")
    assert everywhere.startswith("NAMESPACE ") and everywhere.count(kubectl.namespace) == 2
    assert "doesn't have a resource type" in kubectl.fails("get", "foos")
    assert kubectl.outcome("get", "secrets") == (0, f"No resources found in {kubectl.namespace} namespace.\n")
    assert "v1 Endpoints is deprecated in v1.33+" in kubectl.outcome("get", "endpoints")[1]
    events = kubectl("events", "--for", "pod/a")
    assert "Successfully assigned" in events and "Started" in events and "Pod/b" not in events
    assert "Pulled" in kubectl("get", "events", "--field-selector=involvedObject.name=b,reason=Pulled")


def test_watch(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "a")
    watch = kubectl.start("get", "configmaps", "--watch", "--output-watch-events", "--field-selector=metadata.name=a")
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert watch.stdout.readline().split()[:3] == ["ADDED", "a", "0"]
        kubectl("create", "configmap", "b")
        kubectl("patch", "configmap", "a", "-p", '{"data":{"k":"v"}}')
        assert watch.stdout.readline().split()[:3] == ["MODIFIED", "a", "1"]
        kubectl("delete", "configmap", "a")
        assert watch.stdout.readline().split()[:3] == ["DELETED", "a", "1"]
    finally:
        watch.terminate()
        watch.communicate(timeout=10)


def test_describe(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "d", f"--image={IMAGE}", "--", "sleep", "60")
    kubectl("expose", "deployment", "d", "--port=80")
    kubectl("create", "job", "j", f"--image={IMAGE}", "--", "true")
    kubectl("create", "cronjob", "cj", f"--image={IMAGE}", "--schedule=0 0 1 1 *", "--", "true")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=bcd")
    kubectl("create", "configmap", "cm", "--from-literal=a=b")
    kubectl("create", "quota", "q", "--hard=pods=9")
    kubectl("create", "pdb", "p", "--selector=app=d", "--min-available=1")
    kubectl("create", "ingress", "i", "--rule=example.com/*=d:80")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "b", "--role=r", "--user=ann")
    kubectl("wait", "deployment/d", "--for=condition=Available", "--timeout=30s")
    kubectl("wait", "job/j", "--for=condition=Complete", "--timeout=30s")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    expected = {
        "deployment/d": ["1 desired | 1 updated | 1 total | 1 available", "Scaled up replica set d-", "from 0 to 1"],
        "replicaset": ["Controlled By: Deployment/d", "1 Running / 0 Waiting", "Created pod: d-"],
        "pods -l app=d": ["Status: Running", "QoS Class: BestEffort", "Container started"],
        "service/d": ["TargetPort:", "80/TCP", ":80"],
        "job/j": ["1 Succeeded / 0 Failed", "Job completed"],
        "cronjob/cj": ["Schedule: 0 0 1 1 *"],
        "secret/s": ["a: 3 bytes"],
        "configmap/cm": ["a:\n----\nb"],
        "quota/q": ["pods 1 9"],
        "pdb/p": ["Allowed disruptions: 0", "Current: 1"],
        "ingress/i": ["example.com", "d:80 ("],
        "role/r": ["pods [] [] [get]"],
        "rolebinding/b": ["User ann"],
        "serviceaccount/default": ["Image pull secrets: <none>"],
        f"namespace/{kubectl.namespace}": ["Status: Active", "Name: q"],
        f"node/{node}": ["KubeletReady", "Allocatable:", "d-", "NodeReady"],
        "endpointslices": ["AddressType: IPv4", "TargetRef: Pod/d-"],
        "clusterrole/view": ["deployments.apps", "[get list watch]"],
    }
    for what, texts in expected.items():
        # The widths of columns depend on names.
        said = re.sub(r" +", " ", kubectl("describe", *what.split()))
        assert all(text in said for text in texts), f"{what}:\n{said}"


def test_discovery_and_documentation(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources", "--api-group=apps", "-o", "wide")
    assert re.search(r"deployments\s+deploy\s+apps/v1\s+true\s+Deployment\s+create,delete,deletecollection", resources)
    assert "nodes\n" in kubectl("api-resources", "--namespaced=false", "-o", "name", "--verbs=list")
    assert "autoscaling/v2\nbatch/v1\n" in kubectl("api-versions")
    assert "FIELD: httpGet <HTTPGetAction>" in kubectl("explain", "pods.spec.containers.livenessProbe.httpGet")
    assert "    periodSeconds\t<integer>" in kubectl("explain", "pod.spec.containers", "--recursive")
    assert "targetCPUUtilizationPercentage" in kubectl("explain", "hpa.spec", "--api-version=autoscaling/v1")
    assert 'field "nope" does not exist' in kubectl.fails("explain", "pods.spec.nope")
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert "readyz check passed" in kubectl("get", "--raw", "/readyz?verbose")
    assert "# TYPE apiserver_request_total counter" in kubectl("get", "--raw", "/metrics")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    assert kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/healthz") == "ok"
    path = f"/api/v1/namespaces/{kubectl.namespace}/configmaps"
    made = kubectl("create", "--raw", path, "-f", "-", input='{"metadata":{"name":"raw"}}')
    assert json.loads(made)["kind"] == "ConfigMap"
    assert json.loads(kubectl("delete", "--raw", f"{path}/raw"))["status"] == "Success"


def test_the_cluster_about_itself(kubectl: Kubectl, tmp_path: Path) -> None:
    assert "control plane" in kubectl("cluster-info")
    kubectl.apply(sleeper("p", command=["sh", "-c", "echo said; sleep 60"]))
    kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=30s")
    kubectl("cluster-info", "dump", "--namespaces", kubectl.namespace, "--output-directory", str(tmp_path))
    folder = tmp_path / kubectl.namespace
    assert json.loads((folder / "pods.json").read_text())["items"][0]["metadata"]["name"] == "p"
    assert "said" in (folder / "p" / "logs.txt").read_text()
    assert json.loads((tmp_path / "nodes.json").read_text())["items"]
    assert json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"].startswith("v1.37.")
    assert "DATA+OMITTED" in kubectl("config", "view", "--minify")
    context = kubectl("config", "current-context").strip()
    assert context in kubectl("config", "get-contexts", "-o", "name")
    assert "pod/p" in kubectl("--context", context, "get", "pods", "-o", "name")
