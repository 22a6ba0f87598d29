"""Probes: whether containers have started, live, and are ready for traffic (pkg/kubelet/prober).

One task per probe of a running container. Failures are counted at the pace that the probe's period sets. Besides,
startup and readiness probes without an initial delay are also tried quietly in the first moments, with growing pauses:
there a success counts and a failure means nothing, so a container that is up after 50 ms is Ready after 50 ms, and none
is given less time than Kubernetes gives it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from enum import StrEnum

import msgspec

from podling import clock, log
from podling.api import core_v1
from podling.kubelet.actions import ProbeVerdicts
from podling.kubelet.hooks import PortError, resolve_port
from podling.kubelet.pods import AnyContainer, uid
from podling.kubelet.probe_handlers import MAX_BODY, NetworkProber, http_request
from podling.kubelet.probe_results import Outcome, Result, Target
from podling.runtime.base import ExecTimeout, Runtime, RuntimeFailure

#: When, in seconds after the start, a probe is tried quietly. A command costs more than a connection.
EARLY = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
EARLY_EXEC = (0.05, 0.2, 0.8, 3.2)

_log = log.get(__name__)


class Kind(StrEnum):
    LIVENESS = "Liveness"
    READINESS = "Readiness"
    STARTUP = "Startup"


#: (pod, container name, event type, reason, message)
Tell = Callable[[core_v1.Pod, str, str, str, str], None]


class ProbeCount(msgspec.Struct):
    """What /metrics/probes shows of a probe."""

    successful: int = 0
    failed: int = 0
    unknown: int = 0


class Subject(msgspec.Struct):
    """A running container that is probed. `restored` are the results that it had before the node agent restarted."""

    pod: core_v1.Pod
    container: AnyContainer
    container_id: str
    ip: str
    started_at: float
    adopted: bool = False
    restored_ready: bool = False
    restored_started: bool = False


def spec_of(container: AnyContainer, kind: Kind) -> core_v1.Probe | None:
    match kind:
        case Kind.LIVENESS:
            return container.liveness_probe
        case Kind.READINESS:
            return container.readiness_probe
        case Kind.STARTUP:
            return container.startup_probe


def period_of(spec: core_v1.Probe) -> float:
    return float(spec.period_seconds or 10)


def first_delay(spec: core_v1.Probe, kind: Kind) -> float:
    """Seconds from the container's start to the first probe that counts."""
    if spec.initial_delay_seconds:
        return float(spec.initial_delay_seconds)
    return period_of(spec)


def early_delays(spec: core_v1.Probe, kind: Kind) -> tuple[float, ...]:
    """When to try quietly before that."""
    if kind is Kind.LIVENESS or spec.initial_delay_seconds:
        return ()
    times = EARLY_EXEC if spec.exec is not None else EARLY
    return tuple(t for t in times if t < period_of(spec))


class _Probe:
    """One probe of one container, as long as it runs."""

    def __init__(self, manager: ProbeManager, subject: Subject, kind: Kind, spec: core_v1.Probe) -> None:
        self._manager, self._subject, self._kind, self._spec = manager, subject, kind, spec
        self._run: tuple[bool, int] = (True, 0)
        self.kick = asyncio.Event()

    async def loop(self) -> None:
        if self._kind is not Kind.STARTUP:
            await self._manager.started(self._subject.container_id)
        if await self._early():
            self._note(True, self._spec.success_threshold or 1)
        await self._first_wait()
        period = period_of(self._spec)
        tick = clock.elapsed()
        while True:
            if not await self._once():
                return
            tick += period
            now = clock.elapsed()
            if tick < now:
                # A probe that takes longer than its period is followed by the next tick, not by all it missed.
                tick = now + (period - (now - tick) % period)
            await self._sleep_until(tick)

    async def _sleep_until(self, when: float) -> None:
        self.kick.clear()
        try:
            async with asyncio.timeout_at(when):
                await self.kick.wait()
        except TimeoutError:
            pass

    async def _first_wait(self) -> None:
        if self._subject.adopted:
            # Not all at once after a restart of the node agent.
            await asyncio.sleep(random.random() * period_of(self._spec))
            return
        due = self._subject.started_at + first_delay(self._spec, self._kind)
        await asyncio.sleep(max(0.0, due - clock.elapsed()))

    async def _early(self) -> bool:
        if self._subject.adopted:
            return False
        for delay in early_delays(self._spec, self._kind):
            wait = self._subject.started_at + delay - clock.elapsed()
            if wait < 0 and delay > 0:
                continue
            await asyncio.sleep(max(0.0, wait))
            try:
                result = await self._manager.probe(self._subject, self._spec)
            except (RuntimeFailure, PortError):
                continue
            if result.outcome in (Outcome.SUCCESS, Outcome.WARNING):
                return True
        return False

    async def _once(self) -> bool:
        """Probe and count; whether to go on."""
        if self._kind is Kind.STARTUP and self._manager.startup.get(self._subject.container_id):
            return False
        try:
            result = await self._manager.probe(self._subject, self._spec)
        except (RuntimeFailure, PortError) as error:
            self._manager.count(self._subject, self._kind, None)
            self._tell("Unhealthy", f"probe errored and resulted in unknown state: {error}")
            return True
        success = result.outcome in (Outcome.SUCCESS, Outcome.WARNING)
        if result.outcome is Outcome.WARNING:
            self._tell("ProbeWarning", f"probe warning: {result.output}")
        elif not success:
            self._tell("Unhealthy", f"probe failed: {result.output}")
        self._manager.count(self._subject, self._kind, success)
        return self._note(
            success, (self._spec.success_threshold or 1) if success else self._spec.failure_threshold or 3
        )

    def _note(self, success: bool, threshold: int) -> bool:
        last, times = self._run
        times = times + 1 if last is success else 1
        self._run = (success, times)
        if times < threshold:
            return True
        self._manager.conclude(self._subject, self._kind, success)
        # A container that failed is about to be restarted; one that has started needs no more startup probes.
        return self._kind is Kind.READINESS or (self._kind is Kind.LIVENESS and success)

    def _tell(self, reason: str, text: str) -> None:
        subject = self._subject
        self._manager.tell(subject.pod, subject.container.name, "Warning", reason, f"{self._kind} {text}")


class ProbeManager:
    """All probes of the node. `on_change(pod uid)` is called when a verdict changes."""

    def __init__(self, runtime: Runtime, network: NetworkProber, tell: Tell, on_change: Callable[[str], None]) -> None:
        self._runtime, self._network = runtime, network
        self._tell, self._on_change = tell, on_change
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._probes: dict[str, dict[Kind, _Probe]] = {}
        self._subjects: dict[str, Subject] = {}
        self._started: dict[str, asyncio.Event] = {}
        #: Verdicts by container id.
        self.liveness: dict[str, bool] = {}
        self.readiness: dict[str, bool] = {}
        self.startup: dict[str, bool] = {}
        #: By (namespace, pod, pod uid, container, kind).
        self.counts: dict[tuple[str, str, str, str, str], ProbeCount] = {}

    def verdicts(self) -> ProbeVerdicts:
        return ProbeVerdicts(self.liveness, self.startup)

    def watches(self, container_id: str) -> bool:
        return container_id in self._subjects

    def add(self, subject: Subject) -> None:
        """The container runs: begin to probe it."""
        container_id = subject.container_id
        if container_id in self._subjects:
            return
        self._subjects[container_id] = subject
        started = self._started[container_id] = asyncio.Event()
        container = subject.container
        if container.startup_probe is None or subject.restored_started:
            started.set()
            if container.startup_probe is not None:
                self.startup[container_id] = True
        if container.readiness_probe is not None:
            self.readiness[container_id] = subject.restored_ready
        probes = self._probes[container_id] = {}
        for kind in Kind:
            spec = spec_of(container, kind)
            if spec is not None and not (kind is Kind.STARTUP and started.is_set()):
                probes[kind] = _Probe(self, subject, kind, spec)
        if probes:
            self._tasks[container_id] = [
                asyncio.create_task(self._guarded(probe), name=f"{kind} probe of {container.name}")
                for kind, probe in probes.items()
            ]

    async def _guarded(self, probe: _Probe) -> None:
        try:
            await probe.loop()
        except Exception:
            _log.exception("a probe failed unexpectedly")

    def remove(self, container_id: str, *, forget: bool = True) -> None:
        """The container runs no more."""
        for task in self._tasks.pop(container_id, ()):
            task.cancel()
        self._probes.pop(container_id, None)
        self._subjects.pop(container_id, None)
        self._started.pop(container_id, None)
        if forget:
            for results in (self.liveness, self.readiness, self.startup):
                results.pop(container_id, None)

    def terminating(self, pod_uid: str) -> None:
        """The pod is being stopped: it is not to be restarted, so only readiness still matters."""
        for container_id, probes in self._probes.items():
            if uid(self._subjects[container_id].pod) != pod_uid:
                continue
            tasks = self._tasks.get(container_id, [])
            for kind, task in zip(probes, tasks, strict=False):
                if kind is not Kind.READINESS:
                    task.cancel()
                    self._results(kind)[container_id] = True
                    if kind is Kind.STARTUP:
                        self._started[container_id].set()

    def forget_pod(self, pod_uid: str) -> None:
        for container_id in [c for c, s in self._subjects.items() if uid(s.pod) == pod_uid]:
            self.remove(container_id)
        for key in [k for k in self.counts if k[2] == pod_uid]:
            del self.counts[key]

    async def close(self) -> None:
        tasks = [task for each in self._tasks.values() for task in each]
        for container_id in list(self._subjects):
            self.remove(container_id, forget=False)
        await asyncio.gather(*tasks, return_exceptions=True)

    # For the probes themselves

    async def started(self, container_id: str) -> None:
        """Until the startup probe, if there is one, has succeeded."""
        await self._started[container_id].wait()

    def tell(self, pod: core_v1.Pod, container: str, type_: str, reason: str, message: str) -> None:
        self._tell(pod, container, type_, reason, message)

    def count(self, subject: Subject, kind: Kind, success: bool | None) -> None:
        meta = subject.pod.metadata
        key = (meta.namespace or "", meta.name or "", meta.uid or "", subject.container.name, str(kind))
        count = self.counts.setdefault(key, ProbeCount())
        if success is None:
            count.unknown += 1
        elif success:
            count.successful += 1
        else:
            count.failed += 1

    def conclude(self, subject: Subject, kind: Kind, success: bool) -> None:
        """The threshold is reached."""
        container_id = subject.container_id
        if container_id not in self._subjects:
            return
        results = self._results(kind)
        changed = results.get(container_id) is not success
        results[container_id] = success
        if kind is Kind.STARTUP and success:
            self._started[container_id].set()
        if changed and not (kind is Kind.LIVENESS and success):
            self._on_change(uid(subject.pod))

    def _results(self, kind: Kind) -> dict[str, bool]:
        return {Kind.LIVENESS: self.liveness, Kind.READINESS: self.readiness, Kind.STARTUP: self.startup}[kind]

    async def probe(self, subject: Subject, spec: core_v1.Probe) -> Result:
        """Do it once. Raises RuntimeFailure or PortError if it cannot be done."""
        timeout = float(spec.timeout_seconds or 1)
        if spec.exec is not None:
            return await self._exec(subject.container_id, tuple(spec.exec.command or ()), timeout)
        if spec.http_get is not None:
            action = spec.http_get
            target = self._target(subject, action.host, action.port)
            return await self._network.http(target, http_request(action), timeout)
        if spec.tcp_socket is not None:
            target = self._target(subject, spec.tcp_socket.host, spec.tcp_socket.port)
            return await self._network.tcp(target, timeout)
        if spec.grpc is not None:
            target = self._target(subject, None, spec.grpc.port)
            tls = spec.grpc.mode == "TLS"
            return await self._network.grpc(target, spec.grpc.service or "", tls=tls, timeout=timeout)
        raise PortError(f"missing probe handler for {subject.container.name}")

    def _target(self, subject: Subject, host: str | None, port: int | str) -> Target:
        return Target(subject.container_id, host or subject.ip, resolve_port(port, subject.container))

    async def _exec(self, container_id: str, command: tuple[str, ...], timeout: float) -> Result:
        try:
            result = await self._runtime.exec_sync(container_id, command, timeout)
        except ExecTimeout:
            text = f'command timed out: "{" ".join(command)}" timed out after {timeout:g}s'
            return Result(Outcome.FAILURE, text)
        output = (result.stdout + result.stderr)[:MAX_BODY].decode("utf-8", "replace")
        return Result(Outcome.SUCCESS if result.exit_code == 0 else Outcome.FAILURE, output)
