"""Stopping containers: preStop, the stop signal, the grace period, and sidecars after those whom they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from podling import clock, log
from podling.api import core_v1, meta_v1
from podling.api.struct import decode
from podling.kubelet import pods
from podling.kubelet.actions import LIVENESS, STARTUP, UNKNOWN
from podling.kubelet.hooks import HookFailed
from podling.kubelet.pods import AnyContainer
from podling.kubelet.shared import Shared
from podling.runtime.base import ContainerStatus

_log = log.get(__name__)


class Ordering:
    """Whose turn it is to be stopped: sidecars wait for all other containers, and for the sidecars after them."""

    def __init__(self, pod: core_v1.Pod, running: Sequence[str]) -> None:
        alive = set(running)
        self._ended = {name: asyncio.Event() for name in alive}
        self._before: dict[str, list[str]] = {}
        main = [c.name for c in pod.spec.containers if c.name in alive]
        later: list[str] = []
        for container in reversed(pod.spec.init_containers or []):
            if pods.is_sidecar(container) and container.name in alive:
                self._before[container.name] = main + later
                later = [*later, container.name]

    async def wait(self, name: str) -> None:
        for other in self._before.get(name, ()):
            await self._ended[other].wait()

    def ended(self, name: str) -> None:
        if name in self._ended:
            self._ended[name].set()


def grace_period(pod: core_v1.Pod, container: AnyContainer | None, reason: str = UNKNOWN) -> int:
    """Seconds from preStop to SIGKILL."""
    if pod.metadata.deletion_grace_period_seconds is not None:
        return pod.metadata.deletion_grace_period_seconds
    probe = None
    if container is not None and reason in (LIVENESS, STARTUP):
        probe = container.liveness_probe if reason == LIVENESS else container.startup_probe
    if probe is not None and probe.termination_grace_period_seconds is not None:
        return probe.termination_grace_period_seconds
    given = pod.spec.termination_grace_period_seconds
    return given if given is not None else pods.DEFAULT_GRACE


class Killer:
    """Stops containers of pods."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def kill_pod(
        self, pod: core_v1.Pod, running: Sequence[ContainerStatus], ip: str, grace: int | None = None
    ) -> None:
        """Stop all of `running`, each in its turn; returns when they have ended."""
        ordering = Ordering(pod, [c.name for c in running]) if pods.has_sidecars(pod) else None
        async with asyncio.TaskGroup() as group:
            for container in running:
                group.create_task(self.kill(pod, container, ip, grace=grace, ordering=ordering))

    async def kill(
        self,
        pod: core_v1.Pod,
        found: ContainerStatus,
        ip: str,
        *,
        message: str = "",
        reason: str = UNKNOWN,
        grace: int | None = None,
        ordering: Ordering | None = None,
    ) -> None:
        """Stop one container. `grace` overrides what the pod says."""
        container = pods.find_container(pod, found.name) or _restored(found)
        left: float = grace if grace is not None else grace_period(pod, container, reason)
        self._shared.tell_container(pod, found.name, "Normal", "Killing", message or f"Stopping container {found.name}")
        pre_stop = container.lifecycle.pre_stop if container.lifecycle else None
        if pre_stop is not None and left > 0:
            left -= await self._pre_stop(pod, container, found.id, pre_stop, ip, left)
        if ordering is not None and left > 0:
            began = clock.elapsed()
            try:
                async with asyncio.timeout(left):
                    await ordering.wait(found.name)
            except TimeoutError:
                pass
            left -= int(clock.elapsed() - began)
        await self._shared.runtime.stop_container(found.id, max(left, pods.MINIMUM_GRACE))
        if ordering is not None:
            ordering.ended(found.name)

    async def _pre_stop(
        self,
        pod: core_v1.Pod,
        container: AnyContainer,
        container_id: str,
        handler: core_v1.LifecycleHandler,
        ip: str,
        limit: float,
    ) -> float:
        """Run the hook; the whole seconds that it took of the grace period."""
        began = clock.elapsed()
        try:
            async with asyncio.timeout(limit):
                await self._shared.hooks.run(pod, container, container_id, handler, ip)
        except TimeoutError:
            _log.info("preStop of %s in %s did not end within its grace period", container.name, pods.key(pod))
        except HookFailed as error:
            _log.info("preStop of %s in %s: %s", container.name, pods.key(pod), error)
            # What a hook printed may be secret: it does not belong in an event.
            self._shared.tell_container(pod, container.name, "Warning", "FailedPreStopHook", "PreStopHook failed")
        return int(clock.elapsed() - began)


def _restored(found: ContainerStatus) -> core_v1.Container:
    """As much of the definition as the container itself remembers: its pod is no longer known."""
    hook = found.annotations.get(pods.ANNOTATION_PRE_STOP)
    ports = found.annotations.get(pods.ANNOTATION_PORTS)
    container = core_v1.Container(name=found.name)
    if hook:
        container.lifecycle = core_v1.Lifecycle(pre_stop=decode(hook, core_v1.LifecycleHandler))
    if ports:
        container.ports = decode(f'{{"ports":{ports}}}', core_v1.Container).ports
    return container


def restored_pod(found: Sequence[ContainerStatus], name: str, namespace: str, uid: str) -> core_v1.Pod:
    """A pod that is gone from the API server, as far as its containers remember it."""
    pod = core_v1.Pod(metadata=meta_v1.ObjectMeta(name=name, namespace=namespace, uid=uid))
    for container in found:
        grace = container.annotations.get(pods.ANNOTATION_DELETION_GRACE)
        if grace and grace.isdigit():
            pod.metadata.deletion_grace_period_seconds = int(grace)
        grace = container.annotations.get(pods.ANNOTATION_GRACE)
        if grace and grace.isdigit():
            pod.spec.termination_grace_period_seconds = int(grace)
    return pod
