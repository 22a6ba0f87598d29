"""A node in a test: the real API server over a store in memory, and the node agent over virtual containers.

def test_something(tmp_path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("a"))
            await node.until(lambda: node.phase("a") == "Running")
    clock.run_virtual(main())
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from podling import clock
from podling.api import core_v1, errors, meta_v1
from podling.api.struct import from_dict
from podling.apiserver.app import ApiServer
from podling.client.client import ApiClient
from podling.kubelet.agent import Kubelet
from podling.kubelet.config import KubeletConfig
from podling.kubelet.resources import Machine
from podling.runtime.base import ContainerState
from podling.runtime.fake import FakeRuntime
from podling.runtime.fake import Machine as FakeMachine
from podling.runtime.fake_behaviour import SERVER, Behaviour
from podling.runtime.fake_images import FakeImages
from podling.store.memory import MemoryStore
from podling.volumes.base import MountFailed
from podling.volumes.usage import Usage


class Volumes:
    """Volumes that are folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounted: set[str] = set()
        self.refuses = ""
        self.failures: tuple[str, ...] = ()
        self.sizes: dict[str, int] = {}

    async def mount_pod_volumes(self, pod: core_v1.Pod) -> Mapping[str, str]:
        if self.refuses:
            raise ValueError(self.refuses)
        if self.failures:
            raise MountFailed(self.failures)
        self.mounted.add(pod.metadata.uid or "")
        return {v.name: str(self.root / (pod.metadata.uid or "") / v.name) for v in pod.spec.volumes or ()}

    async def unmount_pod(self, uid: str) -> None:
        self.mounted.discard(uid)

    async def clean_orphans(self, live: Collection[str]) -> list[str]:
        orphans = sorted(self.mounted - set(live))
        self.mounted &= set(live)
        return orphans

    def changed(self, kind: str, namespace: str, name: str) -> set[str]:
        return set()

    def pod_changed(self, pod: core_v1.Pod) -> None:
        pass

    async def usage(self, uid: str) -> Mapping[str, Usage]:
        return {name: Usage(size, 1, 0, 0, 0, 0) for name, size in self.sizes.items()}

    async def close(self) -> None:
        pass


class Away:
    """A transport to an API server that can be away."""

    def __init__(self, api: Any) -> None:
        self.api, self.away = api, False

    async def send(self, request: Any) -> Any:
        if self.away:
            raise errors.unavailable("connection refused")
        return await self.api.send(request)

    async def close(self) -> None:
        pass


class Node:
    """`behaviours` are by container name."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        behaviours: Mapping[str, Behaviour] | None = None,
        images: FakeImages | None = None,
        api: bool = True,
        **config: Any,
    ) -> None:
        self.path = tmp_path
        self.behaviours = dict(behaviours or {})
        self.images = images or FakeImages()
        self.machine = FakeMachine()
        self.volumes = Volumes(tmp_path / "volumes")
        self.store = MemoryStore()
        self.api = ApiServer(self.store)
        self.transport = Away(self.api)
        self.transport.away = not api
        self.client = ApiClient(self.api)  # type: ignore[arg-type]
        self.config = KubeletConfig(
            node_name="node-1",
            node_ips=("10.213.0.1",),
            cluster_dns=("10.96.0.10",),
            **{"eviction": (), **config},
            root_dir=str(tmp_path / "kubelet"),
            log_dir=str(tmp_path / "pods"),
            container_log_dir=str(tmp_path / "containers"),
        )
        self.seen: list[core_v1.Pod] = []

    async def __aenter__(self) -> Node:
        await self.store.open()
        await self.api.start()
        for name in ("default", "kube-system", "kube-node-lease"):
            await self.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name)))
            account = meta_v1.ObjectMeta(name="default", namespace=name)
            await self.client.create(core_v1.ServiceAccount(metadata=account))
        self._watch = asyncio.create_task(self._record())
        await self.boot()
        return self

    async def boot(self) -> None:
        """Start a node agent on what the machine has."""
        self.runtime = FakeRuntime(self.images, behaviour=self._behaviour, machine=self.machine, log_to_disk=True)
        client = ApiClient(self.transport)  # type: ignore[arg-type]
        self.kubelet = Kubelet(
            client,
            self.runtime,
            self.images,
            self.config,
            volumes=self.volumes,
            machine=Machine(cpus=4, memory=8 << 30, storage=100 << 30),
        )
        self.kubelet.shared.host_files = True
        await self.kubelet.start()

    def _behaviour(self, config: Any) -> Behaviour:
        return self.behaviours.get(config.name, SERVER)

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)
        await self.kubelet.close()
        await self.api.close()
        await self.store.close()

    async def _record(self) -> None:
        listed = await self.client.list(core_v1.Pod)
        async for event in self.client.watch(core_v1.Pod, resource_version=listed.resource_version):
            if event.type != "BOOKMARK":
                self.seen.append(event.object)

    async def create(self, pod: core_v1.Pod) -> core_v1.Pod:
        return await self.client.create(pod)

    async def get(self, name: str, namespace: str = "default") -> core_v1.Pod:
        return await self.client.get(core_v1.Pod, name, namespace)

    async def status(self, name: str) -> core_v1.PodStatus:
        status = (await self.get(name)).status
        assert status is not None
        return status

    async def gone(self, name: str) -> bool:
        try:
            await self.get(name)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return True
            raise
        return False

    async def until(self, holds: Callable[[], Any], seconds: float = 3600, step: float = 0.05) -> float:
        """Let time pass until `holds()` (which may be a coroutine); how many seconds that took."""
        began = clock.elapsed()
        while True:
            value = holds()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return clock.elapsed() - began
            if clock.elapsed() - began > seconds:
                raise AssertionError(f"not within {seconds} s")
            await asyncio.sleep(step)

    async def until_phase(self, name: str, phase: str, seconds: float = 3600) -> core_v1.PodStatus:
        async def holds() -> bool:
            return (await self.status(name)).phase == phase

        await self.until(holds, seconds)
        return await self.status(name)

    async def until_ready(self, name: str, seconds: float = 3600) -> float:
        async def holds() -> bool:
            return condition(await self.status(name), "Ready").status == "True"

        return await self.until(holds, seconds)

    async def events(self, name: str = "") -> list[tuple[str, str]]:
        """(reason, message) of all events about an object, in order."""
        await self.kubelet.recorder.flush()
        found = (await self.client.list(core_v1.Event)).items
        found = [e for e in found if not name or e.involved_object.name == name]
        found.sort(key=lambda e: e.metadata.name or "")
        return [(e.reason or "", e.message or "") for e in found]

    def containers(self, name: str) -> list[Any]:
        """The virtual containers of that name, the oldest first."""
        return [c for c in self.machine.containers.values() if c.config.name == name]

    def running(self, name: str) -> Any:
        return next(c for c in reversed(self.containers(name)) if c.state is ContainerState.RUNNING)


def condition(status: core_v1.PodStatus, type_: str) -> core_v1.PodCondition:
    found = next((c for c in status.conditions or () if c.type == type_), None)
    return found or core_v1.PodCondition(type=type_, status="Missing")


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> core_v1.Pod:
    """A pod on this node; a container is `{"name": ...}` and what else it needs."""
    given = [{"image": "busybox:1.36", **c} for c in containers or ({"name": "app"},)]
    inits = [{"image": "busybox:1.36", **c} for c in spec.pop("initContainers", ())]
    body = {"nodeName": "node-1", "containers": given, **spec}
    if inits:
        body["initContainers"] = inits
    metadata = {"name": name, "namespace": "default", **spec.pop("metadata", {})}
    body.pop("metadata", None)
    return from_dict({"metadata": metadata, "spec": body}, core_v1.Pod)
