"""What containers are started with, and who they are: commands, environments, users, rights, facts of pod and node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conformance.batch import Batch
from tests.e2e.conformance.client import Namespace, Object, Refused, condition, eventually
from tests.e2e.conformance.pods import AGNHOST, AS_USER, BUSYBOX, ENTRY, agnhost, once, pod, shell

pods = Batch()


@pytest.fixture(scope="module")
def running(shared: Namespace) -> Iterator[Namespace]:
    shared.create("configmaps", {"metadata": {"name": "map"}, "data": {"data-1": "value-1", "data_2": "value-2"}})
    shared.create("secrets", {"metadata": {"name": "secret"}, "stringData": {"data-1": "value-1", "data.2": "value-2"}})
    yield from pods.run(shared)


def never(name: str, *containers: Object, **spec: Any) -> Object:
    return pod(name, *containers, restartPolicy="Never", **spec)


pods.add(
    never("defaults", {"name": "c", "image": ENTRY}),
    never("arguments", {"name": "c", "image": ENTRY, "args": ["override", "arguments"]}),
    never("command", {"name": "c", "image": ENTRY, "command": ["/bin/echo", "command"]}),
    never("both", {"name": "c", "image": ENTRY, "command": ["/bin/echo", "a"], "args": ["b", "c"]}),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("defaults", "entry from the image"),
        ("arguments", "entry override arguments"),
        ("command", "command"),
        ("both", "a b c"),
    ],
)
def test_commands_and_arguments_take_the_place_of_the_images(running: Namespace, name: str, expected: str) -> None:
    assert running.output(name) == f"{expected}\n"


def field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, what: str, divisor: str = "") -> Object:
    ref = {"resource": what, **({"divisor": divisor} if divisor else {})}
    return {"name": name, "valueFrom": {"resourceFieldRef": ref}}


FIELDS = {"NAME": "metadata.name", "SPACE": "metadata.namespace", "UID": "metadata.uid", "IP": "status.podIP"}
FIELDS |= {"HOST": "status.hostIP", "HOSTS": "status.hostIPs", "IPS": "status.podIPs", "NODE": "spec.nodeName"}
FIELDS |= {"ACCOUNT": "spec.serviceAccountName", "LABEL": "metadata.labels['app']"}
LIMITED = {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}
AMOUNTS = [
    resource("CPU_LIMIT", "limits.cpu"), resource("MEMORY_LIMIT", "limits.memory"),
    resource("CPU_REQUEST", "requests.cpu", "1m"), resource("MEMORY_REQUEST", "requests.memory", "1Mi"),
]  # fmt: skip
pods.add(
    once("facts", "env", container={"env": [field(name, path) for name, path in FIELDS.items()]}),
    once("amounts", "env", container={"env": AMOUNTS, "resources": LIMITED}),
    once("unlimited", "env", container={"env": AMOUNTS[:2]}),
)


def environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_a_container_is_told_of_its_pod(running: Namespace) -> None:
    env = environment(running.output("facts"))
    found = running.get("pods", "facts")
    status, meta = found["status"], found["metadata"]
    assert {name: env[name] for name in FIELDS} == {
        "NAME": "facts", "SPACE": running.name, "UID": meta["uid"], "IP": status["podIP"], "IPS": status["podIP"],
        "HOST": status["hostIP"], "HOSTS": status["hostIP"], "NODE": found["spec"]["nodeName"], "ACCOUNT": "default",
        "LABEL": "facts",
    }  # fmt: skip


def test_a_container_is_told_of_its_limits_or_of_the_nodes(running: Namespace) -> None:
    env = environment(running.output("amounts"))
    assert (env["CPU_LIMIT"], env["MEMORY_LIMIT"]) == ("2", "67108864")
    assert (env["CPU_REQUEST"], env["MEMORY_REQUEST"]) == ("250", "32")
    env = environment(running.output("unlimited"))
    node = running.get("nodes", running.get("pods", "unlimited")["spec"]["nodeName"])["status"]["allocatable"]
    assert env["CPU_LIMIT"] == node["cpu"]
    assert env["MEMORY_LIMIT"] == str(int(node["memory"].removesuffix("Ki")) * 1024)


VARIABLES = [{"name": "FOO", "value": "foo-value"}, {"name": "BAR", "value": "bar-value"}]
VARIABLES += [{"name": "FOOBAR", "value": "$(FOO);;$(BAR)"}, {"name": "ESCAPED", "value": "$$(FOO)"}]
PREFIXED = [{"prefix": "a+*&'%/ ", "configMapRef": {"name": "map"}}, {"prefix": "p_", "secretRef": {"name": "secret"}}]
KEYED = {"configMapKeyRef": {"name": "map", "key": "data-1"}}, {"secretKeyRef": {"name": "secret", "key": "data-1"}}
MISSING = {"configMapKeyRef": {"name": "map", "key": "none", "optional": True}}
pods.add(
    once("composed", "env", container={"env": VARIABLES}),
    never("expanded", {"name": "c", "image": BUSYBOX, "env": VARIABLES, "command": ["sh", "-c", "echo $(FOO)"],
                       "args": ["x"]}),
    never("expanded-args", {"name": "c", "image": BUSYBOX, "env": VARIABLES, "command": ["sh", "-c"],
                            "args": ["TEST=\"$(FOO)\" sh -c 'echo $TEST $$(FOO)'"]}),
    once("keys", "", container={"command": ["env"], "envFrom": PREFIXED, "env": [
        {"name": "MAP", "valueFrom": KEYED[0]}, {"name": "SECRET", "valueFrom": KEYED[1]},
        {"name": "NONE", "valueFrom": MISSING},
    ]}),
)  # fmt: skip


def test_variables_are_expanded(running: Namespace) -> None:
    env = environment(running.output("composed"))
    assert (env["FOOBAR"], env["ESCAPED"]) == ("foo-value;;bar-value", "$(FOO)")
    assert running.output("expanded") == "foo-value\n"
    assert "foo-value" in running.output("expanded-args")


def test_keys_of_maps_and_secrets_become_variables_of_any_printable_name(running: Namespace) -> None:
    env = environment(running.output("keys"))
    assert (env["MAP"], env["SECRET"]) == ("value-1", "value-1") and "NONE" not in env
    assert (env["a+*&'%/ data-1"], env["a+*&'%/ data_2"]) == ("value-1", "value-2")
    assert (env["p_data-1"], env["p_data.2"]) == ("value-1", "value-2")


def test_services_become_variables_of_later_pods(running: Namespace) -> None:
    ports = [{"port": 8765, "targetPort": 8080}]
    running.create("services", {"metadata": {"name": "fooservice"}, "spec": {"ports": ports, "selector": {"a": "b"}}})
    ip = running.get("services", "fooservice")["spec"]["clusterIP"]

    def seen(name: str) -> dict[str, str]:
        running.start(once(name, "env"))
        return environment(running.output(name))

    names = iter(f"late-{n}" for n in range(20))
    env = eventually(lambda: (found := seen(next(names))).get("FOOSERVICE_SERVICE_HOST") and found)
    expected = {
        "FOOSERVICE_SERVICE_HOST": ip, "FOOSERVICE_SERVICE_PORT": "8765", "FOOSERVICE_PORT": f"tcp://{ip}:8765",
        "FOOSERVICE_PORT_8765_TCP_PORT": "8765", "FOOSERVICE_PORT_8765_TCP_PROTO": "tcp",
        "FOOSERVICE_PORT_8765_TCP": f"tcp://{ip}:8765", "FOOSERVICE_PORT_8765_TCP_ADDR": ip,
    }  # fmt: skip
    assert {name: env.get(name) for name in expected} == expected


def secured(name: str, script: str, spec: Any = None, **context: Any) -> Object:
    return once(name, script, container={"securityContext": context}, **({"securityContext": spec} if spec else {}))


def escalating(name: str, **context: Any) -> Object:
    """A pod whose user 1000 runs a program that is root's and setuid."""
    mounts = [{"name": "programs", "mountPath": "/programs"}]
    python = {"image": AGNHOST, "volumeMounts": mounts, "env": [{"name": "PYTHONHOME", "value": "/usr"}]}
    copy = "cp /usr/bin/python3.11 /programs/python && chmod 4755 /programs/python"
    init = {"name": "init", "command": ["sh", "-c", copy], **python}
    show = ["/programs/python", "-c", "import os; print(os.geteuid())"]
    main = {"name": "c", "command": show, **python, "securityContext": {"runAsUser": 1000, **context}}
    return never(name, main, initContainers=[init], volumes=[{"name": "programs", "emptyDir": {}}])


RESTRICTED = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
RESTRICTED |= {"seccompProfile": {"type": "RuntimeDefault"}}
pods.add(
    secured("user-container", "id -u; id -g; id -G", runAsUser=1001, runAsGroup=2002),
    secured("user-pod", "id -u; id -g; id -G", {"runAsUser": 1001, "runAsGroup": 2002, "supplementalGroups": [3003]}),
    secured("nobody", "id -u", runAsUser=65534),
    secured("read-only", "touch /x && echo written", readOnlyRootFilesystem=True),
    secured("writable", "touch /x && echo written", readOnlyRootFilesystem=False),
    secured("unprivileged", "ip link add dummy0 type dummy || true", privileged=False),
    secured("privileged", "mount -t tmpfs none /tmp && ls /dev/kmsg", privileged=True),
    escalating("escalating"),
    escalating("not-escalating", allowPrivilegeEscalation=False),
    once("restricted", "id -u; grep -o 'NoNewPrivs.*' /proc/self/status",
         securityContext={"runAsUser": 1000}, container={"securityContext": RESTRICTED}),
    never("image-user", {"name": "c", "image": AS_USER, "command": ["id", "-u"]}),
    once("sysctl", "cat /proc/sys/kernel/shm_rmid_forced",
         securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}),
    pod("unsafe-sysctl", shell("sleep 9"), securityContext={"sysctls": [{"name": "fs.mount-max", "value": "1000000"}]}),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user-container", "1001\n2002\n2002"),
        ("user-pod", "1001\n2002\n2002 3003"),
        ("nobody", "65534"),
        ("writable", "written"),
        ("privileged", "/dev/kmsg"),
        ("escalating", "0"),
        ("not-escalating", "1000"),
        ("restricted", "1000\nNoNewPrivs:\t1"),
        ("image-user", "33"),
        ("sysctl", "1"),
    ],
)
def test_security_contexts_are_kept(running: Namespace, name: str, expected: str) -> None:
    assert running.output(name) == f"{expected}\n"


def test_what_a_security_context_forbids_fails(running: Namespace) -> None:
    assert running.ended("read-only")["status"]["phase"] == "Failed"
    assert "Read-only file system" in running.log("read-only")
    assert "Operation not permitted" in running.output("unprivileged")


def test_unsafe_sysctls_are_refused_by_the_node_and_invalid_ones_by_the_api(running: Namespace) -> None:
    status = running.ended("unsafe-sysctl")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "SysctlForbidden")
    names = ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..")
    with pytest.raises(Refused) as caught:
        sysctls = {"sysctls": [{"name": name, "value": "1"} for name in names]}
        running.start(pod("invalid", shell("true"), securityContext=sysctls))
    causes = json.loads(caught.value.text)["details"]["causes"]
    fields = {cause["field"] for cause in causes}
    assert fields == {"spec.securityContext.sysctls[0].name", "spec.securityContext.sysctls[3].name"}


def aliased(name: str, **more: Any) -> Object:
    mount = {"volumeMounts": [{"name": "own", "mountPath": "/etc/hosts", "subPath": "hosts"}]}
    cat = "cat /etc/hosts"
    return pod(name, shell(cat), shell(cat, name="own", **mount), restartPolicy="Never", volumes=[
        {"name": "own", "configMap": {"name": "hosts"}}], **more)  # fmt: skip


def test_the_hosts_file_is_the_kubelets_unless_mounted_or_the_nodes(running: Namespace) -> None:
    running.create("configmaps", {"metadata": {"name": "hosts"}, "data": {"hosts": "1.2.3.4 mine\n"}})
    running.start(aliased("hosts-pod"), aliased("hosts-node", hostNetwork=True))
    assert running.output("hosts-pod", "c").startswith("# Kubernetes-managed hosts file.\n")
    assert running.output("hosts-pod", "own") == "1.2.3.4 mine\n"
    assert "Kubernetes-managed hosts file.\n" not in running.output("hosts-node", "c")
    assert running.output("hosts-node", "own") == "1.2.3.4 mine\n"


def test_ephemeral_containers_are_added_and_run(running: Namespace) -> None:
    running.run(pod("debugged", agnhost("pause")))

    def add(name: str, script: str) -> None:
        made = {"name": name, "image": BUSYBOX, "command": ["sh", "-c", script], "targetContainerName": "c"}

        def change(body: Object) -> None:
            body["spec"].setdefault("ephemeralContainers", []).append(made)

        running.update("pods", "debugged", change, sub="ephemeralcontainers")

    def running_ones() -> list[bool]:
        found = running.get("pods", "debugged")["status"]["ephemeralContainerStatuses"]
        return ["running" in status["state"] for status in found]

    add("first", "while true; do echo polo; sleep 1; done")
    eventually(lambda: "polo" in running.log("debugged", "first"))
    assert running.exec("debugged", "echo", "marco", container="first") == "marco\n"
    add("second", "sleep 600")
    eventually(lambda: running_ones() == [True, True])
    found = running.get("pods", "debugged", "ephemeralcontainers")["spec"]["ephemeralContainers"]
    assert [c["name"] for c in found] == ["first", "second"]


def test_pods_of_a_runtime_class(running: Namespace) -> None:
    suffix = running.name
    classes = {f"overhead-{suffix}": {"cpu": "10m", "memory": "1Mi"}, f"plain-{suffix}": None}
    for name, overhead in classes.items():
        body: Object = {"metadata": {"name": name}, "handler": "crun"}
        if overhead:
            body["overhead"] = {"podFixed": overhead}
        running.create("runtimeclasses", body)
    made = running.create("pods", pod("overhead", shell("sleep 9"), runtimeClassName=f"overhead-{suffix}"))
    assert made["spec"]["overhead"] == {"cpu": "10m", "memory": "1Mi"}
    running.start(pod("plain", shell("sleep 9"), runtimeClassName=f"plain-{suffix}"))
    for name in ("overhead", "plain"):
        eventually(lambda name=name: condition(running.get("pods", name), "PodScheduled") == "True")  # type: ignore[misc]
    running.delete("runtimeclasses", f"plain-{suffix}")
    for name in (f"plain-{suffix}", "no-such"):
        with pytest.raises(Refused) as caught:
            running.start(pod("refused", shell("true"), runtimeClassName=name))
        assert caught.value.code == 403 and f'RuntimeClass \\"{name}\\" not found' in caught.value.text
    running.create("runtimeclasses", {"metadata": {"name": f"other-{suffix}"}, "handler": "unconfigured"})
    running.start(pod("handler", shell("true"), runtimeClassName=f"other-{suffix}"))
    said = eventually(lambda: [e for e in running.events("handler") if e["reason"] == "FailedCreatePodSandBox"])
    assert 'no runtime for "unconfigured" is configured' in said[0]["message"]
