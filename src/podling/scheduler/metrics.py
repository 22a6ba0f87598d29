"""scheduler_*: what the scheduler did, under upstream's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podling.metrics import PROCESS, exponential

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
