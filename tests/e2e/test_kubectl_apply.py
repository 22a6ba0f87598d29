"""kubectl apply in depth, against simulated nodes: pruning, apply sets, the ways between client and server side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.harness import Kubectl

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
APPLY_SETS = {"KUBECTL_APPLYSET": "true"}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": "s"}}, "data": data}


def write(folder: Path, *objects: dict[str, Any]) -> str:
    """Makes `folder` hold these objects and no others."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for obj in objects:
        (folder / f"{obj['kind']}-{obj['metadata']['name']}.json").write_text(json.dumps(obj))
    return str(folder)


def owners(kubectl: Kubectl, name: str) -> dict[tuple[str, str], Any]:
    """Who owns which fields of a ConfigMap, by manager and operation."""
    entries = kubectl.json("get", "configmap", name, "--show-managed-fields")["metadata"]["managedFields"]
    return {(e["manager"], e["operation"]): e["fieldsV1"] for e in entries}


def names(kubectl: Kubectl, *kinds: str) -> list[str]:
    return kubectl("get", ",".join(kinds or ("configmaps",)), "-l", "set=s", "-o", "name").split()


def test_pruning_deletes_only_what_apply_made(simulated: Kubectl, tmp_path: Path) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "labels": {"set": "s"}},
        "rules": [],
    }  # fmt: skip
    folder = write(tmp_path / "set", config_map("a"), config_map("b"), role)
    simulated("create", "-f", "-", input=json.dumps(config_map("made-by-hand")))
    allowed = ["--prune-allowlist=core/v1/ConfigMap", "--prune-allowlist=rbac.authorization.k8s.io/v1/Role"]
    words = ["apply", "-f", folder, "-l", "set=s", "--prune", *allowed]
    simulated(*words)
    write(tmp_path / "set", config_map("a"))
    dry = simulated(*words, "--dry-run=server")
    assert "configmap/b pruned (server dry run)" in dry
    assert len(names(simulated, "configmaps", "roles")) == 4
    said = simulated(*words)
    assert sorted(said.splitlines()) == [
        "configmap/a unchanged", "configmap/b pruned", "role.rbac.authorization.k8s.io/r pruned",
    ]  # fmt: skip
    assert names(simulated, "configmaps", "roles") == ["configmap/a", "configmap/made-by-hand"]
    assert "all resources selected for prune without explicitly passing --all" in simulated.fails(
        "apply", "-f", folder, "--prune"
    )


def test_an_apply_set_prunes_its_members(simulated: Kubectl, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", config_map("a"), config_map("b"))
    words = ["apply", "-f", folder, "--prune", "--applyset=mine"]
    simulated(*words, env=APPLY_SETS)
    parent = simulated.json("get", "secret", "mine")["metadata"]
    assert parent["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == "ConfigMap"
    member = {"applyset.kubernetes.io/part-of": parent["labels"]["applyset.kubernetes.io/id"], "set": "s"}
    assert simulated.json("get", "configmap", "b")["metadata"]["labels"] == member
    write(tmp_path / "set", config_map("a"))
    assert simulated(*words, env=APPLY_SETS) == "configmap/a unchanged\nconfigmap/b pruned\n"
    server = ["apply", "--server-side", "-f", folder, "--prune"]
    simulated("create", "configmap", "no-parent")
    code, said = simulated.outcome(*server, "--applyset=configmaps/no-parent", env=APPLY_SETS)
    assert code == 1 and 'is missing required annotation "applyset.kubernetes.io/tooling"' in said
    assert simulated.json("get", "configmap", "a")["metadata"]["labels"] == member
    write(tmp_path / "set", config_map("c"))
    said = simulated(*server, "--applyset=mine", env=APPLY_SETS)
    assert said == "configmap/c serverside-applied\nconfigmap/a pruned\n"
    assert names(simulated) == ["configmap/c"]


def test_server_side_apply_takes_over_what_was_applied_client_side(simulated: Kubectl, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", config_map("a", kept="1", dropped="1"))
    simulated("apply", "-f", folder)
    assert ("kubectl-client-side-apply", "Update") in owners(simulated, "a")
    assert simulated("apply", "--server-side", "-f", folder) == "configmap/a serverside-applied\n"
    migrated = owners(simulated, "a")
    assert sorted(migrated) == [("kubectl", "Apply"), ("kubectl-last-applied", "Apply")]
    assert migrated["kubectl", "Apply"]["f:data"].keys() >= {"f:dropped", "f:kept"}
    # So what the next file leaves out goes, though it came by client-side apply.
    write(tmp_path / "set", config_map("a", kept="2"))
    simulated("apply", "--server-side", "-f", folder)
    live = simulated.json("get", "configmap", "a")
    assert live["data"] == {"kept": "2"}
    assert json.loads(live["metadata"]["annotations"][LAST_APPLIED])["data"] == {"kept": "2"}
    # And the way back: client-side apply finds what it needs for a three-way merge.
    write(tmp_path / "set", config_map("a", other="3"))
    assert simulated("apply", "-f", folder) == "configmap/a configured\n"
    assert simulated.json("get", "configmap", "a")["data"] == {"other": "3"}


def test_server_side_apply_conflicts_with_what_others_set(simulated: Kubectl, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", config_map("a", x="1", y="1"))
    simulated("create", "-f", folder, "--field-manager=somebody")
    write(tmp_path / "set", config_map("a", x="2", y="2"))
    said = simulated.fails("apply", "--server-side", "-f", folder)
    assert 'Apply failed with 2 conflicts: conflicts with "somebody" using v1:\n- .data.x\n- .data.y\n' in said
    assert "please re-run the apply\n  command with the `--force-conflicts` flag." in said
    assert simulated.json("get", "configmap", "a")["data"] == {"x": "1", "y": "1"}
    forced = simulated("apply", "--server-side", "-f", folder, "--force-conflicts")
    assert forced == "configmap/a serverside-applied\n"
    assert simulated.json("get", "configmap", "a")["data"] == {"x": "2", "y": "2"}
    assert owners(simulated, "a")["somebody", "Update"]["f:data"] == {}
    simulated("patch", "configmap", "a", "-p", '{"data":{"x":"3"}}')
    said = simulated.fails("apply", "--server-side", "-f", folder)
    assert 'Apply failed with 1 conflict: conflict with "kubectl-patch" using v1: .data.x' in said
    code, diff = simulated.outcome("diff", "--server-side", "--force-conflicts", "-f", folder)
    assert code == 1 and '-  x: "3"\n+  x: "2"' in diff
    code, said = simulated.outcome("diff", "--server-side", "-f", folder)
    assert code > 1 and "conflict" in said


def test_only_kubectl_itself_may_take_over_from_client_side_apply(simulated: Kubectl, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", config_map("a", x="1"))
    simulated("apply", "-f", folder)
    write(tmp_path / "set", config_map("a", x="2"))
    said = simulated.fails("apply", "--server-side", "-f", folder, "--field-manager=other")
    assert 'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .data.x' in said
    assert simulated("apply", "--server-side", "-f", folder) == "configmap/a serverside-applied\n"
    assert simulated.json("get", "configmap", "a")["data"] == {"x": "2"}


def test_what_diff_ends_with(simulated: Kubectl, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", config_map("a", k="1"))
    assert simulated.outcome("diff", "-f", folder)[0] == 1
    assert simulated("get", "configmaps", "-l", "set=s", "-o", "name") == ""
    simulated("apply", "-f", folder)
    assert simulated.outcome("diff", "-f", folder) == (0, "")
    write(tmp_path / "set", {**config_map("a"), "data": {"k": 5}})
    code, said = simulated.outcome("diff", "-f", folder)
    assert code > 1 and "ConfigMap" in said
    assert simulated.outcome("diff", "-f", str(tmp_path / "nothing"))[0] > 1
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"word": "first"}}
    simulated("apply", "-f", write(tmp_path / "secret", secret))
    code, said = simulated.outcome("diff", "-f", write(tmp_path / "secret", {**secret, "stringData": {"word": "2"}}))
    assert code == 1 and "word: '*** (before)'" in said and "first" not in said
    write(tmp_path / "set", config_map("b", k="1"))
    code, said = simulated.outcome("diff", "-f", folder, "--prune", "-l", "set=s")
    assert code == 1 and "-  name: a" in said and "+  name: b" in said


def test_an_edit_in_between_is_kept_unless_the_file_says_otherwise(simulated: Kubectl) -> None:
    """The three-way merge: of a list merged by key, only what the file once held is the file's."""
    port = {"containerPort": 80, "protocol": "TCP"}
    container = {"name": "c", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}
    pod = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{**container, "ports": [port]}]}}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "d"}}, "template": pod},
    }  # fmt: skip
    simulated.apply(deployment)
    simulated("set", "env", "deployment/d", "C=1")
    simulated("scale", "deployment/d", "--replicas=1")
    container["env"] = [{"name": "A", "value": "2"}]
    pod["spec"] = {"containers": [container, {"name": "side", "image": "y"}]}
    del deployment["spec"]["replicas"]  # type: ignore[attr-defined]
    assert simulated.apply(deployment) == "deployment.apps/d configured\n"
    spec = simulated.json("get", "deployment", "d")["spec"]
    first, second = spec["template"]["spec"]["containers"]
    assert {e["name"]: e["value"] for e in first["env"]} == {"A": "2", "C": "1"}
    assert "ports" not in first and second["name"] == "side"
    # The file had a number of replicas and has none now, which is the default.
    assert spec["replicas"] == 1


OVERLAY = """
namePrefix: prod-
commonAnnotations: {stage: production}
resources: [../base]
images: [{name: app, newName: registry.example/app, newTag: v2}]
replicas: [{name: web, count: 3}]
labels: [{pairs: {tier: front}, includeSelectors: true}]
patches:
- target: {kind: Deployment, name: web}
  patch: '[{"op": "add", "path": "/spec/template/spec/priority", "value": 0}]'
- patch: |
    {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: NodePort}}
configMapGenerator: [{name: settings, behavior: merge, literals: [mode=production]}]
secretGenerator: [{name: password, literals: [word=x], options: {disableNameSuffixHash: true}}]
"""
BASE = """
resources: [web.yaml]
configMapGenerator: [{name: settings, literals: [mode=test, size=1]}]
"""
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: app, envFrom: [{configMapRef: {name: settings}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""


def test_an_overlay(simulated: Kubectl, tmp_path: Path) -> None:
    for path, text in {"base/kustomization": BASE, "base/web": WEB, "prod/kustomization": OVERLAY}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / f"{path}.yaml").write_text(text)
    prod = str(tmp_path / "prod")
    assert simulated("kustomize", prod).count("stage: production") >= 4
    simulated("apply", "-k", prod)
    simulated("rollout", "status", "deployment/prod-web", "--timeout=30s")
    made = simulated.json("get", "deployment", "prod-web")["spec"]
    container = made["template"]["spec"]["containers"][0]
    assert (made["replicas"], container["image"]) == (3, "registry.example/app:v2")
    assert made["selector"]["matchLabels"] == {"app": "web", "tier": "front"}
    generated = container["envFrom"][0]["configMapRef"]["name"]
    assert generated.startswith("prod-settings-")
    assert simulated.json("get", "configmap", generated)["data"] == {"mode": "production", "size": "1"}
    assert simulated.json("get", "service", "prod-web")["spec"]["type"] == "NodePort"
    assert simulated("get", "secret", "prod-password", "-o", "jsonpath={.data.word}") == "eA=="
    assert simulated.outcome("diff", "-k", prod) == (0, "")
    simulated("delete", "-k", prod)
    assert simulated("get", "deployments,services,secrets", "-o", "name") == ""
