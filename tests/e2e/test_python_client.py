"""The official Python client creates, watches, execs into and deletes a pod."""

from __future__ import annotations

from pathlib import Path

from kubernetes import client, config, stream, watch

from tests.e2e.harness import eventually, sleeper


def test_a_pod_from_creation_to_deletion(data: Path) -> None:
    api = client.CoreV1Api(config.new_client_from_config(str(data / "admin.kubeconfig")))
    eventually(lambda: api.read_namespaced_service_account("default", "default"))
    api.create_namespaced_pod("default", sleeper("from-python"))
    phases = []
    watcher = watch.Watch()
    for event in watcher.stream(
        api.list_namespaced_pod, "default", label_selector="app=from-python", timeout_seconds=30
    ):
        phases.append(event["object"].status.phase)
        if phases[-1] == "Running":
            watcher.stop()
    assert phases[0] == "Pending"
    said = stream.stream(
        api.connect_get_namespaced_pod_exec, "from-python", "default", command=["echo", "hello"],
        stdout=True, stderr=True, stdin=False, tty=False,
    )  # fmt: skip
    assert said == "hello\n"
    assert api.read_namespaced_pod_log("from-python", "default") == ""
    api.delete_namespaced_pod("from-python", "default")
    for event in watch.Watch().stream(
        api.list_namespaced_pod, "default", label_selector="app=from-python", timeout_seconds=30
    ):
        if event["type"] == "DELETED":
            break
    else:
        raise AssertionError("the pod was not deleted")
