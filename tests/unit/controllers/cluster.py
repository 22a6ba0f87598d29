"""A cluster in a test: the real API server over a store in memory, chosen controllers, and a pretended node agent.

def test_something() -> None:
    async def main() -> None:
        async with Cluster(ReplicaSetController) as cluster:
            await cluster.client.create(...)
            await cluster.until(lambda: ...)
    clock.run_virtual(main())
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from podling import clock
from podling.api import core_v1, errors, meta_v1, times
from podling.api.meta_v1 import LabelSelector, ObjectMeta
from podling.api.struct import clone
from podling.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from podling.apiserver.app import ApiServer
from podling.client.client import ApiClient
from podling.client.informer import Informers
from podling.controllers.base import Config, Controller
from podling.controllers.manager import ControllerManager
from podling.store.memory import MemoryStore

T = TypeVar("T")


class Cluster:
    """`agents` True: every pod gets a node, runs and is ready at once. Deleted pods go at once in any case."""

    def __init__(
        self,
        *controllers: type[Controller],
        agents: bool = True,
        config: Config | None = None,
        namespaces: tuple[str, ...] = ("default",),
    ) -> None:
        self.store = MemoryStore()
        self.api = ApiServer(self.store)
        self.api.admission.add(NamespaceLifecycle(self.api))
        self.client = ApiClient(self.api)  # type: ignore[arg-type]
        self._namespaces = namespaces
        self.agent = Agent(self.client, runs=agents)
        self._config = config or Config(root_ca="-----BEGIN CERTIFICATE-----")
        self._controllers = controllers

    async def __aenter__(self) -> Cluster:
        await self.store.open()
        await self.api.start()
        for name in self._namespaces:
            await self.namespace(name)
        self.informers = Informers(self.client, detect_mutations=True)
        self.manager = ControllerManager(
            self.client, self._config, controllers=self._controllers, informers=self.informers
        )
        await self.manager.start()
        self.agent.start(self.informers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.agent.close()
        await self.manager.close()
        await self.informers.close()
        await self.api.close()
        await self.store.close()

    def controller(self, kind: type[Any]) -> Any:
        return next(c for c in self.manager.controllers if isinstance(c, kind))

    async def namespace(self, name: str) -> core_v1.Namespace:
        return await self.client.create(
            core_v1.Namespace(
                metadata=ObjectMeta(name=name),
                spec=core_v1.NamespaceSpec(finalizers=["kubernetes"]),
                status=core_v1.NamespaceStatus(phase="Active"),
            )
        )

    async def list(self, kind: type[T], namespace: str | None = "default") -> list[T]:
        """Sorted by name."""
        items = (await self.client.list(kind, namespace)).items
        return sorted(items, key=lambda o: o.metadata.name)  # type: ignore[attr-defined]

    async def get(self, kind: type[T], name: str, namespace: str | None = "default") -> T | None:
        try:
            return await self.client.get(kind, name, namespace)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return None
            raise

    async def change(self, kind: type[T], name: str, how: Callable[[T], None], namespace: str | None = "default") -> T:
        return await self._change(self.client.update, kind, name, how, namespace)

    async def change_status(
        self, kind: type[T], name: str, how: Callable[[T], None], namespace: str | None = "default"
    ) -> T:
        return await self._change(self.client.update_status, kind, name, how, namespace)

    async def _change(self, write: Any, kind: Any, name: str, how: Any, namespace: str | None) -> Any:
        """Read, change and write until nobody comes between."""
        while True:
            obj = clone(await self.client.get(kind, name, namespace))
            how(obj)
            try:
                return await write(obj)
            except errors.StatusError as error:
                if not errors.is_conflict(error):
                    raise

    async def events(self, namespace: str = "default") -> list[tuple[str, str]]:  # type: ignore[valid-type]
        """(reason, message) in the order of their making."""
        for controller in self.manager.controllers:
            await controller.recorder.flush()
        found = (await self.client.list(core_v1.Event, namespace)).items
        found = sorted(found, key=lambda e: (e.metadata.name or "").rpartition(".")[2])
        return [(e.reason or "", e.message or "") for e in found]

    async def until(self, condition: Callable[[], Awaitable[Any]], timeout: float = 120.0) -> Any:
        """Wait until `condition()` is true (within `timeout` virtual seconds) and return what it gave."""
        async with asyncio.timeout(timeout):
            while not (result := await condition()):
                await asyncio.sleep(0.05)
        return result

    @staticmethod
    async def settle(seconds: float = 1.0) -> None:
        await asyncio.sleep(seconds)


class Agent:
    """A pretended node agent for all pods."""

    def __init__(self, client: ApiClient, *, runs: bool) -> None:
        self._client = client
        self._runs = runs
        self._tasks: set[asyncio.Task[None]] = set()
        #: Pods for which this is false stay unready.
        self.ready: Callable[[core_v1.Pod], bool] = lambda pod: True
        #: Where a pod goes.
        self.node: Callable[[core_v1.Pod], str] = lambda pod: "node-1"
        #: Seconds until a deleted pod is gone.
        self.stop_after = 0.01
        self.start_after = 0.01
        self._next_ip = 1

    def start(self, informers: Informers) -> None:
        self.pods = informers.of(core_v1.Pod)
        self.pods.add_handler(on_add=self._seen, on_update=lambda _, new: self._seen(new))
        informers.start()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _seen(self, pod: core_v1.Pod) -> None:
        deleted = pod.metadata.deletion_timestamp is not None
        starts = self._runs and pod.status.phase in (None, "", "Pending")
        work = self._stop(pod) if deleted else self._run(pod) if starts else None
        if work is not None:
            task = asyncio.ensure_future(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _stop(self, pod: core_v1.Pod) -> None:
        await asyncio.sleep(self.stop_after)
        try:
            await self._client.delete(
                core_v1.Pod, pod.metadata.name or "", pod.metadata.namespace, grace_period_seconds=0
            )
        except errors.StatusError:
            pass

    async def _run(self, pod: core_v1.Pod) -> None:
        await asyncio.sleep(self.start_after)
        key = f"{pod.metadata.namespace}/{pod.metadata.name}"
        fresh = self.pods.get(key)
        if fresh is None or fresh.metadata.uid != pod.metadata.uid or fresh.status.phase == "Running":
            return
        if not fresh.spec.node_name:
            target = core_v1.ObjectReference(kind="Node", name=self.node(fresh) or "node-1")
            binding = core_v1.Binding(
                metadata=ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace), target=target
            )
            try:
                await self._client.post(
                    core_v1.Pod, pod.metadata.name or "", pod.metadata.namespace, "binding", binding
                )
                fresh = await self._client.get(core_v1.Pod, pod.metadata.name or "", pod.metadata.namespace)
            except errors.StatusError:
                return
        changed = clone(fresh)
        self._next_ip += 1
        set_running(changed, self.ready(changed), f"10.244.{self._next_ip // 250}.{self._next_ip % 250 + 1}")
        try:
            await self._client.update_status(changed)
        except errors.StatusError:
            pass


def set_running(pod: core_v1.Pod, ready: bool = True, ip: str = "10.244.0.9") -> None:
    """Make a pod's status that of one which runs."""
    now = times.format(clock.now())
    pod.status.phase = "Running"
    pod.status.pod_ip = pod.status.pod_ip or ip
    pod.status.pod_ips = [core_v1.PodIP(ip=pod.status.pod_ip)]
    pod.status.start_time = pod.status.start_time or now
    set_ready(pod, ready)


def set_ready(pod: core_v1.Pod, ready: bool) -> None:
    others = [c for c in pod.status.conditions or () if c.type != "Ready"]
    condition = core_v1.PodCondition(
        type="Ready", status="True" if ready else "False", last_transition_time=times.format(clock.now())
    )
    pod.status.conditions = [*others, condition]


def finish(pod: core_v1.Pod, phase: str, exit_code: int = 0) -> None:
    """Make a pod's status that of one whose only container has ended."""
    pod.status.phase = phase
    set_ready(pod, False)
    now = times.format(clock.now())
    ended = core_v1.ContainerStateTerminated(exit_code=exit_code, reason="Error" if exit_code else "Completed")
    ended.started_at = ended.finished_at = now
    pod.status.container_statuses = [
        core_v1.ContainerStatus(name="c", image="i", image_id="i", state=core_v1.ContainerState(terminated=ended))
    ]


def template(app: str = "web", image: str = "nginx:1", **labels: str) -> core_v1.PodTemplateSpec:
    return core_v1.PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": app, **labels}),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image=image)]),
    )


def selector(app: str = "web") -> meta_v1.LabelSelector:
    return LabelSelector(match_labels={"app": app})


def pod(
    name: str, labels: dict[str, str] | None = None, namespace: str = "default", node: str | None = None
) -> core_v1.Pod:
    return core_v1.Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, labels=labels),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="i")], node_name=node),
    )
