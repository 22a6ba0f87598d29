"""kubectl apply, diff, edit, patch, replace, label, annotate and delete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.harness import IMAGE, Kubectl, eventually, sleeper


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"set": "s"}}, "data": data}


def write(path: Path, obj: dict[str, Any]) -> str:
    path.write_text(json.dumps(obj))
    return str(path)


def test_apply_and_diff(kubectl: Kubectl, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", config_map("a", one="1", two="2"))
    code, said = kubectl.outcome("diff", "-f", file)
    assert code == 1 and '+  one: "1"' in said
    assert kubectl("apply", "-f", file) == "configmap/a created\n"
    assert kubectl("apply", "-f", file) == "configmap/a unchanged\n"
    assert kubectl.outcome("diff", "-f", file) == (0, "")
    kubectl("patch", "configmap", "a", "-p", '{"data":{"other":"x"}}')
    write(tmp_path / "a.json", config_map("a", one="11"))
    code, said = kubectl.outcome("diff", "-f", file)
    assert code == 1 and '-  one: "1"\n+  one: "11"' in said
    assert "configured (server dry run)" in kubectl("apply", "-f", file, "--dry-run=server")
    assert kubectl("apply", "-f", file) == "configmap/a configured\n"
    assert kubectl.json("get", "configmap", "a")["data"] == {"one": "11", "other": "x"}
    assert json.loads(kubectl("apply", "view-last-applied", "configmap/a", "-o", "json"))["data"] == {"one": "11"}
    kubectl("apply", "edit-last-applied", "configmap/a", env={"EDITOR": "sed -i s/11/12/"})
    assert json.loads(kubectl("apply", "view-last-applied", "configmap/a", "-o", "json"))["data"] == {"one": "12"}
    kubectl("apply", "set-last-applied", "-f", file)
    assert json.loads(kubectl("apply", "view-last-applied", "configmap/a", "-o", "json"))["data"] == {"one": "11"}


def test_server_side_apply(kubectl: Kubectl, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", config_map("a", one="1"))
    assert kubectl("apply", "--server-side", "-f", file) == "configmap/a serverside-applied\n"
    write(tmp_path / "a.json", config_map("a", one="2"))
    said = kubectl.fails("apply", "--server-side", "-f", file, "--field-manager=other")
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .data.one' in said
    kubectl("apply", "--server-side", "-f", file, "--field-manager=other", "--force-conflicts")
    owners = kubectl.json("get", "configmap", "a", "--show-managed-fields")["metadata"]["managedFields"]
    assert {o["manager"]: o["operation"] for o in owners} == {"kubectl": "Apply", "other": "Apply"}


def test_prune_and_kustomize(kubectl: Kubectl, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a", "b"):
        write(folder / f"{name}.json", config_map(name, k=name))
    words = ["apply", "-f", str(folder), "-l", "set=s", "--prune", "--prune-allowlist=core/v1/ConfigMap"]
    kubectl(*words)
    (folder / "b.json").unlink()
    assert "configmap/b pruned" in kubectl(*words)
    kustomize = tmp_path / "kustomize"
    kustomize.mkdir()
    write(kustomize / "cm.json", config_map("plain", k="v"))
    generator = [{"name": "made", "literals": ["a=b"]}]
    write(
        kustomize / "kustomization.yaml",
        {"namePrefix": "z-", "resources": ["cm.json"], "configMapGenerator": generator},
    )
    assert "name: z-plain" in kubectl("kustomize", str(kustomize))
    assert kubectl.outcome("diff", "-k", str(kustomize))[0] == 1
    assert "configmap/z-plain created" in kubectl("apply", "-k", str(kustomize))
    assert "configmap/z-made-" in kubectl("get", "-k", str(kustomize), "-o", "name")
    assert kubectl.outcome("diff", "-k", str(kustomize)) == (0, "")
    kubectl("delete", "-k", str(kustomize))
    assert kubectl("get", "configmaps", "-l", "set=s", "-o", "name") == "configmap/a\n"


def test_edit(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("a", k="before"))
    assert "edited" in kubectl("edit", "configmap/a", env={"EDITOR": "sed -i s/before/after/"})
    assert kubectl.json("get", "configmap", "a")["data"] == {"k": "after"}
    kubectl("edit", "configmap/a", env={"EDITOR": "true"})
    assert kubectl.json("get", "configmap", "a")["data"] == {"k": "after"}
    kubectl("create", "pdb", "p", "--selector=app=p", "--min-available=1")
    kubectl("edit", "pdb/p", env={"EDITOR": "sed -i s/minAvailable:.*/minAvailable:\\ 2/"})
    assert kubectl.json("get", "pdb", "p")["spec"]["minAvailable"] == 2


def test_patch(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("a", k="v"))

    def data() -> Any:
        return kubectl.json("get", "configmap", "a")["data"]

    kubectl("patch", "configmap", "a", "-p", '{"data":{"x":"y"}}')
    assert "(no change)" in kubectl("patch", "configmap", "a", "-p", '{"data":{"x":"y"}}')
    kubectl("patch", "configmap", "a", "--type=merge", "-p", '{"data":{"k":null}}')
    assert data() == {"x": "y"}
    kubectl("patch", "configmap", "a", "--type=json", "-p", '[{"op":"add","path":"/data/j","value":"z"}]')
    assert data() == {"x": "y", "j": "z"}
    failed = '[{"op":"test","path":"/data/j","value":"other"}]'
    assert "the server rejected our request" in kubectl.fails("patch", "configmap", "a", "--type=json", "-p", failed)
    kubectl.apply(sleeper("p", container={"env": [{"name": "A", "value": "1"}]}))
    more = {"spec": {"containers": [{"name": "c", "image": "localhost/busybox:2"}]}}
    kubectl("patch", "pod", "p", "-p", json.dumps(more))
    container = kubectl.json("get", "pod", "p")["spec"]["containers"][0]
    assert (container["image"], container["env"]) == ("localhost/busybox:2", [{"name": "A", "value": "1"}])
    forbidden = {"spec": {"containers": [{"name": "c", "command": ["x"]}]}}
    said = kubectl.fails("patch", "pod", "p", "-p", json.dumps(forbidden))
    assert "pod updates may not change fields other than" in said


def test_replace_and_validation(kubectl: Kubectl, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", config_map("a", k="1"))
    assert "NotFound" in kubectl.fails("replace", "-f", file)
    kubectl("create", "-f", file, "--save-config")
    live = kubectl.json("get", "configmap", "a")
    write(tmp_path / "a.json", config_map("a", k="2"))
    assert kubectl("replace", "-f", file) == "configmap/a replaced\n"
    said = kubectl.fails("replace", "-f", "-", input=json.dumps(live))
    assert "the object has been modified; please apply your changes to the latest version and try again" in said
    kubectl("replace", "--force", "-f", file)
    assert kubectl.json("get", "configmap", "a")["metadata"]["uid"] != live["metadata"]["uid"]
    wrong = json.dumps({**config_map("b"), "datas": {"x": "y"}})
    assert 'strict decoding error: unknown field "datas"' in kubectl.fails("create", "-f", "-", input=wrong)
    code, said = kubectl.outcome("create", "-f", "-", "--validate=warn", input=wrong)
    assert code == 0 and 'Warning: unknown field "datas"' in said
    code, said = kubectl.outcome("replace", "-f", "-", "--validate=ignore", input=wrong)
    assert (code, said) == (0, "configmap/b replaced\n")


def test_label_and_annotate(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("a"), config_map("b"))
    kubectl("label", "configmap", "a", "x=y")
    assert "--overwrite is false" in kubectl.fails("label", "configmap", "a", "x=z")
    kubectl("label", "configmap", "a", "x=z", "--overwrite")
    assert sorted(kubectl("label", "configmap", "a", "--list").split()) == ["set=s", "x=z"]
    kubectl("label", "configmap", "a", "x-")
    kubectl("label", "configmaps", "-l", "set=s", "t=1")
    assert kubectl("get", "configmaps", "-l", "t=1", "-o", "name").split() == ["configmap/a", "configmap/b"]
    assert "name part must consist of" in kubectl.fails("label", "configmap", "a", "bad key=x")
    kubectl("annotate", "configmaps", "--all", "note=some words")
    kubectl("annotate", "configmap", "a", "note-")
    notes = kubectl("get", "configmaps", "-l", "t=1", "-o", "jsonpath={.items[*].metadata.annotations.note}")
    assert notes == "some words"
    assert "the object has been modified" in kubectl.fails("annotate", "configmap", "a", "n=1", "--resource-version=1")


def test_delete(kubectl: Kubectl, tmp_path: Path) -> None:
    for name in ("d", "e"):
        kubectl("create", "deployment", name, f"--image={IMAGE}", "--", "sleep", "60")
        kubectl("wait", f"deployment/{name}", "--for=condition=Available", "--timeout=30s")
    kubectl("delete", "deployment", "d", "--cascade=orphan")
    assert "replicaset.apps/d-" in kubectl("get", "rs", "-o", "name")
    deleting = kubectl.start("delete", "deployment", "e", "--cascade=foreground")
    eventually(lambda: kubectl.json("get", "deployment", "e")["metadata"]["finalizers"] == ["foregroundDeletion"], 10)
    kubectl("delete", "pods", "-l", "app=e", "--now")
    assert deleting.communicate(timeout=30)[0].startswith('deployment.apps "e" deleted')
    kubectl("delete", "rs", "--all", "--wait=false")
    kubectl("delete", "pods", "-l", "app=d", "--grace-period=0", "--force")
    assert kubectl("get", "deployments,replicasets,pods", "-o", "name") == ""
    file = write(tmp_path / "a.json", config_map("a"))
    kubectl.apply(config_map("a"), config_map("b"))
    assert "(server dry run)" in kubectl("delete", "configmaps", "-l", "set=s", "--dry-run=server")
    kubectl("delete", "-f", file)
    assert "NotFound" in kubectl.fails("delete", "-f", file)
    assert kubectl("delete", "-f", file, "--ignore-not-found") == ""
    assert 'configmap "b" deleted' in kubectl("delete", "configmaps", "--field-selector=metadata.name=b")
    kubectl("create", "configmap", "held")
    kubectl("patch", "configmap", "held", "-p", '{"metadata":{"finalizers":["example.com/hold"]}}')
    assert "timed out" in kubectl.fails("delete", "configmap", "held", "--timeout=1s")
    kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "NotFound" in kubectl.fails("get", "configmap", "held")
