"""Resizing a running pod: the acting part of `resize`, one for each pod worker."""

from __future__ import annotations

from podling.api import core_v1
from podling.kubelet import cgroups, pods, resize
from podling.kubelet.pod_kill import Killer
from podling.kubelet.runtime_status import PodRuntimeStatus
from podling.kubelet.shared import Shared
from podling.runtime.base import RuntimeFailure


class Resizer:
    """Remembers what one pod has been granted."""

    def __init__(self, shared: Shared, killer: Killer) -> None:
        self._shared, self._killer = shared, killer
        self._grants: resize.Granted | None = None
        self._pending: resize.Pending | None = None
        self._in_progress = False
        self._error = ""
        self._last: tuple[core_v1.Pod, core_v1.Pod] | None = None

    def granted(self, pod: core_v1.Pod) -> core_v1.Pod:
        """The pod with the resources that are granted."""
        if self._grants is None:
            return pod
        if self._last is None or self._last[0] is not pod:
            self._last = (pod, resize.with_granted(pod, self._grants))
        return self._last[1]

    @property
    def unfinished(self) -> bool:
        """Whether there is something to be tried again."""
        return self._pending is not None or bool(self._error)

    def conditions(self) -> list[core_v1.PodCondition]:
        return resize.conditions(self._pending, self._in_progress, self._error)

    def grant(self, pod: core_v1.Pod, *, adopted: bool) -> bool:
        """Grant what the pod asks for, if it is something new and the node has it; whether that was so."""
        if self._grants is None:
            self._set(resize.reported(pod) if adopted else resize.asked(pod))
        wanted = resize.asked(pod)
        if pods.is_static(pod) or self._grants is None or not resize.differs(wanted, self._grants):
            self._pending = None
            self._set(wanted)
            return False
        self._pending = self._shared.admit_resize(pod)
        if self._pending is not None:
            return False
        self._set(wanted)
        self._in_progress = True
        return True

    def _set(self, grants: resize.Granted) -> None:
        self._grants, self._last = grants, None

    async def put_into_force(self, pod: core_v1.Pod, runtime: PodRuntimeStatus, ip: str) -> bool:
        """Bring the cgroups to what is granted; whether anything was changed, so that it is worth another look."""
        if not self._in_progress:
            return False
        shared = self._shared
        granted = self.granted(pod)
        todo = resize.updates(granted, runtime.containers, shared.memory_capacity)
        if not todo or not runtime.sandboxes:
            text = f"Pod resize completed: {resize.described(granted)}"
            shared.tell(pod, "Normal", "ResizeCompleted", text)
            self._in_progress, self._error = False, ""
            return False
        try:
            await self._update(pod, granted, todo, runtime, ip)
        except RuntimeFailure as error:
            self._error = str(error)
            shared.tell(pod, "Warning", "ResizeError", f"Pod resize error: {error}")
            return False
        self._error = ""
        return True

    async def _update(
        self, pod: core_v1.Pod, granted: core_v1.Pod, todo: list[resize.Update], runtime: PodRuntimeStatus, ip: str
    ) -> None:
        """The pod's own cgroup is widened before its containers' and narrowed after them: its limits must hold them."""
        shared = self._shared
        whole = cgroups.pod_resources_config(granted, shared.config.pod_pids_limit)
        sandbox_id = runtime.sandboxes[0].id
        narrows = any(update.lowers_memory for update in todo)
        if not narrows:
            await shared.runtime.update_sandbox_resources(sandbox_id, whole)
        for update in todo:
            if update.restart:
                found = runtime.find_id(update.container_id)
                if found is not None:
                    text = f"Container {update.name} resize requires restart"
                    await self._killer.kill(pod, found, ip, message=text)
                continue
            if update.lowers_memory:
                await self._check_usage(update)
            await shared.runtime.update_resources(update.container_id, update.resources)
        if narrows:
            await shared.runtime.update_sandbox_resources(sandbox_id, whole)

    async def _check_usage(self, update: resize.Update) -> None:
        used = (await self._shared.runtime.container_stats(update.container_id)).memory_usage
        limit = update.resources.memory_limit
        if used >= limit:
            raise RuntimeFailure(
                f'attempting to set container "{update.name}" memory limit ({limit}) below current usage ({used})'
            )
