"""kubectl logs, exec, attach, cp, port-forward, proxy and debug."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.e2e.harness import IMAGE, Kubectl, UnixConnection, eventually, running, sleeper

COUNT = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"
SERVE = "mkdir /www; echo hello > /www/index.html; httpd -f -p 8080 -h /www"


def talkers(kubectl: Kubectl) -> None:
    """A pod with containers that count, serve HTTP and offer a shell; a Service and a Deployment of the second sort."""
    pod = sleeper("p", command=["sh", "-c", COUNT], labels={"app": "p"})
    serve = {"name": "web", "image": IMAGE, "command": ["sh", "-c", SERVE]}
    pod["spec"]["containers"] += [
        {**serve, "ports": [{"name": "http", "containerPort": 8080}]},
        {"name": "tty", "image": IMAGE, "command": ["sh"], "stdin": True, "tty": True},
    ]
    service = {"selector": {"app": "p"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    kubectl.apply(pod, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": service})
    kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=30s")


def test_logs(kubectl: Kubectl) -> None:
    talkers(kubectl)
    kubectl.apply(sleeper("crash", command=["sh", "-c", "echo run; exit 1"], labels={"app": "p"}))
    eventually(lambda: "line 6\n" in kubectl("logs", "p", "-c", "c"))
    assert kubectl("logs", "p", "-c", "c").startswith("line 1\nline 2\n")
    assert kubectl("logs", "p", "-c", "c", "--limit-bytes=9") == "line 1\nli"
    assert kubectl("logs", "p", "-c", "c", "--tail=2").count("\n") == 2
    assert 1 <= kubectl("logs", "p", "-c", "c", "--since=1s").count("\n") <= 6
    assert kubectl("logs", "p", "-c", "c", "--since-time=2999-01-01T00:00:00Z") == ""
    for all_of_it in ("--since=24h", "--since-time=2000-01-01T00:00:00Z"):
        assert kubectl("logs", "p", "-c", "c", all_of_it).startswith("line 1\n")
    assert kubectl("logs", "p", "-c", "c", "--since=24h", "--limit-bytes=1") == "l"
    assert "at most one of `sinceTime` or `sinceSeconds`" in kubectl.fails(
        "logs", "p", "-c", "c", "--since=1s", "--since-time=2000-01-01T00:00:00Z"
    )
    stamped = kubectl("logs", "p", "-c", "c", "--timestamps", "--tail=1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line \d+\n", stamped)
    everything = kubectl("logs", "-l", "app=p", "--all-containers", "--prefix", "--tail=1")
    assert "[pod/p/c] line" in everything and "[pod/crash/c] run" in everything
    assert "line" in kubectl("logs", "service/s", "-c", "c", "--tail=1")
    with running(kubectl, "logs", "-f", "p", "-c", "c", "--tail=1") as (process, first):
        assert process.stdout is not None
        number = int(first.split()[1])
        assert [process.stdout.readline() for _ in range(3)] == [f"line {number + n}\n" for n in (1, 2, 3)]
    assert "container nope is not valid for pod p" in kubectl.fails("logs", "p", "-c", "nope")
    assert 'previous terminated container "c" in pod "p" not found' in kubectl.fails("logs", "p", "-c", "c", "-p")
    eventually(lambda: kubectl.json("get", "pod", "crash")["status"]["containerStatuses"][0]["restartCount"] >= 1)
    assert kubectl("logs", "crash", "--previous") == "run\n"


def test_exec_and_attach(kubectl: Kubectl) -> None:
    talkers(kubectl)
    assert kubectl("exec", "service/s", "-c", "web", "--", "hostname") == "p\n"
    assert kubectl("exec", "-i", "p", "-c", "c", "--", "cat", input="typed") == "typed"
    code, said = kubectl.outcome("exec", "p", "-c", "c", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert code == 5 and "out\n" in said and "err\n" in said and "command terminated with exit code 5" in said
    assert "nosuch" in kubectl.fails("exec", "p", "-c", "c", "--", "nosuch")
    # The size of the terminal follows the start of the process.
    script = "sleep 0.5; stty size; tty; exit 4"
    code, said = kubectl.terminal("exec", "-it", "p", "-c", "c", "--", "sh", "-c", script, size="41 99")
    assert code == 4 and "41 99" in said and "/dev/pts/0" in said
    code, said = kubectl.terminal("exec", "-it", "p", "-c", "c", "--", "sh", input="echo sum $((2+3))\nexit 6\n")
    assert code == 6 and "sum 5" in said
    with running(kubectl, "attach", "p", "-c", "c") as (_, first):
        assert first.startswith("line ")
    code, said = kubectl.terminal("attach", "-it", "p", "-c", "tty", input="echo sum $((2+3))\nexit\n")
    assert "sum 5" in said


def test_containers_that_nobody_named(kubectl: Kubectl) -> None:
    """Without -c it is the first, unless an annotation says which; of a Deployment it is one of the pods."""
    command = ["sh", "-c", "echo started $NAME; sleep 3600"]
    containers = [
        {"name": n, "image": IMAGE, "command": command, "env": [{"name": "NAME", "value": n}]} for n in ("a", "b")
    ]
    labels = {"app": "d"}
    spec = {"containers": containers, "terminationGracePeriodSeconds": 0}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }  # fmt: skip
    annotated = sleeper("p", labels={"app": "p"})
    annotated["spec"]["containers"] = containers
    annotated["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "b"}
    kubectl.apply(deployment, annotated)
    kubectl("rollout", "status", "deployment/d", "--timeout=30s")
    kubectl("wait", "pod/p", "--for=condition=Ready", "--timeout=30s")
    code, said = kubectl.outcome("exec", "deployment/d", "--", "sh", "-c", "echo in $NAME")
    assert code == 0 and 'Defaulted container "a" out of: a, b' in said and "in a\n" in said
    assert kubectl.outcome("exec", "p", "--", "sh", "-c", "echo in $NAME") == (0, "in b\n")
    assert kubectl.outcome("logs", "p") == (0, "started b\n")
    every = kubectl("logs", "deployment/d", "--all-pods", "--all-containers", "--prefix")
    assert sorted(line.split()[-1] for line in every.splitlines()) == ["a", "a", "b", "b"]
    assert "you are attempting to follow 4 log streams" in kubectl.fails(
        "logs", "-f", "-l", "app=d", "--all-containers", "--max-log-requests=3"
    )


def test_a_pod_for_a_terminal_that_goes_with_it(kubectl: Kubectl) -> None:
    words = ["run", "one", f"--image={IMAGE}", "-it", "--rm", "--restart=Never", "--", "sh"]
    code, said = kubectl.terminal(*words, input="echo sum $((2+3)); tty\nexit 7\n")
    assert code == 7 and "sum 5" in said and "/dev/pts/0" in said and 'pod "one" deleted' in said
    assert kubectl("get", "pods", "-o", "name") == ""


def test_cp(kubectl: Kubectl, tmp_path: Path) -> None:
    talkers(kubectl)
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "data").write_bytes(bytes(range(256)) * 100)
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    kubectl("cp", str(folder), "p:/tmp/", "-c", "c")
    kubectl("cp", f"{kubectl.namespace}/p:/tmp/folder", str(tmp_path / "back"), "-c", "c")
    assert (tmp_path / "back" / "sub" / "data").read_bytes() == (folder / "sub" / "data").read_bytes()
    kubectl("exec", "p", "-c", "c", "--", "test", "-x", "/tmp/folder/script")
    # kubectl may end before it has printed what came: it waits for the end of the data only.
    assert any("No such file" in kubectl.outcome("cp", "p:/nope", str(tmp_path / "x"), "-c", "c")[1] for _ in range(10))


def test_port_forward(kubectl: Kubectl) -> None:
    talkers(kubectl)
    for target in (("pod/p", "8080"), ("pod/p", "http"), ("service/s", "80"), ("service/s", "http")):
        with running(kubectl, "port-forward", "--address=127.0.0.1", target[0], f":{target[1]}") as (_, first):
            local = re.fullmatch(r"Forwarding from 127\.0\.0\.1:(\d+) -> 8080\n", first)
            assert local is not None
            for _ in range(2):
                with urlopen(f"http://127.0.0.1:{local[1]}/", timeout=10) as answer:
                    assert answer.read() == b"hello\n"


def test_proxy(kubectl: Kubectl, tmp_path: Path) -> None:
    talkers(kubectl)
    with running(kubectl, "proxy", "--port=0") as (_, first):
        root = "http://" + first.split()[-1]

        def read(path: str) -> bytes:
            with urlopen(root + path, timeout=10) as answer:
                found: bytes = answer.read()
                return found

        namespace = f"/api/v1/namespaces/{kubectl.namespace}"
        assert json.loads(read("/version"))["major"] == "1"
        assert [p["metadata"]["name"] for p in json.loads(read(f"{namespace}/pods"))["items"]] == ["p"]
        for path in ("services/s:http/proxy/", "services/s/proxy/index.html", "pods/p:8080/proxy/"):
            assert read(f"{namespace}/{path}") == b"hello\n"
    with running(kubectl, "proxy", f"--unix-socket={tmp_path}/socket"):
        connection = UnixConnection(tmp_path / "socket")
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok"
        connection.close()


def test_debug(kubectl: Kubectl) -> None:
    talkers(kubectl)

    def status(name: str) -> Any:
        return kubectl.json("get", "pod", name)["status"]

    kubectl("debug", "p", f"--image={IMAGE}", "-c", "dbg", "--target=c", "--", "sleep", "60")
    eventually(lambda: "running" in status("p")["ephemeralContainerStatuses"][0]["state"])
    assert "sleep 0.2" in eventually(lambda: kubectl("exec", "p", "-c", "dbg", "--", "ps"))
    assert "hello" in kubectl("exec", "p", "-c", "dbg", "--", "wget", "-qO-", "http://localhost:8080/")
    words = ["debug", "-it", "p", f"--image={IMAGE}", "--profile=general", "--", "sh"]
    assert "sum 5" in kubectl.terminal(*words, input="echo sum $((2+3))\nexit\n")[1]
    kubectl("debug", "p", "--copy-to=copy", "--container=c", "--share-processes", "--", "sleep", "60")
    kubectl("wait", "pod/copy", "--for=condition=Ready", "--timeout=30s")
    assert "httpd" in kubectl("exec", "copy", "-c", "c", "--", "ps")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    script = "ls -d /host/proc; hostname"
    said = kubectl.outcome("debug", f"node/{node}", "-i", f"--image={IMAGE}", "--", "sh", "-c", script)[1]
    assert "/host/proc" in said and socket.gethostname() in said
