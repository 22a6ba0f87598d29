"""Claims of the default class: a directory of the node's disk, made when a pod comes, removed when the claim goes."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conformance.client import Namespace, Object, eventually
from tests.e2e.conformance.pods import once, pod, shell


def writer(name: str, script: str, claim: str) -> Object:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    return once(name, script, container=mounts, volumes=volumes, securityContext={"runAsUser": 1000, "fsGroup": 2000})


def claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"metadata": {"name": name}, "spec": spec}


def test_what_was_written_is_there_for_the_next_pod_and_goes_with_the_claim(space: Namespace, duo: Path) -> None:
    space.create("persistentvolumeclaims", claim("data"))
    space.start(writer("first", "echo hello >/v/file && stat -c '%u:%g' /v/file", "data"))
    assert space.output("first") == "1000:2000\n"
    node = space.get("pods", "first")["spec"]["nodeName"]
    volume = space.get("persistentvolumeclaims", "data")["spec"]["volumeName"]
    directory = duo / "nodes" / node / "local-path" / volume
    assert (directory / "file").read_text() == "hello\n"
    space.start(writer("second", "cat /v/file", "data"))
    assert space.output("second") == "hello\n"
    assert space.get("pods", "second")["spec"]["nodeName"] == node
    for name in ("first", "second"):
        space.delete("pods", name)
    space.delete("persistentvolumeclaims", "data")
    eventually(lambda: space.gone("persistentvolumes", volume))
    assert not directory.exists()


def test_each_pod_of_a_stateful_set_has_its_own(space: Namespace) -> None:
    mounts = [{"name": "data", "mountPath": "/v"}]
    template = pod("db", shell("hostname >>/v/names; sleep 600", volumeMounts=mounts))
    labels = {"app": "db"}
    spec = {"replicas": 2, "serviceName": "db", "selector": {"matchLabels": labels},
            "template": template, "volumeClaimTemplates": [claim("data")]}  # fmt: skip
    space.create("statefulsets", {"metadata": {"name": "db"}, "spec": spec})
    for name in ("db-0", "db-1"):
        eventually(lambda name=name: not space.gone("pods", name))  # type: ignore[misc]
        space.ready(name)
        eventually(lambda name=name: space.exec(name, "cat", "/v/names") == f"{name}\n")  # type: ignore[misc]
    before = space.get("pods", "db-0")["metadata"]["uid"]
    space.delete("pods", "db-0")
    eventually(lambda: not space.gone("pods", "db-0") and space.get("pods", "db-0")["metadata"]["uid"] != before)
    space.ready("db-0")
    eventually(lambda: space.exec("db-0", "cat", "/v/names") == "db-0\ndb-0\n")
