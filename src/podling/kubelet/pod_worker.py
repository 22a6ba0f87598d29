"""One worker per pod: whatever happens to the pod happens in this one task, so nothing is ever done twice at once.

Events (a change of the pod, something in the runtime, a probe's verdict, a timer) only wake the worker; what there is
to do it reads off the pod and the runtime each time. Its life: syncing -> terminating (containers are being stopped) ->
terminated (nothing runs; the pod object may still be there) -> finished (all traces are removed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from podling import clock, log
from podling.api import core_v1, times
from podling.errors import PodlingError, system_text
from podling.images.base import Image
from podling.kubelet import actions as deciding
from podling.kubelet import pods, sandbox_config
from podling.kubelet.actions import Actions
from podling.kubelet.env import Sources
from podling.kubelet.measures import Timeline
from podling.kubelet.pod_observer import State
from podling.kubelet.pod_start import StartFailed, Where
from podling.kubelet.pod_termination import PodTerminator
from podling.kubelet.pods import AnyContainer
from podling.kubelet.shared import Shared
from podling.kubelet.status import Verdict
from podling.kubelet.waiting import Gathering, all_of, result, retrieved
from podling.runtime.base import ContainerState, ContainerStatus, SandboxConfig

T = TypeVar("T")

#: Seconds before a sync that failed is tried again, doubling.
RETRY_FIRST, RETRY_MOST = 1.0, 10.0
#: Seconds before a resize that was not possible is tried again.
RESIZE_RETRY = 10.0

_log = log.get(__name__)


class _Interrupted(Exception):
    """The pod is to be terminated: leave what you are waiting for."""


class PodWorker(PodTerminator):
    """Makes `pod` true on this node. `sandboxes` are those that the runtime has of it already."""

    def __init__(
        self,
        shared: Shared,
        pod: core_v1.Pod,
        sandboxes: Iterable[str] = (),
        on_finished: Callable[[PodWorker], None] = lambda worker: None,
    ) -> None:
        super().__init__(shared, pod, sandboxes, on_finished)
        self.admitted = False
        self._timeline = Timeline(shared.measures, pod)
        self._task: asyncio.Task[None] | None = None
        self._retries: dict[str, float] = {}
        self._retry = RETRY_FIRST
        self._prepare_failed = False
        self._prune_due = False

    # From outside: all of these return at once

    def start(self) -> None:
        self._wake.set()
        self._task = asyncio.create_task(self._run(), name=f"pod {pods.key(self.pod)}")

    def update(self, pod: core_v1.Pod) -> None:
        """The pod object has changed."""
        self.pod = pod
        self._shared.statuses.observe(pod)
        self._timeline.observed(pod)
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
    def uses_resources(self) -> bool:
        """Whether it counts against the node's capacity. The room of a pod deleted by force is others' at once."""
        acting = not self._removed and self.state in (State.SYNCING, State.TERMINATING)
        return acting and not pods.is_terminal(self.pod.status)

    async def close(self) -> None:
        """Let go of the pod; its containers run on."""
        self._alarm.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # The life of the worker

    async def _run(self) -> None:
        while self.state is not State.FINISHED:
            await self._wake.wait()
            self._wake.clear()
            try:
                with self._timeline.syncing(ending=self.state is not State.SYNCING):
                    await self._step()
                self._retry = RETRY_FIRST
            except Exception as error:
                if isinstance(error, PodlingError | OSError):
                    _log.warning("syncing %s: %s", pods.key(self.pod), error)
                else:
                    _log.exception("syncing %s failed", pods.key(self.pod))
                self._alarm.set(self._retry)
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
            self._alarm.set(max(0.0, min(self._retries.values()) - clock.elapsed()))

    def _admit(self) -> bool:
        if self._adopted or self.runtime.containers:
            self.admitted = True
            return True
        rejection = self._shared.admit(self.pod)
        if rejection is None:
            self.admitted = True
            return True
        self._shared.tell(self.pod, "Warning", rejection.reason, rejection.message)
        self._verdict = Verdict(rejection.reason, f"Pod was rejected: {rejection.message}", rejected=True)
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
            self._alarm.set(RESIZE_RETRY)

    def _check_deadline(self) -> None:
        deadline = self.pod.spec.active_deadline_seconds
        known = self._shared.statuses.get(self.uid) or self.pod.status
        if deadline is None or self._verdict is not None:
            return
        began = times.parse(known.start_time) if known is not None and known.start_time else clock.now()
        left = (times.after(began, deadline) - clock.now()).total_seconds()
        if left <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            self._verdict = Verdict("DeadlineExceeded", message)
            self._shared.tell(self.pod, "Normal", "DeadlineExceeded", message)
        else:
            self._alarm.set(left)

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
        began = clock.elapsed()
        got = await self._meanwhile(result(image))
        self._timeline.pulled(clock.elapsed() - began)
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
