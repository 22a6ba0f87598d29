"""The node agent with real containers: what the kernel has to play along with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from podling import mounts
from podling.api import core_v1, errors, meta_v1
from podling.api.struct import from_dict
from podling.apiserver.app import ApiServer
from podling.client.client import ApiClient
from podling.kubelet.agent import Kubelet
from podling.kubelet.config import KubeletConfig
from podling.store.memory import MemoryStore
from tests.real.runtime.runtime_harness import BusyboxImages, LoopbackNetwork

pytestmark = pytest.mark.real


@pytest.fixture
def home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=f"podling-k{os.getpid()}-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


class Node:
    """One node on this machine, with an API server in memory; what it stores is on `disk`."""

    def __init__(self, home: Path, disk: Path | None = None) -> None:
        self.home = home
        self.disk = disk or home

    async def __aenter__(self) -> Node:
        self.store = MemoryStore()
        await self.store.open()
        self.api = ApiServer(self.store)
        await self.api.start()
        self.client = ApiClient(self.api)  # type: ignore[arg-type]
        for name in ("default", "kube-node-lease"):
            await self.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name)))
            account = meta_v1.ObjectMeta(name="default", namespace=name)
            await self.client.create(core_v1.ServiceAccount(metadata=account, automount_service_account_token=False))
        self.images = BusyboxImages(self.home / "images")
        self.network = LoopbackNetwork()
        await self.boot()
        return self

    async def boot(self) -> None:
        from podling.runtime.oci import OciRuntime

        self.runtime = OciRuntime(self.disk / "state", self.home / "run", self.images, self.network, tune_kernel=False)
        config = KubeletConfig(
            node_name="real",
            node_ips=("127.0.0.1",),
            root_dir=str(self.disk / "kubelet"),
            log_dir=str(self.disk / "logs"),
            container_log_dir=str(self.home / "links"),
            cgroup_root=f"/podling-test-{self.home.name}",
            eviction=(),
        )
        self.kubelet = Kubelet(self.client, self.runtime, self.images, config)
        await self.kubelet.start()

    async def crash(self) -> None:
        """The agent vanishes: nothing is told to anybody."""
        tasks = [*self.kubelet._tasks, *(w._task for w in self.kubelet.workers.values() if w._task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.kubelet.close()

    async def __aexit__(self, *_: object) -> None:
        from podling.runtime.teardown import teardown

        for pod in (await self.client.list(core_v1.Pod)).items:
            name = pod.metadata.name or ""
            await self.client.delete(core_v1.Pod, name, "default", grace_period_seconds=0)
        await until(lambda: not self.kubelet.workers, 30)
        await self.kubelet.close()
        await teardown(self.disk / "state", self.home / "run", self.images, self.network)
        await self.api.close()
        await self.store.close()

    async def create(self, name: str, *containers: dict[str, Any], **spec: Any) -> core_v1.Pod:
        given = [{"image": "busybox", "imagePullPolicy": "IfNotPresent", **c} for c in containers]
        body = {"nodeName": "real", "terminationGracePeriodSeconds": 1, "containers": given, **spec}
        pod = from_dict({"metadata": {"name": name, "namespace": "default"}, "spec": body}, core_v1.Pod)
        return await self.client.create(pod)

    async def status(self, name: str) -> core_v1.PodStatus:
        return (await self.client.get(core_v1.Pod, name, "default")).status or core_v1.PodStatus()

    async def until_phase(self, name: str, phase: str) -> core_v1.PodStatus:
        async def holds() -> bool:
            return (await self.status(name)).phase == phase

        await until(holds, 20)
        return await self.status(name)

    async def gone(self, name: str) -> bool:
        try:
            await self.client.get(core_v1.Pod, name, "default")
        except errors.StatusError as error:
            return errors.is_not_found(error)
        return False

    async def events(self, name: str) -> list[tuple[str, str]]:
        await self.kubelet.recorder.flush()
        found = (await self.client.list(core_v1.Event)).items
        return [(e.reason or "", e.message or "") for e in found if e.involved_object.name == name]

    def log(self, pod: core_v1.Pod, container: str, attempt: int = 0) -> str:
        directory = self.disk / "logs" / f"default_{pod.metadata.name}_{pod.metadata.uid}"
        return (directory / container / f"{attempt}.log").read_text()


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float) -> float:
    began = time.monotonic()
    while True:
        value = holds()
        if not isinstance(value, bool):
            value = await value
        if value:
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.01)


def run(home: Path, main: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with Node(home) as node:
            await main(node)

    asyncio.run(whole())


def _sh(script: str, name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["/bin/sh", "-c", script], **more}


def test_a_pod_runs_to_its_end(home: Path) -> None:
    async def main(node: Node) -> None:
        script = "echo hello $NAME; cat /etc/hosts /proc/self/cgroup; echo said > /dev/termination-log; exit 3"
        made = await node.create(
            "job",
            _sh(script, env=[{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            restartPolicy="Never",
            hostAliases=[{"ip": "10.1.2.3", "hostnames": ["foo.local"]}],
        )
        status = await node.until_phase("job", "Failed")
        ended = (status.container_statuses or [])[0].state
        assert ended is not None and ended.terminated is not None
        assert (ended.terminated.exit_code, ended.terminated.reason) == (3, "Error")
        assert ended.terminated.message == "said\n"
        text = node.log(made, "app")
        assert "hello job" in text
        assert "# Kubernetes-managed hosts file." in text
        assert "10.1.2.3\tfoo.local" in text
        assert f"/kubepods/besteffort/pod{made.metadata.uid}/" in text
        links = list((node.home / "links").iterdir())
        assert len(links) == 1 and links[0].name.startswith("job_default_app-") and links[0].exists()

    run(home, main)


def test_init_containers_fill_a_shared_volume(home: Path) -> None:
    async def main(node: Node) -> None:
        mount = [{"name": "shared", "mountPath": "/data"}]
        init = {"image": "busybox", **_sh("echo made > /data/file", "setup", volumeMounts=mount)}
        made = await node.create(
            "web",
            _sh("cat /data/file; exec sleep 1000", volumeMounts=mount),
            initContainers=[init],
            volumes=[{"name": "shared", "emptyDir": {}}],
        )
        await node.until_phase("web", "Running")
        await until(lambda: "made" in node.log(made, "app"), 5)
        await node.client.delete(core_v1.Pod, "web", "default")
        await until(lambda: node.gone("web"), 10)
        await until(lambda: not node.kubelet.workers, 10)
        assert not (node.home / "kubelet" / "pods" / (made.metadata.uid or "")).exists()

    run(home, main)


def test_exec_probes_and_hooks(home: Path) -> None:
    async def main(node: Node) -> None:
        container = _sh(
            "sleep 0.3; touch /tmp/up; exec sleep 1000",
            readinessProbe={"exec": {"command": ["cat", "/tmp/up"]}},
            lifecycle={"postStart": {"exec": {"command": ["touch", "/tmp/hooked"]}}},
        )
        await node.create("web", container)

        async def ready() -> bool:
            found = (await node.status("web")).container_statuses or []
            return bool(found and found[0].ready)

        assert await until(ready, 10) < 3
        (worker,) = node.kubelet.workers.values()
        result = await node.runtime.exec_sync(worker.runtime.containers[0].id, ("cat", "/tmp/hooked"), 5)
        assert result.exit_code == 0

    run(home, main)


def test_killed_for_memory(home: Path) -> None:
    async def main(node: Node) -> None:
        limits = {"limits": {"memory": "16Mi"}}
        await node.create("hungry", {"name": "app", "command": ["tail", "/dev/zero"], "resources": limits},
                          restartPolicy="Never")  # fmt: skip
        status = await node.until_phase("hungry", "Failed")
        ended = (status.container_statuses or [])[0].state
        assert ended is not None and ended.terminated is not None
        assert (ended.terminated.exit_code, ended.terminated.reason) == (137, "OOMKilled")

    run(home, main)


def test_a_crash_of_the_agent_leaves_pods_alone(home: Path) -> None:
    async def main(node: Node) -> None:
        made = await node.create("web", _sh("exec sleep 1000"))
        await node.create("job", _sh("sleep 1; exit 5"), restartPolicy="Never")
        await node.until_phase("web", "Running")
        await node.until_phase("job", "Running")
        before = await node.status("web")
        await node.crash()
        await asyncio.sleep(1.5)
        await node.boot()
        status = await node.until_phase("job", "Failed")
        ended = (status.container_statuses or [])[0].state
        assert ended is not None and ended.terminated is not None and ended.terminated.exit_code == 5
        after = await node.status("web")
        assert after.container_statuses == before.container_statuses
        assert made.metadata.uid in node.kubelet.workers

    run(home, main)


def test_run_as_non_root_and_read_only(home: Path) -> None:
    async def main(node: Node) -> None:
        context = {"runAsUser": 1000, "runAsNonRoot": True, "readOnlyRootFilesystem": True}
        made = await node.create("web", _sh("id -u; touch /x || echo refused", securityContext=context),
                                 restartPolicy="Never")  # fmt: skip
        await node.until_phase("web", "Succeeded")
        text = node.log(made, "app")
        assert " F 1000\n" in text and "refused" in text

    run(home, main)


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    directory = home / "disk"
    directory.mkdir()
    mounts.mount("tmpfs", str(directory), "tmpfs", options="size=2m")
    yield directory
    mounts.unmount(str(directory))


def test_a_full_disk_is_told_and_pods_start_when_there_is_room(home: Path, disk: Path) -> None:
    def fill() -> None:
        with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    async def main(node: Node) -> None:
        await node.create("before", _sh("sleep 1; exit 3"), restartPolicy="Never")
        await node.until_phase("before", "Running")
        fill()
        await node.create("web", _sh("exec sleep 1000"))

        async def told() -> bool:
            texts = [text for reason, text in await node.events("web") if reason.startswith("Failed")]
            return any("no space left on device" in text.lower() for text in texts)

        await until(told, 10)
        assert (await node.status("web")).phase == "Pending"
        # The end of what ran is seen, and so are deletions.
        ended = ((await node.until_phase("before", "Failed")).container_statuses or [])[0].state
        assert ended is not None and ended.terminated is not None and ended.terminated.exit_code == 3
        await node.create("gives-up", _sh("exec sleep 1000"))
        await asyncio.sleep(0.5)
        await node.client.delete(core_v1.Pod, "gives-up", "default", grace_period_seconds=1)
        await until(lambda: node.gone("gives-up"), 10)
        os.unlink(disk / "filler")
        await node.until_phase("web", "Running")

    async def whole() -> None:
        async with Node(home, disk) as node:
            await main(node)

    asyncio.run(whole())


def test_a_container_whose_monitor_is_killed_is_started_again(home: Path) -> None:
    async def main(node: Node) -> None:
        made = await node.create("web", _sh("exec sleep 1000"))
        await node.until_phase("web", "Running")
        (found,) = node.kubelet.workers[made.metadata.uid or ""].runtime.running
        os.kill(node.runtime._containers[found.id].record.conmon_pid, signal.SIGKILL)

        async def again() -> bool:
            (status,) = (await node.status("web")).container_statuses or []
            return status.restart_count == 1 and status.state is not None and status.state.running is not None

        await until(again, 20)
        (status,) = (await node.status("web")).container_statuses or []
        ended = status.last_state.terminated if status.last_state else None
        assert ended is not None and ended.signal is None
        assert (ended.exit_code, ended.reason, ended.message) == (255, "Unknown", "the container's monitor was lost")

    run(home, main)


def test_statistics_of_real_containers(home: Path) -> None:
    from podling.kubelet.backend import Backend

    async def main(node: Node) -> None:
        volume = {"volumes": [{"name": "data", "emptyDir": {}}]}
        mounting = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        busy = _sh("dd if=/dev/zero of=/data/x bs=1k count=64; while :; do :; done", **mounting)
        await node.create("busy", {**busy, "resources": {"limits": {"cpu": "100m"}}}, **volume)
        await node.until_phase("busy", "Running")
        backend = Backend(node.kubelet)

        async def series() -> dict[str, float]:
            lines = (await backend.metrics("/metrics/cadvisor") or "").splitlines()
            mine = [line for line in lines if 'pod="busy"' in line]
            return {line.partition("{")[0]: float(line.rpartition("} ")[2].split()[0]) for line in mine}

        async def measured() -> bool:
            # User and system time are counted in ticks: a container is throttled before it has used the first.
            found = await series()
            used = found["container_cpu_user_seconds_total"] + found["container_cpu_system_seconds_total"]
            return found["container_cpu_cfs_throttled_periods_total"] > 0 and used > 0

        await until(measured, 10)
        found = await series()
        assert found["container_cpu_cfs_throttled_seconds_total"] > 0 and found["container_oom_events_total"] == 0
        (pod,) = (await backend.stats_summary(only_cpu_and_memory=False))["pods"]
        assert {v["name"]: v["usedBytes"] for v in pod["volume"]}["data"] >= 64 << 10

    run(home, main)
