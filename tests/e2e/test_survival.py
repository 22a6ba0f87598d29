"""The cluster's processes may die at any moment: pods keep running, nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.harness import Kubectl, eventually, main_process, processes, sleeper


def ready(kubectl: Kubectl, name: str) -> dict:  # type: ignore[type-arg]
    found: dict = kubectl.json("get", "pod", name)["status"]["containerStatuses"][0]  # type: ignore[type-arg]
    return found


@pytest.mark.parametrize("part", ["e2e", "control-plane"])
def test_kill_9_of_a_part_leaves_pods_running(kubectl: Kubectl, data: Path, part: str) -> None:
    until_told = ["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"]
    kubectl.apply(sleeper("survivor"), sleeper("ends", command=until_told, restartPolicy="Never"))
    kubectl("wait", "--for=condition=Ready", "pod/survivor", "pod/ends", "--timeout=30s")
    before = ready(kubectl, "survivor")
    process = main_process(before["containerID"])
    killed = processes(data, part)
    ends = main_process(ready(kubectl, "ends")["containerID"])
    os.kill(killed, signal.SIGKILL)
    os.kill(ends, signal.SIGTERM)
    eventually(lambda: processes(data, part) != killed)
    eventually(lambda: kubectl("get", "nodes"))
    # What ended meanwhile is seen; what runs is the same container, never started again.
    eventually(lambda: kubectl.json("get", "pod", "ends")["status"]["phase"] == "Failed")
    assert ready(kubectl, "ends")["state"]["terminated"]["exitCode"] == 5
    after = ready(kubectl, "survivor")
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert main_process(after["containerID"]) == process
    kubectl.apply(sleeper("later"))
    kubectl("wait", "--for=condition=Ready", "pod/later", "--timeout=60s")
    assert kubectl("exec", "survivor", "--", "echo", "alive") == "alive\n"


def test_nothing_acknowledged_is_lost(kubectl: Kubectl, data: Path) -> None:
    for n in range(5):
        kubectl("create", "configmap", f"kept-{n}", f"--from-literal=n={n}")
    killed = processes(data, "control-plane")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(kubectl.json("get", "configmaps", "-l", "!x")["items"]) >= 5)
    names = {i["metadata"]["name"] for i in kubectl.json("get", "configmaps")["items"]}
    assert {f"kept-{n}" for n in range(5)} <= names


def test_a_watch_goes_on_over_a_restart(kubectl: Kubectl, data: Path) -> None:
    kubectl.apply(sleeper("watched"))
    kubectl("wait", "--for=condition=Ready", "pod/watched", "--timeout=30s")
    os.kill(processes(data, "control-plane"), signal.SIGKILL)
    time.sleep(0.2)
    eventually(lambda: kubectl("label", "pod", "watched", "seen=yes", "--overwrite"))
    kubectl("delete", "pod", "watched", "--timeout=30s")
