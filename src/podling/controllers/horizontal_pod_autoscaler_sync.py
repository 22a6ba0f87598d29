"""One look of an autoscaler: the scale of its target, what its metrics propose, the new size, its status and events."""

from __future__ import annotations

from typing import NamedTuple

from podling import clock
from podling.api import autoscaling_v1, core_v1, selectors, times
from podling.api import autoscaling_v2 as v2
from podling.api.errors import StatusError
from podling.api.registry import Resource
from podling.api.struct import clone
from podling.client.client import ApiClient
from podling.client.events import NORMAL, WARNING, Recorder
from podling.client.informer import Informer
from podling.controllers import horizontal_pod_autoscaler_counts as counts
from podling.controllers import horizontal_pod_autoscaler_rules as rules
from podling.controllers.base import Config, ReconcileError
from podling.controllers.horizontal_pod_autoscaler_proposals import Failed, Look, Proposed, propose
from podling.controllers.horizontal_pod_autoscaler_replicas import Limits
from podling.controllers.horizontal_pod_autoscaler_rules import ABLE, ACTIVE, SCALED_TO_ZERO, Bounds, Condition, Memory
from podling.controllers.horizontal_pod_autoscaler_sources import Sources
from podling.controllers.resources import Resources

_NO_SCALE = "the HPA controller was unable to get the target's current scale"


class _Target(NamedTuple):
    resource: Resource
    scale: autoscaling_v1.Scale

    @property
    def wanted(self) -> int:
        return (self.scale.spec.replicas if self.scale.spec is not None else None) or 0

    @property
    def present(self) -> int:
        return (self.scale.status.replicas if self.scale.status is not None else None) or 0

    @property
    def selector(self) -> str:
        return (self.scale.status.selector if self.scale.status is not None else None) or ""


class _Size(NamedTuple):
    replicas: int
    #: Why it is another; "" if it stays as it is.
    reason: str = ""
    #: What else went wrong, while the size could be told all the same.
    trouble: str = ""


class Autoscaling:
    """All autoscalers of the cluster, and what is remembered of them."""

    def __init__(
        self,
        client: ApiClient,
        recorder: Recorder,
        pods: Informer[core_v1.Pod],
        resources: Resources,
        config: Config,
    ) -> None:
        self._client, self._recorder, self._pods = client, recorder, pods
        self._resources, self._config = resources, config
        self._sources = Sources(client, resources)
        self._memories: dict[str, Memory] = {}
        #: By key, which pods each autoscaler scales; None until that was seen.
        self._selectors: dict[str, selectors.LabelSelector | None] = {}
        counts.show(self._selectors.__len__)

    def seen(self, key: str) -> None:
        self._selectors.setdefault(key, None)

    def forget(self, key: str) -> None:
        self._memories.pop(key, None)
        self._selectors.pop(key, None)

    async def sync(self, key: str, cached: v2.HorizontalPodAutoscaler) -> None:
        """Raises ReconcileError, saying what is wrong, after it has been written into the status."""
        with counts.reconciling() as outcome:
            hpa = clone(cached)
            hpa.status.observed_generation = hpa.metadata.generation
            try:
                await self._sync(key, hpa, outcome)
            finally:
                await self._write_status(hpa, cached)

    async def _sync(self, key: str, hpa: v2.HorizontalPodAutoscaler, outcome: counts.Outcome) -> None:
        target = await self._target(hpa, outcome)
        current = target.wanted
        memory = self._memories.setdefault(key, Memory())
        memory.begin(current, clock.now())
        measured: list[v2.MetricStatus] = []
        try:
            size = await self._size(key, hpa, target, measured)
        except ReconcileError:
            self._measured(hpa, current, measured)
            raise
        if size.replicas != current:
            await self._rescale(hpa, target, size, measured)
            outcome.towards(current, size.replicas)
            if hpa.spec.behavior is not None:
                memory.scaled(current, size.replicas, clock.now())
            hpa.status.last_scale_time = times.format(clock.now())
        self._measured(hpa, current, measured)
        hpa.status.desired_replicas = size.replicas
        if size.trouble:
            outcome.failed = True

    # The target

    async def _target(self, hpa: v2.HorizontalPodAutoscaler, outcome: counts.Outcome) -> _Target:
        reference = hpa.spec.scale_target_ref
        where = f"{reference.kind}/{hpa.metadata.namespace}/{reference.name}"
        version = reference.api_version or ""
        if version.count("/") > 1:
            text = f"unexpected GroupVersion string: {version}"
            outcome.spec = True
            raise self._unable(hpa, text, f"invalid API version in scale target reference: {text}")
        row = await self._row(version.rpartition("/")[0], reference.kind)
        if row is None:
            text = f'no matches for kind "{reference.kind}" in group "{version.rpartition("/")[0]}"'
            raise self._unable(hpa, text, f"unable to determine resource for scale target reference: {text}")
        try:
            scale = await self._client.get_subresource(
                row, reference.name, hpa.metadata.namespace, "scale", autoscaling_v1.Scale
            )
        except StatusError as error:
            raise self._unable(hpa, str(error), f"failed to query scale subresource for {where}: {error}") from error
        message = "the HPA controller was able to get the target's current scale"
        _set(hpa, Condition(ABLE, True, "SucceededGetScale", message))
        return _Target(row, scale)

    def _unable(self, hpa: v2.HorizontalPodAutoscaler, text: str, whole: str) -> ReconcileError:
        self._recorder.event(hpa, WARNING, "FailedGetScale", text)
        _set(hpa, Condition(ABLE, False, "FailedGetScale", f"{_NO_SCALE}: {text}"))
        return ReconcileError(whole)

    async def _row(self, group: str, kind: str) -> Resource | None:
        """The resource of a kind, in whatever version; other servers are asked only if it is none of ours."""
        found = next((r for r in self._resources.all() if (r.group, r.kind) == (group, kind)), None)
        if found is None:
            discovered = (await self._resources.aggregated.discover()).resources
            found = next((r for r in discovered if (r.group, r.kind) == (group, kind)), None)
        return found

    async def _rescale(
        self, hpa: v2.HorizontalPodAutoscaler, target: _Target, size: _Size, measured: list[v2.MetricStatus]
    ) -> None:
        replicas, current = size.replicas, target.wanted
        scale = clone(target.scale)
        scale.spec = autoscaling_v1.ScaleSpec(replicas=replicas)
        name, namespace = hpa.spec.scale_target_ref.name, hpa.metadata.namespace
        try:
            await self._client.put(target.resource, name, namespace, "scale", scale)
        except StatusError as error:
            text = f"New size: {replicas}; reason: {size.reason}; error: {error}"
            self._recorder.event(hpa, WARNING, "FailedRescale", text)
            message = f"the HPA controller was unable to update the target scale: {error}"
            _set(hpa, Condition(ABLE, False, "FailedUpdateScale", message))
            self._measured(hpa, current, measured)
            where = f"{hpa.spec.scale_target_ref.kind}/{namespace}/{name}"
            raise ReconcileError(f"failed to rescale {where}: {error}") from error
        message = f"the HPA controller was able to update the target scale to {replicas}"
        _set(hpa, Condition(ABLE, True, "SucceededRescale", message))
        self._recorder.event(hpa, NORMAL, "SuccessfulRescale", f"New size: {replicas}; reason: {size.reason}")
        if current > 0 and replicas == 0:
            message = "the HPA controller scaled the workload to zero"
            _set(hpa, Condition(SCALED_TO_ZERO, True, "ScaledToZero", message))
        else:
            message = "the HPA controller did not scale the workload to zero"
            _set(hpa, Condition(SCALED_TO_ZERO, False, "NotScaledToZero", message))

    # The size

    async def _size(
        self, key: str, hpa: v2.HorizontalPodAutoscaler, target: _Target, measured: list[v2.MetricStatus]
    ) -> _Size:
        current, least, most = target.wanted, _least(hpa), hpa.spec.max_replicas
        asleep = current == 0 and _may_wake(hpa)
        if current == 0 and not asleep:
            message = "scaling is disabled since the replica count of the target is zero"
            _set(hpa, Condition(ACTIVE, False, "ScalingDisabled", message))
            return _Size(0)
        if current > most:
            return _Size(most, "Current number of replicas above Spec.MaxReplicas")
        if current < least and not asleep:
            return _Size(least, "Current number of replicas below Spec.MinReplicas")
        try:
            best, trouble = await self._proposals(key, hpa, target, measured)
        except ReconcileError as error:
            self._recorder.event(hpa, WARNING, "FailedComputeMetricsReplicas", str(error))
            where = f"{hpa.spec.scale_target_ref.kind}/{key}"
            text = f"failed to compute desired number of replicas based on listed metrics for {where}: {error}"
            raise ReconcileError(text) from error
        reason = "All metrics below target"
        if best.replicas > current:
            reason = f"{best.metric} above target"
        bounds = Bounds(current, best.replicas, least, most)
        normalized = rules.normalize(
            self._memories[key], hpa.spec.behavior, bounds, clock.now(), self._config.autoscaler_downscale_stabilization
        )
        for condition in normalized.conditions:
            _set(hpa, condition)
        replicas = max(normalized.replicas, least) if asleep else normalized.replicas
        return _Size(replicas, reason, trouble)

    async def _proposals(
        self, key: str, hpa: v2.HorizontalPodAutoscaler, target: _Target, measured: list[v2.MetricStatus]
    ) -> tuple[Proposed, str]:
        """The greatest proposal, and what is wrong with other metrics: a metric that fails only ever keeps replicas."""
        look = self._look(key, hpa, target)
        specs = hpa.spec.metrics or []
        best: Proposed | None = None
        failures: list[Failed] = []
        for spec in specs:
            try:
                proposed = await self._proposal(spec, look)
            except Failed as failure:
                self._recorder.event(hpa, WARNING, failure.reason, failure.cause)
                failures.append(failure)
                measured.append(v2.MetricStatus(type=""))
                continue
            measured.append(proposed.status)
            if best is None or proposed.replicas > best.replicas:
                best = proposed
        trouble = ""
        if failures:
            trouble = f"invalid metrics ({len(failures)} invalid out of {len(specs)}), first error is: {failures[0]}"
        if best is None or (failures and best.replicas < target.wanted):
            if failures:
                message = f"the HPA was unable to compute the replica count: {failures[0].cause}"
                _set(hpa, Condition(ACTIVE, False, failures[0].reason, message))
            raise ReconcileError(trouble)
        message = f"the HPA was able to successfully calculate a replica count from {best.metric}"
        _set(hpa, Condition(ACTIVE, True, "ValidMetricFound", message))
        return best, trouble

    async def _proposal(self, spec: v2.MetricSpec, look: Look) -> Proposed:
        with counts.computing(spec.type) as outcome:
            try:
                proposed = await propose(self._sources, spec, look)
            except Failed as failure:
                outcome.spec = failure.spec
                raise
            outcome.towards(look.wanted, proposed.replicas)
            return proposed

    def _look(self, key: str, hpa: v2.HorizontalPodAutoscaler, target: _Target) -> Look:
        """Raises ReconcileError unless the target says which pods it has, and they are its alone."""
        if not target.selector:
            self._recorder.event(hpa, WARNING, "SelectorRequired", "selector is required")
            _set(hpa, Condition(ACTIVE, False, "InvalidSelector", "the HPA target's scale is missing a selector"))
            raise ReconcileError("selector is required")
        try:
            selector = selectors.parse(target.selector)
        except selectors.SelectorError as error:
            raise self._refused(
                hpa,
                "InvalidSelector",
                f"couldn't convert selector into a corresponding internal selector object: {error}",
            ) from error
        namespace = hpa.metadata.namespace or ""
        self._selectors[key] = selector
        pods = [p for p in self._pods.list(namespace) if selector.matches(p.metadata.labels)]
        scalers = self._scalers(namespace, pods)
        if len(scalers) > 1:
            text = f"pods by selector {target.selector} are controlled by multiple HPAs: [{' '.join(scalers)}]"
            raise self._refused(hpa, "AmbiguousSelector", text)
        config = self._config
        down, up = rules.tolerances(hpa.spec.behavior, config.autoscaler_tolerance)
        limits = Limits(down, up, config.autoscaler_cpu_initialization, config.autoscaler_readiness_delay)
        return Look(namespace, target.selector, pods, target.wanted, target.present, limits)

    def _refused(self, hpa: v2.HorizontalPodAutoscaler, reason: str, text: str) -> ReconcileError:
        self._recorder.event(hpa, WARNING, reason, text)
        _set(hpa, Condition(ACTIVE, False, reason, text))
        return ReconcileError(text)

    def _scalers(self, namespace: str, pods: list[core_v1.Pod]) -> list[str]:
        """The autoscalers that scale any of the pods."""
        mine = [(k, s) for k, s in self._selectors.items() if s is not None and k.startswith(f"{namespace}/")]
        return sorted(k for k, s in mine if any(s.matches(p.metadata.labels) for p in pods))

    # The status

    @staticmethod
    def _measured(hpa: v2.HorizontalPodAutoscaler, current: int, measured: list[v2.MetricStatus]) -> None:
        hpa.status.current_replicas = current
        hpa.status.current_metrics = measured or None

    async def _write_status(self, hpa: v2.HorizontalPodAutoscaler, cached: v2.HorizontalPodAutoscaler) -> None:
        if hpa.status == cached.status:
            return
        try:
            await self._client.update_status(hpa)
        except StatusError as error:
            self._recorder.event(hpa, WARNING, "FailedUpdateStatus", str(error))
            raise


def _least(hpa: v2.HorizontalPodAutoscaler) -> int:
    return 1 if hpa.spec.min_replicas is None else hpa.spec.min_replicas


def _may_wake(hpa: v2.HorizontalPodAutoscaler) -> bool:
    """Whether it was an autoscaler that went to zero, and a metric needs no pods: a person's zero is a pause."""
    scaled = any(c.type == SCALED_TO_ZERO and c.status == "True" for c in hpa.status.conditions or ())
    return scaled and any(m.type in ("Object", "External") for m in hpa.spec.metrics or ())


def _set(hpa: v2.HorizontalPodAutoscaler, condition: Condition) -> None:
    status = "True" if condition.status else "False"
    conditions = hpa.status.conditions = list(hpa.status.conditions or ())
    made = v2.HorizontalPodAutoscalerCondition(
        type=condition.type,
        status=status,
        reason=condition.reason,
        message=condition.message,
        last_transition_time=times.format(clock.now()),
    )
    for index, old in enumerate(conditions):
        if old.type == condition.type:
            if old.status == status:
                made.last_transition_time = old.last_transition_time
            conditions[index] = made
            return
    conditions.append(made)
