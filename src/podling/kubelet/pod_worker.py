"""One worker per pod: whatever happens to the pod happens in this one task, so nothing is ever done twice at once.

Events (a change of the pod, something in the runtime, a probe's verdict, a timer) only wake the worker; what there is
to do it reads off the pod and the runtime each time. Its life: syncing -> terminating (containers are being stopped) ->
terminated (nothing runs; the pod object may still be there) -> finished (all traces are removed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from podling import clock, log
from podling.api import core_v1, errors, times
from podling.api.errors import StatusError
from podling.errors import PodlingError, system_text
from podling.images.base import Image
from podling.kubelet import actions as deciding
from podling.kubelet import gc, pods, sandbox_config, status
from podling.kubelet.actions import Actions
from podling.kubelet.container_statuses import Facts, Failure
from podling.kubelet.env import Sources
from podling.kubelet.pod_kill import Killer, grace_period
from podling.kubelet.pod_resize import Resizer
from podling.kubelet.pod_start import Starter, StartFailed, Where, pod_directory
from podling.kubelet.pods import AnyContainer
from podling.kubelet.probes import Subject
from podling.kubelet.runtime_status import PodRuntimeStatus, collect
from podling.kubelet.shared import Shared
from podling.kubelet.status import Verdict
from podling.kubelet.termination_message import termination_message
from podling.kubelet.waiting import Gathering, all_of, result, retrieved
from podling.runtime.base import ContainerState, ContainerStatus, NotFound, SandboxConfig

T = TypeVar("T")

#: Seconds before a sync that failed is tried again, doubling.
RETRY_FIRST, RETRY_MOST = 1.0, 10.0
#: Seconds before a resize that was not possible is tried again.
RESIZE_RETRY = 10.0

_log = log.get(__name__)


class State(StrEnum):
    SYNCING = "syncing"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FINISHED = "finished"


class _Interrupted(Exception):
    """The pod is to be terminated: leave what you are waiting for."""


class PodWorker:
    """Makes `pod` true on this node. `sandboxes` are those that the runtime has of it already."""

    def __init__(
        self,
        shared: Shared,
        pod: core_v1.Pod,
        sandboxes: Iterable[str] = (),
        on_finished: Callable[[PodWorker], None] = lambda worker: None,
    ) -> None:
        self.pod = pod
        self.uid = pods.uid(pod)
        self.state = State.SYNCING
        self.runtime = PodRuntimeStatus()
        self.admitted = False
        self._shared = shared
        self._on_finished = on_finished
        self._killer = Killer(shared)
        self._starter = Starter(shared, self._killer)
        self._sandboxes: list[str] = list(sandboxes)
        self._adopted = bool(self._sandboxes)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._removed = False
        self._grace: int | None = None
        self._verdict: Verdict | None = None
        self._failures: dict[str, Failure] = {}
        self._retries: dict[str, float] = {}
        self._messages: dict[str, str] = {}
        self._volumes: dict[str, str] | None = None
        self._in_hook: set[str] = set()
        self._retry = RETRY_FIRST
        self._restarting_all = False
        self._delete_sent = False
        self._making: asyncio.Future[str] | None = None
        self._prepare_failed = False
        self._prune_due = False
        self._resizer = Resizer(shared, self._killer)

    # From outside: all of these return at once

    def start(self) -> None:
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name=f"pod {pods.key(self.pod)}")

    def update(self, pod: core_v1.Pod) -> None:
        """The pod object has changed."""
        self.pod = pod
        self._shared.statuses.observe(pod)
        self._wake.set()

    def remove(self, last: core_v1.Pod | None = None) -> None:
        """The pod object is gone; `last` is how it looked then, with the grace period that it was deleted with."""
        self._removed = True
        if last is not None:
            self.pod = last
        self._wake.set()

    def wake(self) -> None:
        """Something has happened in the runtime, or to a probe."""
        self._wake.set()

    def evict(self, verdict: Verdict, grace: int | None) -> None:
        """The node has to be rid of the pod; `grace` seconds overrides what the pod asks for."""
        self._verdict = self._verdict or verdict
        self._grace = grace
        self._wake.set()

    def prune(self) -> None:
        """Remove what nobody needs any more, soon."""
        dead = [c.name for c in self.runtime.containers if c.state is ContainerState.EXITED]
        if self.state is State.SYNCING and (len(dead) > len(set(dead)) or len(self.runtime.sandboxes) > 1):
            self._prune_due = True
            self._wake.set()

    @property
    def granted(self) -> core_v1.Pod:
        """The pod with the resources that the node has granted it: that is what runs."""
        return self._resizer.granted(self.pod)

    @property
    def uses_resources(self) -> bool:
        """Whether the pod counts against the node's capacity."""
        return self.state in (State.SYNCING, State.TERMINATING) and not pods.is_terminal(self.pod.status)

    async def close(self) -> None:
        """Let go of the pod; its containers run on."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # The life of the worker

    async def _run(self) -> None:
        while self.state is not State.FINISHED:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._step()
                self._retry = RETRY_FIRST
            except Exception as error:
                if isinstance(error, PodlingError | OSError):
                    _log.warning("syncing %s: %s", pods.key(self.pod), error)
                else:
                    _log.exception("syncing %s failed", pods.key(self.pod))
                self._again_in(self._retry)
                self._retry = min(self._retry * 2, RETRY_MOST)

    async def _step(self) -> None:
        if self.state is State.SYNCING:
            await self._observe()
            if self._must_terminate():
                self.state = State.TERMINATING
            else:
                try:
                    await self._sync()
                except _Interrupted:
                    pass
                if self._must_terminate():
                    self.state = State.TERMINATING
            if self._prune_due:
                await self._prune()
        if self.state is State.TERMINATING:
            await self._terminate()
        if self.state is State.TERMINATED:
            await self._after_termination()

    def _must_terminate(self) -> bool:
        return (
            self._removed
            or self._verdict is not None
            or self.pod.metadata.deletion_timestamp is not None
            or pods.is_terminal(self.pod.status)
            or pods.is_terminal(self._shared.statuses.get(self.uid))
        )

    def _again_in(self, delay: float) -> None:
        """Wake in `delay` seconds, or sooner if that is set already."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and not self._timer.cancelled() and self._timer.when() > loop.time():
            if self._timer.when() <= loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._wake.set)

    # Looking

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
            self._notice(container)
        self.runtime = collect(sandboxes, containers, self._messages)

    def _notice(self, found: ContainerStatus) -> None:
        """A container as the runtime shows it: is it newly running, or newly ended?"""
        probes = self._shared.probes
        if found.state is ContainerState.EXITED:
            if found.id not in self._messages:
                self._messages[found.id] = termination_message(found)
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

    # Syncing

    async def _sync(self) -> None:
        """Do what there is to do, until there is nothing left that can be done now."""
        if not self.admitted and not self._admit():
            return
        done = False
        while True:
            self._check_deadline()
            await self._resize()
            made = self._publish()
            if done or self._must_terminate() or pods.is_terminal(made):
                break
            todo = deciding.compute_actions(self.pod, self.runtime, self._shared.probes.verdicts())
            self._forget_obsolete_failures()
            if todo.nothing:
                break
            done = not await self._carry_out(todo)
            await self._observe()
        if self._retries:
            self._again_in(max(0.0, min(self._retries.values()) - clock.elapsed()))

    def _admit(self) -> bool:
        if self._adopted or self.runtime.containers:
            self.admitted = True
            return True
        rejection = self._shared.admit(self.pod)
        if rejection is None:
            self.admitted = True
            return True
        self._shared.tell(self.pod, "Warning", rejection.reason, rejection.message)
        self._verdict = Verdict(rejection.reason, f"Pod was rejected: {rejection.message}")
        return False

    async def _resize(self) -> None:
        """Grant what the pod newly asks for if the node has it, and put into force what is granted."""
        while True:
            changed = self._resizer.grant(self.pod, adopted=self._adopted)
            if changed:
                self._publish()
            acted = await self._resizer.put_into_force(self.pod, self.runtime, self._ip())
            if not acted:
                break
            await self._observe()
        if self._resizer.unfinished:
            self._again_in(RESIZE_RETRY)

    def _check_deadline(self) -> None:
        deadline = self.pod.spec.active_deadline_seconds
        known = self._shared.statuses.get(self.uid) or self.pod.status
        if deadline is None or self._verdict is not None:
            return
        began = times.parse(known.start_time) if known is not None and known.start_time else clock.now()
        left = (began + timedelta(seconds=deadline) - clock.now()).total_seconds()
        if left <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            self._verdict = Verdict("DeadlineExceeded", message)
            self._shared.tell(self.pod, "Normal", "DeadlineExceeded", message)
        else:
            self._again_in(left)

    def _forget_obsolete_failures(self) -> None:
        now = clock.elapsed()
        for name in [n for n, when in self._retries.items() if when <= now]:
            del self._retries[name]

    async def _carry_out(self, todo: Actions) -> bool:
        """Whether anything was achieved that may make more possible."""
        if todo.reset:
            await self._reset(todo.reset)
            return True
        self._restarting_all = False
        if todo.kill_pod:
            if not await self._kill_for(todo):
                return False
            if not todo.create_sandbox:
                return True
        elif todo.to_kill:
            await self._kill_unwanted(todo)
        due = [(c, kind) for c, kind in self._due(todo) if self._may_try(c)]
        if not due and not todo.create_sandbox:
            return bool(todo.to_kill)
        # While it must be repeated, the sandbox comes first: nobody wants to hear of the same image again and again.
        images = {} if self._prepare_failed else self._begin_images(due)
        try:
            self._prepare_failed = True
            where, sources = await self._prepare(todo)
            self._prepare_failed = False
            images = images or self._begin_images(due)
            return await self._start_all(due, where, sources, images) or bool(todo.to_kill) or todo.create_sandbox
        finally:
            for task in images.values():
                task.cancel()

    def _due(self, todo: Actions) -> list[tuple[AnyContainer, str]]:
        spec = self.pod.spec
        due: list[tuple[AnyContainer, str]] = []
        due += [((spec.ephemeral_containers or [])[i], "ephemeral") for i in todo.ephemeral_to_start]
        due += [((spec.init_containers or [])[i], "init") for i in todo.init_to_start]
        due += [(spec.containers[i], "regular") for i in todo.to_start]
        return due

    def _may_try(self, container: AnyContainer) -> bool:
        """Not while its last failure says to wait, nor while it must back off from restarting."""
        when = self._retries.get(container.name)
        if when is not None and when > clock.elapsed():
            return False
        try:
            self._starter.check_backoff(self.pod, container, self._last_ended(container.name))
        except StartFailed as failed:
            self._note_failure(container.name, failed)
            return False
        return True

    def _last_ended(self, name: str) -> ContainerStatus | None:
        return next((c for c in self.runtime.containers if c.name == name and c.state is ContainerState.EXITED), None)

    def _note_failure(self, name: str, failed: StartFailed) -> None:
        self._failures[name] = failed.failure
        self._retries[name] = clock.elapsed() + failed.retry_after

    async def _kill_for(self, todo: Actions) -> bool:
        """Everything stops: for a new sandbox, or because the pod is done. Whether there was anything to stop."""
        if todo.create_sandbox and todo.sandbox_id:
            text = "Pod sandbox changed, it will be killed and re-created."
            self._shared.tell(self.pod, "Normal", "SandboxChanged", text)
        ready = [s for s in self.runtime.sandboxes if s.state == "ready"]
        running = self.runtime.running
        if running:
            await self._meanwhile(self._killer.kill_pod(self.pod, running, self._ip(), self._grace))
        for sandbox in ready:
            await self._shared.runtime.stop_sandbox(sandbox.id)
        if todo.create_sandbox:
            await self._purge_init_containers()
            await self._observe()
        return bool(running or ready) or todo.create_sandbox

    async def _purge_init_containers(self) -> None:
        """Those of an earlier sandbox say nothing about the new one."""
        names = {c.name for c in self.pod.spec.init_containers or ()}
        for found in self.runtime.containers:
            if found.name in names:
                await self._remove_container(found)

    async def _remove_container(self, found: ContainerStatus) -> None:
        self._starter.unlink_log(self.pod, found.name, found.id)
        await self._shared.runtime.remove_container(found.id)
        self._messages.pop(found.id, None)

    async def _kill_unwanted(self, todo: Actions) -> None:
        kills = []
        for container_id, kill in todo.to_kill.items():
            found = self.runtime.find_id(container_id)
            if found is not None:
                kills.append(self._killer.kill(self.pod, found, self._ip(), message=kill.message, reason=kill.reason))
        await self._meanwhile(all_of(kills))
        await self._observe()
        self._publish()

    async def _reset(self, by: str) -> None:
        """Restart the pod in place: all containers are stopped and removed, the one that asked for it last."""
        self._restarting_all = True
        self._publish()
        if self.runtime.running:
            await self._meanwhile(self._killer.kill_pod(self.pod, self.runtime.running, self._ip(), 0))
        await self._observe()
        self._publish()
        for found in sorted(self.runtime.containers, key=lambda c: c.name == by):
            await self._remove_container(found)
        await self._observe()
        self._publish()

    def _begin_images(self, due: list[tuple[AnyContainer, str]]) -> dict[str, asyncio.Task[Image]]:
        """Get images while the sandbox is being made; each is awaited in its container's turn."""
        tasks = {}
        for container, _ in due:
            task = tasks[container.name] = asyncio.create_task(self._starter.image(self.pod, container))
            task.add_done_callback(retrieved)
        return tasks

    async def _prepare(self, todo: Actions) -> tuple[Where, Sources]:
        """Sandbox, volumes and sources of the environment, all at once."""
        async with Gathering() as gathering:
            volumes = gathering.add(self._mount())
            sources = gathering.add(self._starter.sources(self.pod))
            made = gathering.add(self._make_sandbox(todo.attempt)) if todo.create_sandbox else None
            await self._meanwhile(gathering.wait())
        if made is not None:
            await self._observe()
            self._publish()
        directory = sandbox_config.log_directory(self.pod, self._shared.config.log_dir)
        sandbox_id = self.runtime.sandboxes[0].id if self.runtime.sandboxes else ""
        return Where(sandbox_id, self.runtime.ips, volumes.result(), directory), sources.result()

    async def _mount(self) -> dict[str, str]:
        try:
            self._volumes = dict(await self._shared.volumes.mount_pod_volumes(self.pod))
        except (PodlingError, OSError, ValueError) as error:
            for text in getattr(error, "messages", (str(error),)):
                self._shared.tell(self.pod, "Warning", "FailedMount", text)
            raise
        return self._volumes

    async def _make_sandbox(self, attempt: int) -> str:
        shared = self._shared
        try:
            handler = shared.runtime_handler(self.pod.spec.runtime_class_name or "")
            config, warnings = sandbox_config.sandbox_config(
                self.granted, attempt, shared.config, shared.resolv_conf, handler
            )
            for reason, message in warnings:
                shared.tell(self.pod, "Warning", reason, message)
            # Not to be given up half-way: what was begun must be known, to be taken down again.
            self._making = asyncio.ensure_future(self._run_sandbox(config))
            sandbox_id = await asyncio.shield(self._making)
        except (PodlingError, OSError) as error:
            said = system_text(error) if isinstance(error, OSError) else error
            text = f"Failed to create pod sandbox: {said}"
            shared.tell(self.pod, "Warning", "FailedCreatePodSandBox", text)
            raise
        return sandbox_id

    async def _run_sandbox(self, config: SandboxConfig) -> str:
        sandbox_id = await self._shared.runtime.run_sandbox(config)
        self._sandboxes.append(sandbox_id)
        self._shared.owners[sandbox_id] = self.uid
        return sandbox_id

    async def _start_all(
        self,
        due: list[tuple[AnyContainer, str]],
        where: Where,
        sources: Sources,
        images: dict[str, asyncio.Task[Image]],
    ) -> bool:
        """Start them one after another; whether any was started."""
        started = False
        for container, kind in due:
            if self._must_terminate():
                raise _Interrupted
            try:
                await self._start_one(container, kind, where, sources, images[container.name])
                started = True
            except StartFailed as failed:
                self._note_failure(container.name, failed)
                if kind == "init" and not pods.is_sidecar(container):
                    break
        return started

    async def _start_one(
        self, container: AnyContainer, kind: str, where: Where, sources: Sources, image: asyncio.Task[Image]
    ) -> None:
        got = await self._meanwhile(result(image))
        target = self._target_of(container)
        container = pods.find_container(self.granted, container.name) or container
        container_id = await self._starter.create(
            self.granted,
            container,
            attempt=self._attempt(container.name),
            image=got,
            where=where,
            sources=sources,
            target=target,
        )
        self._in_hook.add(container_id)
        try:
            # Not shown as running until its hook is through.
            await self._meanwhile(self._starter.post_start(self.pod, container, container_id, self._ip()), look=False)
        finally:
            self._in_hook.discard(container_id)
        self._failures.pop(container.name, None)
        self._retries.pop(container.name, None)

    def _target_of(self, container: AnyContainer) -> str:
        """The id of the container whose processes an ephemeral container wants to see."""
        name = getattr(container, "target_container_name", None)
        found = self.runtime.find(name) if name else None
        return found.id if found is not None else ""

    def _attempt(self, name: str) -> int:
        """Which start of the container this is, counting from 0; it goes on after the node agent restarted."""
        found = self.runtime.find(name)
        if found is not None:
            return found.attempt + 1
        known = self._shared.statuses.get(self.uid) or self.pod.status
        every: list[core_v1.ContainerStatus] = []
        if known is not None:
            every += [*(known.container_statuses or ()), *(known.init_container_statuses or ())]
        before = next((s for s in every if s.name == name), None)
        if before is None:
            return 0
        return before.restart_count + (1 if before.container_id else 0)

    async def _meanwhile(self, work: Coroutine[Any, Any, T], *, look: bool = True) -> T:
        """The result of `work`, which may take long: meanwhile changes are shown, and a termination interrupts it."""
        task = asyncio.ensure_future(work)
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
                if self._must_terminate():
                    self._wake.set()
                    raise _Interrupted
                if look:
                    await self._observe()
                    self._check_deadline()
                    self._publish()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # Terminating

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
        if self._timer is not None:
            self._timer.cancel()
        self._on_finished(self)

    # Keeping small

    async def _prune(self) -> None:
        """Remove dead containers but the newest of each name (for `logs --previous`), and sandboxes long gone."""
        self._prune_due = False
        seen: set[str] = set()
        for found in self.runtime.containers:
            if found.state is not ContainerState.EXITED:
                continue
            if found.name in seen:
                await self._remove_container(found)
            seen.add(found.name)
        used = {c.sandbox_id for c in self.runtime.containers}
        for sandbox in self.runtime.sandboxes[1:]:
            if sandbox.state != "ready" and sandbox.id not in used:
                await self._shared.runtime.remove_sandbox(sandbox.id)
