"""Other ways of kubectl's commands, against simulated nodes: editors, subresources, selections, who asks, debugging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.harness import Kubectl, eventually


def newer(kubectl: Kubectl) -> bool:
    """Whether it is the kubectl of this server's own version."""
    found: dict[str, Any] = json.loads(kubectl("version", "--client", "-o", "json"))
    return int(found["clientVersion"]["minor"].rstrip("+")) >= 37


def editor(folder: Path, script: str) -> dict[str, str]:
    """An editor that runs a shell script on the file `$1`, and counts its calls."""
    program = folder / "editor"
    program.write_text(f'#!/bin/sh\necho >> {folder}/calls\ncp "$1" {folder}/seen\n{script}\n')
    program.chmod(0o755)
    (folder / "calls").write_text("")
    return {"KUBE_EDITOR": str(program), "EDITOR": "false"}


def test_editing_before_creating(simulated: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: before}\n")
    change = editor(tmp_path, 'sed -i s/before/after/ "$1"')
    assert simulated("create", "--edit", "-f", f"{tmp_path}/a.yaml", env=change).endswith("configmap/a created\n")
    assert simulated.json("get", "configmap", "a")["data"] == {"k": "after"}
    assert "Please edit the object below." in (tmp_path / "seen").read_text()
    # What nobody changed is not made.
    said = simulated.outcome("create", "--edit", "-f", f"{tmp_path}/a.yaml", env=editor(tmp_path, "true"))[1]
    assert "Edit cancelled, no changes made." in said and "created" not in said


def test_what_an_editor_leaves_wrong_comes_back_to_it(simulated: Kubectl, tmp_path: Path) -> None:
    simulated("create", "service", "clusterip", "s", "--tcp=80")
    script = f'[ $(wc -l < {tmp_path}/calls) = 1 ] && sed -i "s/port: 80/port: 80000/" "$1"; true'
    code, said = simulated.outcome("edit", "service/s", env=editor(tmp_path, script))
    assert code == 1 and 'services "s" is invalid' in said
    assert 'A copy of your changes has been stored to "' in said
    seen = (tmp_path / "seen").read_text()
    assert "# * spec.ports[0].port: Invalid value: 80000: must be between 1 and 65535, inclusive" in seen
    assert (tmp_path / "calls").read_text() == "\n\n"
    script = 'sed -i "s/  ports:/  portts:/" "$1"'
    code, said = simulated.outcome("edit", "service/s", env=editor(tmp_path, script))
    assert code == 1 and simulated.json("get", "service", "s")["spec"]["ports"][0]["port"] == 80
    # Several at once, in JSON, and only the status of one.
    simulated("create", "configmap", "a", "--from-literal=k=before")
    simulated("create", "configmap", "b", "--from-literal=k=before")
    simulated("edit", "configmaps", "a", "b", "-o", "json", env=editor(tmp_path, 'sed -i s/before/after/ "$1"'))
    assert json.loads((tmp_path / "seen").read_text())["kind"] == "List"
    assert simulated("get", "configmaps", "a", "b", "-o", "jsonpath={.items[*].data.k}") == "after after"
    simulated("create", "deployment", "d", "--image=x", "--replicas=0")
    simulated("rollout", "status", "deployment/d", "--timeout=20s")
    change = editor(tmp_path, 'sed -i "s/status: .True./status: \\"False\\"/; s/replicas: 0/replicas: 5/" "$1"')
    assert "edited" in simulated("edit", "deployment/d", "--subresource=status", env=change)
    assert simulated.json("get", "deployment", "d")["spec"]["replicas"] == 0


def test_subresources(simulated: Kubectl, tmp_path: Path) -> None:
    simulated("run", "p", "--image=x", "--overrides", json.dumps({"spec": {"containers": [
        {"name": "p", "image": "x", "resources": {"requests": {"cpu": "10m"}}}
    ]}}))  # fmt: skip
    simulated("wait", "pod/p", "--for=condition=Ready", "--timeout=20s")
    resources = {"containers": [{"name": "p", "resources": {"requests": {"cpu": "20m"}}}]}
    assert "patched" in simulated("patch", "pod", "p", "--subresource=resize", "-p", json.dumps({"spec": resources}))
    assert simulated.json("get", "pod", "p")["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "20m"}
    path = "{.status.containerStatuses[0].allocatedResources.cpu}=20m"
    simulated("wait", "pod/p", f"--for=jsonpath={path}", "--timeout=20s")
    simulated("create", "-f", "-", input=json.dumps({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none",
                 "resources": {"requests": {"storage": "1Gi"}}},
    }))  # fmt: skip
    (tmp_path / "patch.yaml").write_text("status: {conditions: [{type: Tested, status: 'True'}]}\n")
    patch = ["patch", "pvc", "c", "--subresource=status", "--type=merge", f"--patch-file={tmp_path}/patch.yaml"]
    assert simulated(*patch) == "persistentvolumeclaim/c patched\n"
    shown = simulated.json("get", "pvc", "c", "--subresource=status")
    assert [c["type"] for c in shown["status"]["conditions"]] == ["Tested"]
    assert simulated("get", "pvc", "c", "--subresource=status").split()[:2] == ["NAME", "STATUS"]
    del shown["status"]["conditions"]
    shown["spec"]["storageClassName"] = "ignored"
    assert "replaced" in simulated("replace", "--subresource=status", "-f", "-", input=json.dumps(shown))
    claim = simulated.json("get", "pvc", "c")
    assert "conditions" not in claim["status"] and claim["spec"]["storageClassName"] == "none"
    said = simulated.fails("get", "configmap", "kube-root-ca.crt", "--subresource=status")
    assert "the server could not find the requested resource" in said
    local = simulated("patch", "-f", "-", "--local", "-p", '{"data":{"k":"v"}}', "-o", "jsonpath={.data}",
                      input='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"nowhere"}}')  # fmt: skip
    assert json.loads(local) == {"k": "v"}


def test_many_at_once(simulated: Kubectl, tmp_path: Path) -> None:
    for name in ("a", "b"):
        simulated("create", "deployment", name, "--image=x", "--replicas=0")
        simulated("label", "deployment", name, "set=s")
    said = simulated("scale", "deployments", "-l", "set=s", "--replicas=1", "--timeout=20s")
    assert said == "deployment.apps/a scaled\ndeployment.apps/b scaled\n"
    simulated("rollout", "status", "deployments", "-l", "set=s", "--timeout=20s")
    simulated("scale", "--replicas=0", "deployment/a", "deployment/b")
    version = simulated("get", "deployment", "a", "-o", "jsonpath={.metadata.resourceVersion}")
    said = simulated.fails("scale", "deployment/a", "--replicas=2", "--resource-version=1")
    assert f"Expected resource version to be 1, was {version}" in said or "Expected resource version" in said
    field = f"--field-selector=metadata.name=a,metadata.namespace={simulated.namespace}"
    assert simulated("label", "deployments", field, "one=yes") == "deployment.apps/a labeled\n"
    assert simulated("get", "deployments", "-A", "-l", "one=yes", "-o", "name") == "deployment.apps/a\n"
    assert "(server dry run)" in simulated("annotate", "deployment", "a", "x=y", "--dry-run=server")
    # What belongs to `all` kubectl knows from an earlier look at the server, unless it has a memory of its own.
    every = ["get", "all", "-l", "set=s", "-o", "name", f"--cache-dir={tmp_path}"]
    assert simulated(*every).split() == ["deployment.apps/a", "deployment.apps/b"]
    found = simulated("get", "deployments,configmaps", "--show-kind", "--no-headers").split()
    assert {"deployment.apps/a", "configmap/kube-root-ca.crt"} <= set(found)
    asked = ["delete", "deployments", "a", "b", "--interactive"]
    said = simulated.outcome(*asked, input="n\n")[1]
    assert "Do you want to continue?" in said and "deletion is cancelled" in said
    assert simulated.outcome(*asked, input="y\n")[0] == 0
    assert simulated("get", "deployments", "-o", "name") == ""


def test_who_asks_and_how(simulated: Kubectl) -> None:
    who = ["--as=ann", "--as-group=dev", "--as-group=ops", "--as-uid=7"]
    extra = (
        ["--as-user-extra=example.com/team=red", "--as-user-extra=example.com/team=blue"] if newer(simulated) else []
    )
    user = simulated.json("auth", "whoami", *who, *extra)["status"]["userInfo"]
    assert (user["username"], user["uid"], user["groups"]) == ("ann", "7", ["dev", "ops", "system:authenticated"])
    assert user.get("extra") == ({"example.com/team": ["red", "blue"]} if extra else None)
    simulated("create", "serviceaccount", "robot")
    token = simulated("create", "token", "robot").strip()
    alone = ["--server", simulated.json("config", "view", "--minify")["clusters"][0]["cluster"]["server"]]
    words = [*alone, f"--token={token}", "--insecure-skip-tls-verify", "--kubeconfig=/dev/null", "-n", "default"]
    said = simulated.bare("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", *words)
    assert said == f"system:serviceaccount:{simulated.namespace}:robot"
    code, said = simulated.outcome("get", "endpoints", "--warnings-as-errors", "-A")
    assert code == 1 and "1 warning received" in said and "Warning: v1 Endpoints is deprecated" in said
    assert "yes" in simulated("auth", "can-i", "get", "/metrics")
    assert simulated.outcome("auth", "can-i", "get", "pods", "--subresource=log", "--as=ann", "-q") == (1, "")
    code, said = simulated.outcome("get", "pods", "--request-timeout=1ns")
    assert code == 1 and "deadline exceeded" in said


def test_what_there_is(simulated: Kubectl) -> None:
    by_kind = simulated("api-resources", "--sort-by=kind", "--no-headers", "--api-group=apps").split("\n")
    assert [line.split()[-1] for line in by_kind if line] == [
        "ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet",
    ]  # fmt: skip
    assert {"pods", "services", "deployments.apps"} <= set(
        simulated("api-resources", "--categories=all", "-o", "name").split()
    )
    if newer(simulated):
        found = json.loads(simulated("api-resources", "--api-group=batch", "-o", "json"))
        assert {r["name"] for r in found["resources"]} >= {"jobs", "cronjobs"}
    dump = json.loads(
        simulated("cluster-info", "dump", "--namespaces", simulated.namespace).partition("\n}\n")[0] + "}"
    )
    assert dump["kind"] == "NodeList" and len(dump["items"]) == 2
    assert simulated("get", "--raw", "/livez/ping") == "ok"
    assert "bash completion" in simulated("completion", "bash")
    simulated("create", "deployment", "d", "--image=x")
    flags = ["--cpu=70%", "--memory=200Mi"] if newer(simulated) else ["--cpu-percent=70"]
    simulated("autoscale", "deployment", "d", "--max=3", *flags)
    metrics = {
        m["resource"]["name"]: m["resource"]["target"] for m in simulated.json("get", "hpa", "d")["spec"]["metrics"]
    }
    assert metrics["cpu"] == {"type": "Utilization", "averageUtilization": 70}
    if newer(simulated):
        assert metrics["memory"] == {"type": "AverageValue", "averageValue": "200Mi"}


def test_debugging_with_other_means(simulated: Kubectl, tmp_path: Path) -> None:
    probe = {"exec": {"command": ["true"]}}
    spec = {"containers": [{"name": "p", "image": "x", "readinessProbe": probe, "env": [{"name": "A", "value": "1"}]}]}
    simulated("run", "p", "--image=x", "--labels=app=p", f"--overrides={json.dumps({'spec': spec})}")
    simulated("wait", "pod/p", "--for=condition=Ready", "--timeout=20s")
    custom = {"env": [{"name": "B", "value": "2"}], "securityContext": {"runAsUser": 5}}
    (tmp_path / "custom.json").write_text(json.dumps(custom))
    common = ["debug", "p", "--image=tools", "--attach=false"]
    simulated(*common, "-c", "one", "--profile=restricted", "--env=C=3", "--", "sleep", "9")
    simulated(*common, "-c", "two", "--profile=netadmin", "--arguments-only", "--", "sleep", "9")
    simulated(*common, "-c", "three", "--profile=sysadmin", f"--custom={tmp_path}/custom.json", "--", "sleep", "9")
    one, two, three = simulated.json("get", "pod", "p")["spec"]["ephemeralContainers"]
    assert one["env"] == [{"name": "C", "value": "3"}] and one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert one["securityContext"]["runAsNonRoot"] and not one["securityContext"]["allowPrivilegeEscalation"]
    assert two["args"] == ["sleep", "9"] and two["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"]}
    assert three["env"] == custom["env"] and three["securityContext"]["runAsUser"] == 5
    eventually(lambda: len(simulated.json("get", "pod", "p")["status"].get("ephemeralContainerStatuses", ())) == 3)
    simulated("debug", "p", "--copy-to=kept", "--keep-labels", "--keep-readiness", "--attach=false", "--image=tools",
              "-c", "extra", "--profile=general", "--", "sleep", "9")  # fmt: skip
    kept = simulated.json("get", "pod", "kept")
    assert kept["metadata"]["labels"]["app"] == "p" and "readinessProbe" in kept["spec"]["containers"][0]
    said = simulated.fails("debug", "nobody", "--image=tools", "--", "true")
    assert 'pods "nobody" not found' in said


def test_preferences(simulated: Kubectl, tmp_path: Path) -> None:
    """A kuberc file: defaults of flags, and commands of one's own."""
    if not newer(simulated):
        return
    simulated("create", "configmap", "a", "--from-literal=k=v")
    environment = {"KUBERC": str(tmp_path / "kuberc")}
    (tmp_path / "kuberc").write_text("apiVersion: kubectl.config.k8s.io/v1beta1\nkind: Preference\n")
    simulated.bare("kuberc", "set", "--section=defaults", "--command=get", "--option=output=name", env=environment)
    alias = ["--section=aliases", "--name=maps", "--command=get", "--prependarg=configmaps", "--option=output=json"]
    simulated.bare("kuberc", "set", *alias, env=environment)
    words = ["--kubeconfig", str(simulated.kubeconfig), "-n", simulated.namespace]
    assert simulated.bare("get", "configmap", "a", *words, env=environment) == "configmap/a\n"
    assert json.loads(simulated.bare("maps", "a", *words, env=environment))["data"] == {"k": "v"}
