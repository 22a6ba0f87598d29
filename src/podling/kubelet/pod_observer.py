"""What is known of one pod on its node: looking at the runtime, and reporting what was seen."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from podling import clock
from podling.api import core_v1
from podling.kubelet import pods, status
from podling.kubelet.container_statuses import Facts, Failure
from podling.kubelet.pod_kill import Killer
from podling.kubelet.pod_resize import Resizer
from podling.kubelet.pod_start import Starter
from podling.kubelet.probes import Subject
from podling.kubelet.runtime_status import PodRuntimeStatus, collect
from podling.kubelet.shared import Shared
from podling.kubelet.status import Verdict
from podling.kubelet.termination_message import termination_message
from podling.runtime.base import ContainerState, ContainerStatus, NotFound


class State(StrEnum):
    SYNCING = "syncing"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FINISHED = "finished"


class PodObserver:
    """Sees what the runtime has of `pod`. `sandboxes` are those that it had already when the node agent began."""

    def __init__(self, shared: Shared, pod: core_v1.Pod, sandboxes: Iterable[str] = ()) -> None:
        self.pod = pod
        self.uid = pods.uid(pod)
        self.state = State.SYNCING
        self.runtime = PodRuntimeStatus()
        self._shared = shared
        self._killer = Killer(shared)
        self._starter = Starter(shared, self._killer)
        self._resizer = Resizer(shared, self._killer)
        self._sandboxes: list[str] = list(sandboxes)
        self._adopted = bool(self._sandboxes)
        self._removed = False
        self._verdict: Verdict | None = None
        self._failures: dict[str, Failure] = {}
        self._messages: dict[str, str] = {}
        self._in_hook: set[str] = set()
        self._restarting_all = False

    @property
    def granted(self) -> core_v1.Pod:
        """The pod with the resources that the node has granted it: that is what runs."""
        return self._resizer.granted(self.pod)

    async def _observe(self) -> None:
        """See what the runtime has of the pod."""
        runtime = self._shared.runtime
        sandboxes, containers = [], []
        for sandbox_id in list(self._sandboxes):
            try:
                sandboxes.append(await runtime.sandbox_status(sandbox_id))
            except NotFound:
                self._sandboxes.remove(sandbox_id)
                continue
            containers += await runtime.list_containers(sandbox_id)
        for container in containers:
            if container.state is ContainerState.EXITED and container.id not in self._messages:
                self._messages[container.id] = termination_message(container)
        # Before anything is probed: the pod's address is known from here.
        self.runtime = collect(sandboxes, containers, self._messages)
        for container in containers:
            self._notice(container)

    def _notice(self, found: ContainerStatus) -> None:
        """A container as the runtime shows it: is it newly running, or newly ended?"""
        probes = self._shared.probes
        if found.state is ContainerState.EXITED:
            probes.remove(found.id)
        elif found.state is ContainerState.RUNNING and found.id not in self._in_hook and not probes.watches(found.id):
            self._begin_probing(found)

    def _begin_probing(self, found: ContainerStatus) -> None:
        container = pods.find_container(self.pod, found.name)
        if container is None or isinstance(container, core_v1.EphemeralContainer):
            return
        known = self._known_status(found)
        age = (clock.now() - found.started_at).total_seconds() if found.started_at else 0.0
        subject = Subject(
            self.pod,
            container,
            found.id,
            self._ip(),
            clock.elapsed() - age,
            adopted=self._adopted and known is not None,
            restored_ready=known is not None and known.ready,
            restored_started=known is not None and bool(known.started),
        )
        self._shared.probes.add(subject)

    def _known_status(self, found: ContainerStatus) -> core_v1.ContainerStatus | None:
        """What was reported of this very container before the node agent restarted."""
        reported = self.pod.status
        if not self._adopted or reported is None:
            return None
        every = (*(reported.container_statuses or ()), *(reported.init_container_statuses or ()))
        return next((s for s in every if (s.container_id or "").endswith(found.id)), None)

    def _ip(self) -> str:
        ips = self.runtime.ips or (self._shared.host_ips if pods.is_host_network(self.pod) else ())
        return ips[0] if ips else ""

    def facts(self) -> Facts:
        """What the pod's status is made from, as of the last look."""
        shared = self._shared
        old = shared.statuses.get(self.uid) or self.pod.status or core_v1.PodStatus()
        return Facts(
            pod=self.granted,
            runtime=self.runtime,
            old=old,
            runtime_name=shared.runtime.name,
            failures=self._failures,
            readiness=shared.probes.readiness,
            startup=shared.probes.startup,
            image_refs=shared.puller.digests,
            restarting_all=self._restarting_all,
        )

    def _publish(self, *, final: bool = False) -> core_v1.PodStatus:
        """Report the pod's status as of the last look, if there still is somebody to report it to."""
        shared = self._shared
        terminating = self.state is not State.SYNCING
        facts = self.facts()
        made = status.pod_status(
            facts,
            host_ips=shared.host_ips,
            now=clock.now(),
            verdict=self._verdict,
            terminating=terminating,
            resize_conditions=[] if terminating else self._resizer.conditions(),
        )
        if pods.is_terminal(made) and not pods.is_terminal(facts.old) and self.runtime.running:
            # A pod is not over while anything of it runs: its resources are not free yet.
            made.phase, made.reason, made.message = facts.old.phase, facts.old.reason, facts.old.message
        if final:
            status.finalize(self.pod, made)
        if not self._removed:
            shared.statuses.set(self.pod, made, final=final)
        return made

    async def _remove_container(self, found: ContainerStatus) -> None:
        self._starter.unlink_log(self.pod, found.name, found.id)
        await self._shared.runtime.remove_container(found.id)
        self._messages.pop(found.id, None)
