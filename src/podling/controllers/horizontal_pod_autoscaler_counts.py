"""horizontal_pod_autoscaler_controller_*: what autoscalers did, under upstream's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from podling import clock
from podling.metrics import PROCESS, Counter, Histogram, exponential

_PREFIX = "horizontal_pod_autoscaler_controller_"
_LABELS = ("action", "error")
_ACTION_AND_ERROR = (
    "The label 'action' should be either 'scale_down', 'scale_up', or 'none'. Also, the label 'error' should be either "
    "'spec', 'internal', or 'none'. Note that if both spec and internal errors happen during a reconciliation, the "
    "first one to occur is reported in `error` label."
)

RECONCILIATIONS = PROCESS.counter(
    f"{_PREFIX}reconciliations_total",
    f"[ALPHA] Number of reconciliations of HPA controller. {_ACTION_AND_ERROR}",
    _LABELS,
)
DURATIONS = PROCESS.histogram(
    f"{_PREFIX}reconciliation_duration_seconds",
    f"[ALPHA] The time(seconds) that the HPA controller takes to reconcile once. {_ACTION_AND_ERROR}",
    _LABELS,
    exponential(0.001, 2, 15),
)
COMPUTATIONS = PROCESS.counter(
    f"{_PREFIX}metric_computation_total",
    "[ALPHA] Number of metric computations. The label 'action' should be either 'scale_down', 'scale_up', or 'none'. "
    "Also, the label 'error' should be either 'spec', 'internal', or 'none'. The label 'metric_type' corresponds to "
    "HPA.spec.metrics[*].type",
    (*_LABELS, "metric_type"),
)
COMPUTATION_DURATIONS = PROCESS.histogram(
    f"{_PREFIX}metric_computation_duration_seconds",
    "[ALPHA] The time(seconds) that the HPA controller takes to calculate one metric. The label 'action' should be "
    "either 'scale_down', 'scale_up', or 'none'. The label 'error' should be either 'spec', 'internal', or 'none'. The "
    "label 'metric_type' corresponds to HPA.spec.metrics[*].type",
    (*_LABELS, "metric_type"),
    exponential(0.001, 2, 15),
)


class Outcome:
    """What one look came to; `spec` whether it is the autoscaler's own text that is wrong."""

    action = "none"
    spec = False
    #: Something failed, though the look was finished.
    failed = False

    def towards(self, current: int, wanted: int) -> None:
        self.action = "scale_up" if wanted > current else "scale_down" if wanted < current else "none"


def show(autoscalers: Callable[[], float]) -> None:
    """`autoscalers` gives their number when a scraper asks."""
    help_ = "[ALPHA] Current number of controlled HPA objects"
    PROCESS.gauge(f"{_PREFIX}num_horizontal_pod_autoscalers", help_, (), lambda: {(): autoscalers()})


@contextmanager
def reconciling() -> Iterator[Outcome]:
    with _counting(RECONCILIATIONS, DURATIONS, ()) as outcome:
        yield outcome


@contextmanager
def computing(metric_type: str) -> Iterator[Outcome]:
    with _counting(COMPUTATIONS, COMPUTATION_DURATIONS, (metric_type,)) as outcome:
        yield outcome


@contextmanager
def _counting(total: Counter, durations: Histogram, more: tuple[str, ...]) -> Iterator[Outcome]:
    outcome, began, failed = Outcome(), clock.real_seconds(), True
    try:
        yield outcome
        failed = outcome.failed
    finally:
        labels = outcome.action, ("spec" if outcome.spec else "internal") if failed else "none", *more
        total.add(*labels)
        durations.observe(labels, clock.real_seconds() - began)
