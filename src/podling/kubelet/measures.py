"""kubelet_*: what one node agent counts, under upstream's names.

A registry of its own for each agent, since several may live in a process. Where upstream polls its runtime and counts
that (pleg_*), there is nothing here: the runtime tells by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from podling import clock, process_metrics
from podling.api import core_v1, times
from podling.kubelet.pods import AnyContainer
from podling.metrics import DEFAULT_BUCKETS, Labels, Registry, exponential

_STARTS = (
    0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
)  # fmt: skip
_PULLS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_STATUSES = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60)
#: The label of images up to so many MiB.
_SIZES = (
    (10, "0-10MB"), (100, "10MB-100MB"), (500, "100MB-500MB"), (1024, "500MB-1GB"), (5120, "1GB-5GB"),
    (10240, "5GB-10GB"), (20480, "10GB-20GB"), (30720, "20GB-30GB"), (40960, "30GB-40GB"), (61440, "40GB-60GB"),
    (102400, "60GB-100GB"),
)  # fmt: skip


class Measures:
    """The families; `registry` shows them."""

    def __init__(self) -> None:
        registry = self.registry = Registry()
        process_metrics.register(registry)

        def counter(name: str, help_: str, *labels: str) -> None:
            registry.counter(f"kubelet_{name}", f"[ALPHA] {help_}", labels)

        def histogram(name: str, help_: str, labels: Labels = (), buckets: tuple[float, ...] = DEFAULT_BUCKETS) -> None:
            registry.histogram(f"kubelet_{name}", f"[ALPHA] {help_}", labels, buckets)

        by_operation = ("operation_type",)
        counter("runtime_operations_total", "Cumulative number of runtime operations by operation type.", *by_operation)
        counter(
            "runtime_operations_errors_total", "Cumulative number of runtime operation errors by operation type.",
            *by_operation,
        )  # fmt: skip
        histogram(
            "runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            by_operation,
            exponential(0.005, 2.5, 14),
        )
        histogram(
            "run_podsandbox_duration_seconds",
            "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
            ("runtime_handler",),
        )
        counter(
            "run_podsandbox_errors_total",
            "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
            "runtime_handler",
        )
        counter("started_pods_total", "Cumulative number of pods started")
        counter("started_pods_errors_total", "Cumulative number of errors when starting pods")
        counter("started_containers_total", "Cumulative number of containers started", "container_type")
        counter(
            "started_containers_errors_total", "Cumulative number of errors when starting containers", "code",
            "container_type",
        )  # fmt: skip
        histogram("containers_per_pod_count", "The number of containers per pod.", (), exponential(1, 2, 5))
        histogram(
            "pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            by_operation,
        )
        histogram(
            "pod_worker_start_duration_seconds", "Duration in seconds from kubelet seeing a pod to starting a worker."
        )
        histogram(
            "pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            (),
            _STARTS,
        )
        started = "measured from pod creation timestamp to when all its containers are reported as started and observed"
        histogram(
            "pod_start_sli_duration_seconds",
            f"Duration in seconds to start a pod, excluding time to pull images and run init containers, {started} "
            "via watch",
            (),
            _STARTS,
        )
        histogram(
            "pod_start_total_duration_seconds",
            "Duration in seconds to start a pod since creation, including time to pull images and run init containers, "
            f"{started} via watch",
            (),
            _STARTS,
        )
        histogram(
            "pod_status_sync_duration_seconds",
            "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status "
            "until the API is successfully updated for that pod, even if multiple intevening changes to pod status "
            "occur.",
            (),
            _STATUSES,
        )
        counter("evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal")
        histogram(
            "image_pull_duration_seconds", "Duration in seconds to pull an image.", ("image_size_in_bytes",), _PULLS
        )

    def _count(self, name: str, *labels: str) -> None:
        self.registry.families[f"kubelet_{name}"].add(*labels)  # type: ignore[union-attr]

    def _observe(self, name: str, value: float, *labels: str) -> None:
        self.registry.families[f"kubelet_{name}"].of(*labels).observe(value)  # type: ignore[union-attr]

    def operated(self, operation: str, seconds: float, *, good: bool) -> None:
        """The runtime, or the store of images, did something."""
        self._count("runtime_operations_total", operation)
        self._observe("runtime_operations_duration_seconds", seconds, operation)
        if not good:
            self._count("runtime_operations_errors_total", operation)

    def sandbox(self, handler: str, seconds: float, *, good: bool) -> None:
        """A pod's sandbox was made."""
        self._observe("run_podsandbox_duration_seconds", seconds, handler)
        self._count("started_pods_total")
        if not good:
            self._count("run_podsandbox_errors_total", handler)
            self._count("started_pods_errors_total")

    def started(self, pod: core_v1.Pod, container: AnyContainer) -> None:
        """A container is about to be made."""
        self._count("started_containers_total", _type(pod, container))

    def failed(self, pod: core_v1.Pod, container: AnyContainer, code: str) -> None:
        """It could not be started."""
        self._count("started_containers_errors_total", code, _type(pod, container))

    def status_written(self, seconds: float) -> None:
        """A pod's status is known to the API server, so long after it changed."""
        self._observe("pod_status_sync_duration_seconds", seconds)

    def evicted(self, signal: str) -> None:
        self._count("evictions", signal)

    def pulled(self, size: int, seconds: float) -> None:
        """An image of so many bytes was pulled."""
        label = next((text for most, text in _SIZES if size <= most << 20), "GT100GB")
        self._observe("image_pull_duration_seconds", seconds, label)


class Timeline:
    """When what happened to a pod, until all of it runs."""

    def __init__(self, measures: Measures, pod: core_v1.Pod) -> None:
        self._measures = measures
        self._seen = clock.real_seconds()
        self._at = clock.now()
        self._began = False
        self._next = "create"
        #: Seconds for which nothing but images was waited for.
        self._pulling = 0.0
        #: The pod has run before this agent looked: nothing can be said of its start.
        self._running = pod.status is not None and pod.status.phase not in (None, "", "Pending")
        measures._observe("containers_per_pod_count", len(pod.spec.containers))

    @contextmanager
    def syncing(self, *, ending: bool) -> Iterator[None]:
        """In the block the worker does what there is to do."""
        began, operation = clock.real_seconds(), "kill" if ending else self._next
        if not self._began:
            self._began = True
            self._measures._observe("pod_worker_start_duration_seconds", began - self._seen)
        self._next = "sync"
        try:
            yield
        finally:
            self._measures._observe("pod_worker_duration_seconds", clock.real_seconds() - began, operation)

    def pulled(self, seconds: float) -> None:
        """So long an image was waited for."""
        self._pulling += seconds

    def observed(self, pod: core_v1.Pod) -> None:
        """The pod object has changed."""
        if self._next == "sync":
            self._next = "update"
        if self._running or pod.status is None or pod.status.phase != "Running":
            return
        statuses = pod.status.container_statuses or ()
        if len(statuses) < len(pod.spec.containers) or any(s.state is None or s.state.waiting for s in statuses):
            return
        self._running = True
        now = clock.now()
        created = times.parse(pod.metadata.creation_timestamp or times.format(self._at))
        total = (now - created).total_seconds()
        self._measures._observe("pod_start_duration_seconds", (now - self._at).total_seconds())
        self._measures._observe("pod_start_total_duration_seconds", total)
        if not pod.spec.init_containers:
            self._measures._observe("pod_start_sli_duration_seconds", max(0.0, total - self._pulling))


def _type(pod: core_v1.Pod, container: AnyContainer) -> str:
    if any(c.name == container.name for c in pod.spec.init_containers or ()):
        return "init_container"
    if any(c.name == container.name for c in pod.spec.ephemeral_containers or ()):
        return "ephemeral_container"
    return "container"
