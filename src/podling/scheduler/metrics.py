"""scheduler_*: what the scheduler did, under upstream's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podling import clock
from podling.metrics import PROCESS, Series, exponential

#: Results of an attempt.
SCHEDULED, UNSCHEDULABLE, ERROR = "scheduled", "unschedulable", "error"

ATTEMPTS = PROCESS.counter(
    "scheduler_schedule_attempts_total",
    "[STABLE] Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, "
    "while 'error' means an internal scheduler problem.",
    ("profile", "result"),
)
DURATIONS = PROCESS.histogram(
    "scheduler_scheduling_attempt_duration_seconds",
    "[STABLE] Scheduling attempt latency in seconds (scheduling algorithm + binding)",
    ("profile", "result"),
    exponential(0.001, 2, 15),
)
POD_ATTEMPTS = PROCESS.histogram(
    "scheduler_pod_scheduling_attempts",
    "[STABLE] Number of attempts to successfully schedule a pod.",
    (),
    exponential(1, 2, 5),
)
PREEMPTIONS = PROCESS.counter(
    "scheduler_preemption_attempts_total", "[STABLE] Total preemption attempts in the cluster till now"
)
VICTIMS = PROCESS.histogram(
    "scheduler_preemption_victims", "[STABLE] Number of selected preemption victims", (), exponential(1, 2, 7)
)
ALGORITHM = PROCESS.histogram(
    "scheduler_scheduling_algorithm_duration_seconds",
    "[ALPHA] Scheduling algorithm latency in seconds",
    (),
    exponential(0.001, 2, 15),
).of()
SLI_DURATIONS = PROCESS.histogram(
    "scheduler_pod_scheduling_sli_duration_seconds",
    "[BETA] E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve "
    "multiple scheduling attempts.",
    ("attempts",),
    exponential(0.01, 2, 20),
)
EXTENSION_POINTS = PROCESS.histogram(
    "scheduler_framework_extension_point_duration_seconds",
    "[STABLE] Latency for running all plugins of a specific extension point.",
    ("extension_point", "profile", "status"),
    exponential(0.0001, 2, 12),
)
INCOMING = PROCESS.counter(
    "scheduler_queue_incoming_pods_total",
    "[STABLE] Number of pods added to scheduling queues by event and queue type.",
    ("event", "queue"),
)

#: Statuses of an extension point.
SUCCESS, UNSCHEDULABLE_STATUS, ERROR_STATUS = "Success", "Unschedulable", "Error"


class Points:
    """The extension points of a profile, each timed from the end of the one before it."""

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self._known: dict[tuple[str, str], Series] = {}
        self._at = 0.0

    def begin(self) -> None:
        self._at = clock.real_seconds()

    def done(self, point: str, status: str = SUCCESS) -> None:
        """All plugins of a point have run."""
        before, self._at = self._at, clock.real_seconds()
        self.took(point, self._at - before, status)

    def took(self, point: str, seconds: float, status: str = SUCCESS) -> None:
        series = self._known.get((point, status))
        if series is None:
            series = self._known[point, status] = EXTENSION_POINTS.of(point, self._profile, status)
        series.observe(seconds)


def scheduled(attempts: int, seconds: float) -> None:
    """A pod has a node, after so many attempts and so many seconds in queues."""
    POD_ATTEMPTS.of().observe(attempts)
    SLI_DURATIONS.of(str(attempts) if attempts < 15 else "15+").observe(seconds)


def attempted(profile: str, result: str, seconds: float) -> None:
    """A pod was tried, and the try has ended."""
    ATTEMPTS.add(profile, result)
    DURATIONS.observe((profile, result), seconds)


def show_pending(read: Callable[[], Mapping[str, int]]) -> None:
    """`read` gives the number of pods that wait, by the queue in which they do."""
    PROCESS.gauge(
        "scheduler_pending_pods",
        "[STABLE] Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means "
        "number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the scheduler "
        "attempted to schedule and failed; 'gated' is the number of unschedulable pods that the scheduler never "
        "attempted to schedule because they are gated.",
        ("queue",),
        lambda: {(queue,): float(number) for queue, number in read().items()},
    )


def show_refused(profile: str, read: Callable[[], Mapping[str, int]]) -> None:
    """`read` gives the number of pods that each plugin keeps from all nodes."""
    PROCESS.gauge(
        "scheduler_unschedulable_pods",
        "[ALPHA] The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all "
        "plugins that caused it to not schedule and so this metric have meaning only when broken down by plugin.",
        ("plugin", "profile"),
        lambda: {(plugin, profile): float(number) for plugin, number in read().items()},
    )
