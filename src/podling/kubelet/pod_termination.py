"""The end of a pod: its containers are stopped, its object is let go, and its traces are removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from podling import clock
from podling.api import core_v1, errors
from podling.api.errors import StatusError
from podling.kubelet import gc, pods, sandbox_config
from podling.kubelet.pod_kill import grace_period
from podling.kubelet.pod_observer import PodObserver, State
from podling.kubelet.pod_start import pod_directory
from podling.kubelet.shared import Shared
from podling.runtime.base import ContainerStatus


class PodTerminator(PodObserver):
    """Ends the pod, in steps that can each be repeated. `on_finished` is called when nothing of it is left."""

    def __init__(
        self, shared: Shared, pod: core_v1.Pod, sandboxes: Iterable[str], on_finished: Callable[[Any], None]
    ) -> None:
        super().__init__(shared, pod, sandboxes)
        self._on_finished = on_finished
        self._wake = asyncio.Event()
        self._alarm = clock.Alarm(self._wake.set)
        self._grace: int | None = None
        self._volumes: dict[str, str] | None = None
        self._making: asyncio.Future[str] | None = None
        self._delete_sent = False

    async def _terminate(self) -> None:
        """Stop everything. Repeats itself until nothing runs."""
        self._shared.probes.terminating(self.uid)
        if self._making is not None and not self._making.done():
            await asyncio.gather(self._making, return_exceptions=True)
        await self._observe()
        self._publish()
        while running := self.runtime.running:
            await self._kill_showing(running)
            await self._observe()
        for sandbox in self.runtime.sandboxes:
            if sandbox.state == "ready":
                await self._shared.runtime.stop_sandbox(sandbox.id)
        await self._observe()
        self.state = State.TERMINATED
        self._publish(final=True)
        await self._unmount()

    def _effective_grace(self) -> int | None:
        """The seconds that override each container's own grace period; None for none."""
        if self._removed and not pods.is_static(self.pod):
            # Deleted by force: nobody waits for it any more.
            return pods.MINIMUM_GRACE
        if self.pod.metadata.deletion_timestamp is not None or self._removed:
            grace = self.pod.metadata.deletion_grace_period_seconds
            if grace is None:
                grace = grace_period(self.pod, None)
            return max(1, grace if self._grace is None else min(grace, self._grace))
        return self._grace

    async def _kill_showing(self, running: list[ContainerStatus]) -> None:
        """Stop the containers, report each as it ends, and hurry up if the grace period is cut short meanwhile."""
        grace = self._effective_grace()
        task = asyncio.ensure_future(self._killer.kill_pod(self.pod, running, self._ip(), grace))
        try:
            while not task.done():
                waker = asyncio.ensure_future(self._wake.wait())
                try:
                    await asyncio.wait((task, waker), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waker.cancel()
                if task.done():
                    break
                self._wake.clear()
                shorter = self._effective_grace()
                if shorter is not None and (grace is None or shorter < grace):
                    return
                await self._observe()
                self._publish()
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _unmount(self) -> None:
        self._volumes = None
        await self._shared.volumes.unmount_pod(self.uid)

    async def _after_termination(self) -> None:
        """Nothing runs any more. Once the object is to go, let it; once it is gone, remove all traces."""
        if self._removed:
            await self._clean_up()
            return
        if self.pod.metadata.deletion_timestamp is None or self._delete_sent:
            return
        await self._shared.statuses.settled(self.uid)
        try:
            self._delete_sent = True
            await self._shared.client.delete(
                core_v1.Pod,
                pods.name(self.pod),
                pods.namespace(self.pod),
                grace_period_seconds=0,
                uid=self.uid,
            )
        except StatusError as error:
            if not errors.is_not_found(error) and not errors.is_conflict(error):
                self._delete_sent = False
                raise

    async def _clean_up(self) -> None:
        shared = self._shared
        shared.probes.forget_pod(self.uid)
        shared.statuses.forget(self.uid)
        shared.puller.forget_pod(self.uid)
        for found in self.runtime.containers:
            await self._remove_container(found)
        for sandbox_id in list(self._sandboxes):
            await shared.runtime.remove_sandbox(sandbox_id)
            shared.owners.pop(sandbox_id, None)
        gc.remove_tree(sandbox_config.log_directory(self.pod, shared.config.log_dir))
        gc.remove_tree(pod_directory(shared.config.root_dir, self.uid))
        self.state = State.FINISHED
        self._alarm.cancel()
        self._on_finished(self)
