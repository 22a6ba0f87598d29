"""What pods do, with real containers."""

from __future__ import annotations

import re

import pytest

from tests.e2e.harness import IMAGE, Kubectl, eventually, sleeper


def status(kubectl: Kubectl, name: str) -> dict:  # type: ignore[type-arg]
    found: dict = kubectl.json("get", "pod", name)["status"]  # type: ignore[type-arg]
    return found


def container(kubectl: Kubectl, name: str) -> dict:  # type: ignore[type-arg]
    found: dict = status(kubectl, name)["containerStatuses"][0]  # type: ignore[type-arg]
    return found


def test_one_shot_pods_succeed_or_fail(kubectl: Kubectl) -> None:
    kubectl.apply(
        sleeper("good", command=["true"], restartPolicy="Never"),
        sleeper("bad", command=["sh", "-c", "exit 3"], restartPolicy="Never"),
    )
    eventually(lambda: status(kubectl, "good")["phase"] == "Succeeded")
    eventually(lambda: status(kubectl, "bad")["phase"] == "Failed")
    ended = container(kubectl, "bad")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (3, "Error")
    assert container(kubectl, "good")["state"]["terminated"]["reason"] == "Completed"


def test_a_crashing_container_is_restarted_with_back_off(kubectl: Kubectl) -> None:
    kubectl.apply(sleeper("crash", command=["sh", "-c", "echo run; exit 1"]))
    eventually(lambda: container(kubectl, "crash")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert (
        "back-off 10s restarting failed container=c pod=crash_"
        in container(kubectl, "crash")["state"]["waiting"]["message"]
    )
    assert container(kubectl, "crash")["lastState"]["terminated"]["exitCode"] == 1
    assert kubectl("logs", "crash", "--previous") == "run\n"
    assert re.search(r"crash\s+0/1\s+(CrashLoopBackOff|Error)\s+1", kubectl("get", "pods"))


def test_out_of_memory_is_told(kubectl: Kubectl) -> None:
    limits = {"resources": {"limits": {"memory": "16Mi"}}}
    eater = ["sh", "-c", "a=xxxxxxxx; while true; do a=$a$a; done"]
    kubectl.apply(sleeper("hungry", command=eater, restartPolicy="Never", container=limits))
    eventually(lambda: status(kubectl, "hungry")["phase"] == "Failed")
    ended = container(kubectl, "hungry")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_an_image_that_is_nowhere(kubectl: Kubectl) -> None:
    kubectl.apply(
        sleeper("never", container={"image": "localhost/none:1", "imagePullPolicy": "Never"}),
        sleeper("wrong", container={"image": "localhost/UPPER/case:1"}),
    )
    eventually(lambda: container(kubectl, "never")["state"]["waiting"]["reason"] == "ErrImageNeverPull")
    eventually(lambda: container(kubectl, "wrong")["state"]["waiting"]["reason"] == "InvalidImageName")


def test_environment_in_all_forms(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=COLOR=blue")
    kubectl("create", "secret", "generic", "keys", "--from-literal=TOKEN=s3cret")
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
        {"name": "BOTH", "value": "$(NAME)-$(COLOR2)-$$(X)"},
    ]
    more = {
        "env": env,
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "resources": {"limits": {"memory": "32Mi"}},
    }
    kubectl.apply(sleeper("env", command=["env"], restartPolicy="Never", container=more))
    eventually(lambda: status(kubectl, "env")["phase"] == "Succeeded")
    lines = dict(line.split("=", 1) for line in kubectl("logs", "env").splitlines())
    assert lines["NAME"] == "env" and lines["COLOR"] == "blue" and lines["KEY"] == "s3cret" and lines["LIMIT"] == "32"
    assert lines["IP"] == status(kubectl, "env")["podIP"]
    assert lines["BOTH"] == "env-$(COLOR2)-$(X)"
    assert lines["KUBERNETES_SERVICE_HOST"] == "10.97.0.1"


def test_volumes(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "settings", "--from-literal=color=blue")
    kubectl("create", "secret", "generic", "keys", "--from-literal=token=s3cret")
    names = ("config", "secret", "down", "memory")
    volumes = [
        {"name": "config", "configMap": {"name": "settings"}},
        {"name": "secret", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {
            "name": "down",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]},
        },
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = {"volumeMounts": [{"name": n, "mountPath": f"/v/{n}"} for n in names]}
    kubectl.apply(sleeper("vols", volumes=volumes, container=mounts))
    kubectl("wait", "--for=condition=Ready", "pod/vols", "--timeout=30s")

    def read(path: str) -> str:
        return kubectl("exec", "vols", "--", "cat", path)

    assert read("/v/config/color") == "blue"
    assert read("/v/secret/token") == "s3cret"
    assert read("/v/down/labels") == 'app="vols"'
    assert "tmpfs" in kubectl("exec", "vols", "--", "grep", " /v/memory ", "/proc/mounts")
    assert "r--------" in kubectl("exec", "vols", "--", "ls", "-lL", "/v/secret/token")
    kubectl("patch", "configmap", "settings", "-p", '{"data":{"color":"green"}}')
    eventually(lambda: read("/v/config/color") == "green", 90)


def test_a_pod_reaches_the_api_server_with_its_token(kubectl: Kubectl) -> None:
    script = (
        "d=/var/run/secrets/kubernetes.io/serviceaccount; cat $d/namespace; echo; "
        "head -c 3 $d/token; echo; head -1 $d/ca.crt; nc -w 3 kubernetes.default 443 < /dev/null && echo open"
    )
    kubectl.apply(sleeper("api", command=["sh", "-c", script], restartPolicy="Never"))
    eventually(lambda: status(kubectl, "api")["phase"] in ("Succeeded", "Failed"))
    lines = kubectl("logs", "api").splitlines()
    assert lines == [kubectl.namespace, "eyJ", "-----BEGIN CERTIFICATE-----", "open"]


def test_a_failing_liveness_probe_restarts_the_container(kubectl: Kubectl) -> None:
    probe = {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "touch /tmp/healthy; sleep 2; rm /tmp/healthy; sleep 600"
    kubectl.apply(sleeper("live", command=["sh", "-c", script], container={"livenessProbe": probe}))
    eventually(lambda: container(kubectl, "live")["restartCount"] >= 1, 40)
    events = kubectl("get", "events", "--field-selector", "involvedObject.name=live")
    assert "Liveness probe failed: cat: can't open '/tmp/healthy'" in events
    assert "Container c failed liveness probe, will be restarted" in events


def test_hooks_and_graceful_deletion(kubectl: Kubectl) -> None:
    hooks = {
        "lifecycle": {
            "postStart": {"exec": {"command": ["sh", "-c", "echo started > /shared/log"]}},
            "preStop": {"exec": {"command": ["sh", "-c", "echo stopping >> /shared/log"]}},
        },
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }
    path = f"/tmp/podling-{kubectl.namespace}"
    volumes = [{"name": "shared", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]
    kubectl.apply(sleeper("hooked", volumes=volumes, container=hooks))
    kubectl("wait", "--for=condition=Ready", "pod/hooked", "--timeout=30s")
    kubectl("delete", "pod", "hooked")
    kubectl.apply(
        sleeper("reader", command=["cat", "/shared/log"], restartPolicy="Never", volumes=volumes,
                container={"volumeMounts": hooks["volumeMounts"]})
    )  # fmt: skip
    eventually(lambda: status(kubectl, "reader")["phase"] == "Succeeded")
    assert kubectl("logs", "reader") == "started\nstopping\n"


def test_security_context(kubectl: Kubectl) -> None:
    security = {"securityContext": {"runAsUser": 1001, "runAsGroup": 2002, "readOnlyRootFilesystem": True}}
    kubectl.apply(
        sleeper("user", command=["sh", "-c", "id -u; id -g; touch /x || echo read-only"], restartPolicy="Never",
                container=security),
        sleeper("root", container={"securityContext": {"runAsNonRoot": True}}),
    )  # fmt: skip
    eventually(lambda: status(kubectl, "user")["phase"] == "Succeeded")
    assert kubectl("logs", "user").splitlines()[:2] == ["1001", "2002"]
    assert "read-only" in kubectl("logs", "user")
    eventually(lambda: container(kubectl, "root")["state"]["waiting"]["reason"] == "CreateContainerConfigError")
    assert (
        "container has runAsNonRoot and image will run as root"
        in container(kubectl, "root")["state"]["waiting"]["message"]
    )


def test_containers_share_what_a_pod_shares(kubectl: Kubectl) -> None:
    pod = sleeper("shared", command=["httpd", "-f", "-p", "8080", "-h", "/etc"], shareProcessNamespace=True)
    pod["spec"]["containers"].append({"name": "other", "image": IMAGE, "command": ["sleep", "3600"]})
    kubectl.apply(pod)
    kubectl("wait", "--for=condition=Ready", "pod/shared", "--timeout=30s")
    assert kubectl("exec", "shared", "-c", "other", "--", "hostname") == "shared\n"
    assert "shared" in kubectl("exec", "shared", "-c", "other", "--", "wget", "-qO-", "http://localhost:8080/hostname")
    assert "httpd" in kubectl("exec", "shared", "-c", "other", "--", "ps")


def test_an_unschedulable_pod_says_why(kubectl: Kubectl) -> None:
    kubectl.apply(sleeper("big", container={"resources": {"requests": {"cpu": "1000"}}}))
    message = eventually(
        lambda: next(c for c in status(kubectl, "big")["conditions"] if c["type"] == "PodScheduled")["message"]
    )
    assert message == (
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
        "1 Preemption is not helpful for scheduling."
    )
    assert "FailedScheduling" in eventually(lambda: kubectl("get", "events"))


@pytest.mark.parametrize("command", ["run", "debug"])
def test_generators(kubectl: Kubectl, command: str) -> None:
    if command == "run":
        kubectl("run", "made", f"--image={IMAGE}", "--restart=Never", "--", "echo", "hello")
        eventually(lambda: status(kubectl, "made")["phase"] == "Succeeded")
        assert kubectl("logs", "made") == "hello\n"
    else:
        kubectl.apply(sleeper("target"))
        kubectl("wait", "--for=condition=Ready", "pod/target", "--timeout=30s")
        kubectl("debug", "target", f"--image={IMAGE}", "-c", "dbg", "--", "sleep", "60")
        eventually(lambda: "running" in status(kubectl, "target")["ephemeralContainerStatuses"][0]["state"])
        assert kubectl("exec", "target", "-c", "dbg", "--", "hostname") == "target\n"
