"""Volumes as containers see them: content, modes, owners, kinds of file system, paths below them, what updates do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conformance.batch import Batch
from tests.e2e.conformance.client import Namespace, Object, Refused, eventually
from tests.e2e.conformance.pods import AGNHOST, once, pod, shell

pods = Batch()
SHOW = "for f in /v/*; do stat -L -c '%n %a %u:%g' $f; cat $f; echo; done"
MODE = 0o400


@pytest.fixture(scope="module")
def running(shared: Namespace) -> Iterator[Namespace]:
    data = {"data-1": "value-1", "data-2": "value-2"}
    shared.create("configmaps", {"metadata": {"name": "map"}, "data": data, "binaryData": {"bytes": "3q2+7w=="}})
    shared.create("secrets", {"metadata": {"name": "secret"}, "stringData": data})
    yield from pods.run(shared)


def mounting(
    name: str, script: str, volume: Object, *, mount: Any = None, container: Any = None, **spec: Any
) -> Object:
    """A pod that runs a script with a volume at /v."""
    mounts = [{"name": "v", "mountPath": "/v", **(mount or {})}]
    volumes = [{"name": "v", **volume}, *spec.pop("volumes", [])]
    return once(name, script, container={"volumeMounts": mounts, **(container or {})}, volumes=volumes, **spec)


def items(mode: int = 0) -> list[Object]:
    return [{"key": "data-2", "path": "path/to/data-2", **({"mode": mode} if mode else {})}]


def source(kind: str, **more: Any) -> Object:
    """A volume of the map or the secret: by itself, or projected."""
    if kind == "projected":
        default = {"defaultMode": more.pop("defaultMode")} if "defaultMode" in more else {}
        return {"projected": {"sources": [{"secret": {"name": "secret", **more}}], **default}}
    if kind == "secret":
        return {"secret": {"secretName": "secret", **more}}
    return {"configMap": {"name": "map", **more}}


ONE = [{"key": "data-1", "path": "data-1"}]
NOT_ROOT = {"runAsUser": 1000}
KINDS = ("configmap", "secret", "projected")
DEEP = "stat -L -c '%a' /v/path/to/data-2; cat /v/path/to/data-2"
for kind in KINDS:
    pods.add(
        mounting(f"{kind}-plain", SHOW, source(kind, items=ONE)),
        mounting(f"{kind}-not-root", SHOW, source(kind, items=ONE), securityContext=NOT_ROOT),
        mounting(f"{kind}-default-mode", SHOW, source(kind, items=ONE, defaultMode=MODE)),
        mounting(f"{kind}-item", DEEP, source(kind, items=items())),
        mounting(f"{kind}-item-mode", DEEP, source(kind, items=items(MODE))),
        mounting(f"{kind}-group", SHOW, source(kind, items=ONE, defaultMode=0o440),
                 securityContext={"runAsUser": 1000, "fsGroup": 1001}),
        mounting(f"{kind}-twice", "cat /v/data-1 /w/data-1", source(kind), volumes=[{"name": "w", **source(kind)}],
                 container={"volumeMounts": [{"name": n, "mountPath": f"/{n}"} for n in "vw"]}),
        mounting(f"{kind}-sub-path", "cat /v; ls -la / | grep -c ' v$'", source(kind), mount={"subPath": "data-1"}),
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_content_modes_and_owners(running: Namespace, kind: str) -> None:
    assert running.output(f"{kind}-plain") == "/v/data-1 644 0:0\nvalue-1\n"
    assert running.output(f"{kind}-not-root") == "/v/data-1 644 0:0\nvalue-1\n"
    assert running.output(f"{kind}-default-mode") == "/v/data-1 400 0:0\nvalue-1\n"
    assert running.output(f"{kind}-item") == "644\nvalue-2"
    assert running.output(f"{kind}-item-mode") == "400\nvalue-2"
    assert running.output(f"{kind}-group") == "/v/data-1 440 0:1001\nvalue-1\n"
    assert running.output(f"{kind}-twice") == "value-1value-1"
    assert running.output(f"{kind}-sub-path") == "value-11\n"


FIELD = {"podname": "metadata.name", "labels": "metadata.labels", "annotations": "metadata.annotations"}
AMOUNTS = {"cpu_limit": "limits.cpu", "cpu_request": "requests.cpu"}
AMOUNTS |= {"memory_limit": "limits.memory", "memory_request": "requests.memory"}
RESOURCES = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}


def downward(mode: int = 0) -> list[Object]:
    files: list[Object] = [{"path": path, "fieldRef": {"fieldPath": where}} for path, where in FIELD.items()]
    for path, what in AMOUNTS.items():
        divisor = "1m" if "cpu" in path else "1Mi"
        ref = {"containerName": "c", "resource": what, "divisor": divisor}
        files.append({"path": path, "resourceFieldRef": ref, **({"mode": mode} if mode else {})})
    return files


NAMES = 'cd /v; for f in *; do echo "$f $(stat -L -c %a $f) $(cat $f)"; done'
DOWN = {"downwardAPI": {"items": downward(0o400), "defaultMode": 0o444}}
PROJECTED_DOWN = {"projected": {"sources": [{"downwardAPI": {"items": downward(0o400)}}], "defaultMode": 0o444}}
for name, volume in (("downward", DOWN), ("projected-downward", PROJECTED_DOWN)):
    pods.add(mounting(name, NAMES, volume, container={"resources": RESOURCES}, annotations={"a": "b"}))
    pods.add(mounting(f"{name}-default", NAMES, volume))


@pytest.mark.parametrize("name", ["downward", "projected-downward"])
def test_facts_of_the_pod_in_files(running: Namespace, name: str) -> None:
    files = {line.split()[0]: line.split()[1:] for line in running.output(name).splitlines()}
    assert files == {
        "podname": ["444", name], "labels": ["444", f'app="{name}"'], "annotations": ["444", 'a="b"'],
        "cpu_limit": ["400", "1250"], "cpu_request": ["400", "250"],
        "memory_limit": ["400", "64"], "memory_request": ["400", "32"],
    }  # fmt: skip
    node = running.get("nodes", running.get("pods", f"{name}-default")["spec"]["nodeName"])["status"]["allocatable"]
    files = {line.split()[0]: line.split()[2:] for line in running.output(f"{name}-default").splitlines()}
    assert files["cpu_limit"] == [str(int(node["cpu"]) * 1000)]
    assert files["memory_limit"] == [str(-(-int(node["memory"].removesuffix("Ki")) // 1024))]


pods.add(
    mounting("together", "find /v -type l -follow -type f | sort; cat /v/*", {"projected": {"sources": [
        {"secret": {"name": "secret", "items": [{"key": "data-1", "path": "secret"}]}},
        {"configMap": {"name": "map", "items": [{"key": "data-2", "path": "map"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]}}),
    mounting("binary", "od -An -tx1 /v/bytes", source("configmap")),
    mounting("over-file", "cat /etc/group", source("configmap"),
             mount={"mountPath": "/etc/group", "subPath": "data-1"}),
)  # fmt: skip


def test_several_sources_make_one_volume(running: Namespace) -> None:
    assert running.output("together").endswith("value-2togethervalue-1")
    assert running.output("binary") == " de ad be ef\n"
    assert running.output("over-file") == "value-1"


for medium in ("", "Memory"):
    word = medium.lower() or "disk"
    empty = {"emptyDir": {"medium": medium} if medium else {}}
    pods.add(mounting(f"{word}-folder", "stat -c '%a %F' /v; stat -f -c %T /v", empty))
    for mode in ("644", "666", "777"):
        for user in (0, 1001):
            write = f"umask 0; echo content > /v/f; chmod {mode} /v/f; stat -c '%a %u' /v/f; cat /v/f"
            context = {"runAsUser": user}
            pods.add(mounting(f"{word}-{mode}-{user}", write, empty, securityContext=context))


@pytest.mark.parametrize("word", ["disk", "memory"])
def test_empty_directories_of_both_media(running: Namespace, word: str) -> None:
    folder = running.output(f"{word}-folder").splitlines()
    assert folder == (["1777 directory", "tmpfs"] if word == "memory" else ["777 directory", folder[1]])
    assert folder[1] != "tmpfs" or word == "memory"
    for mode in ("644", "666", "777"):
        for user in (0, 1001):
            assert running.output(f"{word}-{mode}-{user}") == f"{mode} {user}\ncontent\n"


pods.add(
    pod("sharing", shell("while ! cat /v/said 2>/dev/null; do sleep 0.1; done", volumeMounts=[
        {"name": "v", "mountPath": "/v"}]), shell("echo hello > /v/said", name="other", volumeMounts=[
            {"name": "v", "mountPath": "/v"}]), restartPolicy="Never", volumes=[{"name": "v", "emptyDir": {}}]),
)  # fmt: skip


def test_containers_share_a_directory(running: Namespace) -> None:
    assert running.output("sharing", "c") == "hello\n"


def expression(name: str, value: str, path: str, script: str = "true", **annotations: str) -> Object:
    env = [{"name": "P", "value": value}]
    env.append({"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}})
    mounts = [{"name": "v", "mountPath": "/v", "subPathExpr": path}, {"name": "v", "mountPath": "/whole"}]
    container = {"env": env, "volumeMounts": mounts}
    volumes = [{"name": "v", "emptyDir": {}}]
    return once(name, script, container=container, annotations=annotations, volumes=volumes)


pods.add(
    expression("expanded", "foo", "$(NOTE)/$(P)", "echo inside > /v/f; cat /whole/mine/foo/f", note="mine"),
    expression("absolute", "/tmp", "$(P)"),
    expression("upward", "..", "$(P)"),
    expression("unknown", "", "$(NONE)"),
    expression("fixed", "foo", "$(NOTE)/$(P)", "test -d /whole/good/foo && echo fixed"),
)


def test_paths_below_a_volume_are_expanded(running: Namespace) -> None:
    assert running.output("expanded") == "inside\n"

    def waiting(name: str) -> str:
        reason: str = running.get("pods", name)["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
        return reason

    for name in ("absolute", "upward", "unknown", "fixed"):
        eventually(lambda name=name: waiting(name) == "CreateContainerConfigError")  # type: ignore[misc]
    running.patch("pods", "fixed", {"metadata": {"annotations": {"note": "good"}}})
    assert running.output("fixed") == "fixed\n"


pods.add(pod("image", {"name": "c", "image": AGNHOST, "command": [
    "sh", "-c", "cat /v/etc/hostname-of-image; cat /sub/passwd | head -1; touch /v/x"], "volumeMounts": [
        {"name": "v", "mountPath": "/v"}, {"name": "v", "mountPath": "/sub", "subPath": "etc"}]},
    volumes=[{"name": "v", "image": {"reference": AGNHOST, "pullPolicy": "IfNotPresent"}}],
    restartPolicy="Never"))  # fmt: skip


def test_an_image_as_a_volume(running: Namespace) -> None:
    assert running.ended("image")["status"]["phase"] == "Failed"
    said = running.log("image")
    assert "root:x:0:0" in said and "Read-only file system" in said


WATCH = 'while true; do for f in /v/*; do echo "$(basename $f)=$(cat $f)"; done; echo; sleep 0.2; done'


def optional(kind: str, name: str) -> Object:
    if kind == "configmap":
        return {"configMap": {"name": name, "optional": True}}
    if kind == "secret":
        return {"secret": {"secretName": name, "optional": True}}
    return {"projected": {"sources": [{"configMap": {"name": name, "optional": True}}]}}


@pytest.mark.parametrize("kind", KINDS)
def test_updates_reach_running_pods(running: Namespace, kind: str) -> None:
    plural = "secrets" if kind == "secret" else "configmaps"
    change, remove, create = (f"{kind}-{verb}" for verb in ("change", "remove", "create"))

    def body(name: str, value: str) -> Object:
        data = {"stringData" if kind == "secret" else "data": {"key": value}}
        return {"metadata": {"name": name}, **data}

    for name in (change, remove):
        running.create(plural, body(name, "one"))
    names = (change, remove, create)
    mounts = [{"name": name, "mountPath": f"/v/{name}"} for name in names]
    volumes = [{"name": name, **optional(kind, name)} for name in names]
    watcher = f"{kind}-watcher"
    running.run(pod(watcher, shell("sleep 3600", volumeMounts=mounts), volumes=volumes))

    def seen() -> list[str]:
        return running.exec(
            watcher, "sh", "-c", "cd /v; for f in *; do echo $f=$(cat $f/key 2>/dev/null); done"
        ).split()

    assert seen() == [f"{change}=one", f"{create}=", f"{remove}=one"]
    running.patch(plural, change, body(change, "two"))
    running.delete(plural, remove)
    running.create(plural, body(create, "new"))
    eventually(lambda: seen() == [f"{change}=two", f"{create}=new", f"{remove}="], 90)


def test_labels_and_annotations_reach_files(running: Namespace) -> None:
    fields = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    notes = {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}
    mounts = [{"name": n, "mountPath": f"/{n}"} for n in ("v", "w")]
    volumes: list[Object] = [{"name": "v", "downwardAPI": {"items": [fields, notes]}}]
    volumes.append({"name": "w", "projected": {"sources": [{"downwardAPI": {"items": [fields, notes]}}]}})
    running.run(
        pod("described", shell("sleep 3600", volumeMounts=mounts), volumes=volumes, annotations={"builder": "bar"})
    )
    running.patch("pods", "described", {"metadata": {"labels": {"k": "v"}, "annotations": {"builder": "foo"}}})
    expected = 'app="described"\nk="v"builder="foo"' * 2

    def seen() -> str:
        return running.exec("described", "sh", "-c", "for v in /v /w; do cat $v/labels $v/annotations; done")

    eventually(lambda: seen() == expected, 60)


def test_what_is_immutable_stays(running: Namespace) -> None:
    for plural, data in (("configmaps", "data"), ("secrets", "stringData")):
        running.create(plural, {"metadata": {"name": "fixed"}, data: {"k": "v"}, "immutable": True})
        for change in ({data: {"k": "w"}}, {"immutable": None}):
            with pytest.raises(Refused) as caught:
                running.patch(plural, "fixed", change)
            assert "field is immutable when `immutable` is set" in caught.value.text
        running.patch(plural, "fixed", {"metadata": {"labels": {"a": "b"}}})
        running.delete(plural, "fixed")


def test_fifty_maps_in_each_of_five_pods(running: Namespace) -> None:
    names = [f"race-{n}" for n in range(50)]
    for name in names:
        running.create("configmaps", {"metadata": {"name": name}, "data": {"data-1": name}})
    mounts = [{"name": name, "mountPath": f"/v/{name}"} for name in names]
    volumes = [{"name": name, "configMap": {"name": name}} for name in names]
    running.run(*(pod(f"racer-{n}", shell("sleep 600", volumeMounts=mounts), volumes=volumes) for n in range(5)))
    assert running.exec("racer-4", "sh", "-c", "cat /v/*/data-1 | wc -c") == f"{len(''.join(names))}\n"


def test_volumes_that_would_wrap_each_other_do_not(running: Namespace) -> None:
    names = {"secret": {"secretName": "secret"}, "configMap": {"name": "map"}}
    mounts = [{"name": f"{kind.lower()}-v", "mountPath": f"/etc/{kind.lower()}-v"} for kind in names]
    volumes = [{"name": f"{kind.lower()}-v", kind: where} for kind, where in names.items()]
    running.run(pod("wrapped", shell("sleep 600", volumeMounts=mounts), volumes=volumes))
    assert running.exec("wrapped", "cat", "/etc/secret-v/data-1", "/etc/configmap-v/data-2") == "value-1value-2"
