"""How many replicas a measured value asks for. Pure: pods and samples in, a number out. Amounts are thousandths.

Pods that start, end or say nothing are counted so that they never turn a decision round: without a sample they use
nothing when the others ask for more, and all that they may when the others ask for less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

import msgspec

from podling.api import core_v1, quantity, times
from podling.controllers.horizontal_pod_autoscaler_rules import INT32


class Uncomputable(Exception):
    """A metric gives no number of replicas; the text is what people read of it."""


class Sample(msgspec.Struct, frozen=True):
    """What a pod used over the `window` seconds before `when`."""

    value: int
    when: datetime
    window: float


class Limits(msgspec.Struct, frozen=True):
    """The ratio may be `down` below and `up` above 1; what a young pod uses says little (seconds)."""

    down: float = 0.1
    up: float = 0.1
    cpu_initialization: float = 300.0
    readiness_delay: float = 30.0

    def within(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Proposal(msgspec.Struct, frozen=True):
    """`value` is the measured value, an average where that is asked for; `percent` it is of what is requested."""

    replicas: int
    value: int
    percent: int | None = None


class Groups(msgspec.Struct):
    """Pods by what their samples are worth: `ready` is a number, the others are names."""

    ready: int = 0
    unready: set[str] = msgspec.field(default_factory=set)
    missing: set[str] = msgspec.field(default_factory=set)
    ignored: set[str] = msgspec.field(default_factory=set)


def group(
    pods: Collection[core_v1.Pod], samples: Mapping[str, Sample], resource: str, limits: Limits, now: datetime
) -> Groups:
    groups = Groups()
    for pod in pods:
        name = pod.metadata.name or ""
        sample = samples.get(name)
        if pod.metadata.deletion_timestamp is not None or pod.status.phase == "Failed":
            groups.ignored.add(name)
        elif pod.status.phase in (None, "", "Pending"):
            groups.unready.add(name)
        elif sample is None:
            groups.missing.add(name)
        elif resource == "cpu" and _starts(pod, sample, limits, now):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _starts(pod: core_v1.Pod, sample: Sample, limits: Limits, now: datetime) -> bool:
    """Whether what the pod uses is only what its start takes."""
    ready = next((c for c in pod.status.conditions or () if c.type == "Ready"), None)
    if ready is None or pod.status.start_time is None or ready.last_transition_time is None:
        return True
    started, turned = times.parse(pod.status.start_time), times.parse(ready.last_transition_time)
    if times.after(started, limits.cpu_initialization) > now:
        return ready.status == "False" or sample.when < times.after(turned, sample.window)
    return ready.status == "False" and times.after(started, limits.readiness_delay) > turned


def by_utilization(
    pods: Collection[core_v1.Pod],
    samples: Mapping[str, Sample],
    target: int,
    current: int,
    resource: str,
    limits: Limits,
    now: datetime,
    container: str = "",
) -> Proposal:
    """`target` in percent of what the pods (or their container of that name) request."""
    groups, values = _sorted(pods, samples, resource, limits, now)
    requests = {pod.metadata.name or "": request(pod, resource, container) for pod in pods}

    def measure() -> tuple[float, int]:
        known = [name for name in values if name in requests]
        wanted = sum(requests[name] for name in known)
        if not wanted:
            raise Uncomputable("no metrics returned matched known pods")
        percent = sum(values[name] for name in known) * 100 // wanted
        return percent / target, percent

    ratio, percent = measure()
    used = sum(v for n, v in values.items() if n in requests) // len([n for n in values if n in requests])
    full = {name: requests[name] * max(100, target) // 100 for name in groups.missing}
    replicas = _decide(groups, values, ratio, full, current, limits, lambda: measure()[0])
    return Proposal(replicas, used, percent)


def by_average(
    pods: Collection[core_v1.Pod],
    samples: Mapping[str, Sample],
    target: int,
    current: int,
    resource: str,
    limits: Limits,
    now: datetime,
) -> Proposal:
    """`target` is what a pod should use, or have of a metric (`resource` ""), on average."""
    groups, values = _sorted(pods, samples, resource, limits, now)

    def measure() -> tuple[float, int]:
        average = sum(values.values()) // len(values)
        return average / target, average

    ratio, average = measure()
    full = dict.fromkeys(groups.missing, target)
    return Proposal(_decide(groups, values, ratio, full, current, limits, lambda: measure()[0]), average)


def _sorted(
    pods: Collection[core_v1.Pod], samples: Mapping[str, Sample], resource: str, limits: Limits, now: datetime
) -> tuple[Groups, dict[str, int]]:
    """The pods' groups, and the values that count."""
    if not pods:
        raise Uncomputable("no pods returned by selector while calculating replica count")
    groups = group(pods, samples, resource, limits, now)
    left_out = groups.ignored | groups.unready
    values = {name: sample.value for name, sample in samples.items() if name not in left_out}
    if not values:
        raise Uncomputable("did not receive metrics for targeted pods (pods might be unready)")
    return groups, values


def _decide(
    groups: Groups,
    values: dict[str, int],
    ratio: float,
    full: Mapping[str, int],
    current: int,
    limits: Limits,
    measure: Callable[[], float],
) -> int:
    """`values` is filled up with what stands for pods without a sample, before it is measured again."""
    grows_unready = bool(groups.unready) and ratio > 1.0
    if not grows_unready and not groups.missing:
        return current if limits.within(ratio) else _whole(ratio * groups.ready)
    if ratio < 1.0:
        values.update(full)
    elif ratio > 1.0:
        values.update(dict.fromkeys(groups.missing, 0))
    if grows_unready:
        values.update(dict.fromkeys(groups.unready, 0))
    again = measure()
    if limits.within(again) or (ratio < 1.0 < again) or (again < 1.0 < ratio):
        return current
    replicas = _whole(again * len(values))
    # Neither may the mere number of pods turn it round.
    if (again < 1.0 and replicas > current) or (again > 1.0 and replicas < current):
        return current
    return replicas


def _whole(replicas: float) -> int:
    return min(math.ceil(replicas), INT32)


def request(pod: core_v1.Pod, resource: str, container: str = "") -> int:
    """What a pod requests of a resource, or one container of it. Raises Uncomputable if any of them says nothing."""
    whole = pod.spec.resources
    if not container and whole is not None and resource in (whole.requests or {}):
        return quantity.parse((whole.requests or {})[resource]).milli()
    sidecars = [c for c in pod.spec.init_containers or () if c.restart_policy == "Always"]
    total = 0
    for one in (*pod.spec.containers, *sidecars):
        if container and one.name != container:
            continue
        amount = ((one.resources.requests if one.resources is not None else None) or {}).get(resource)
        if amount is None:
            name = pod.metadata.name
            raise Uncomputable(f"missing request for {resource} in container {one.name} of Pod {name}")
        total += quantity.parse(amount).milli()
    return total


def by_value(pods: Collection[core_v1.Pod], value: int, target: int, current: int, limits: Limits) -> Proposal:
    """`value` is one for all: of an object, or of something outside. From no pods it goes up by itself."""
    ratio = value / target
    if current == 0:
        return Proposal(_whole(ratio), value)
    if limits.within(ratio):
        return Proposal(current, value)
    if not pods:
        raise Uncomputable(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
        )
    return Proposal(_whole(ratio * sum(1 for pod in pods if _is_ready(pod))), value)


def per_pod(value: int, target: int, replicas: int, limits: Limits) -> Proposal:
    """`value` is one for all, of which each of the `replicas` that there are should have `target`."""
    wanted = replicas
    if replicas == 0 or not limits.within(value / (target * replicas)):
        wanted = _whole(value / target)
    return Proposal(wanted, math.ceil(value / replicas) if replicas else 0)


def _is_ready(pod: core_v1.Pod) -> bool:
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
    return ready and pod.status.phase == "Running"
