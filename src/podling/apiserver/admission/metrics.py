"""Metrics of admission, under upstream's names: plugins, phases, webhooks, match conditions.

A chain keeps the series of the plugins that see one kind of request in a `Phase`: a plugin costs one look at the clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from podling import clock
from podling.metrics import PROCESS

#: Labels: the phases, and what webhooks of the second one are called.
ADMIT, VALIDATE, VALIDATING = "admit", "validate", "validating"
#: Why a webhook makes a request fail.
CALLING, INTERNAL, NO_ERROR = "calling_webhook_error", "apiserver_internal_error", "no_error"

_PREFIX = "apiserver_admission_"
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
_MATCH = ("kind", "name", "operation", "type")

CONTROLLERS = PROCESS.histogram(
    f"{_PREFIX}controller_admission_duration_seconds",
    "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation "
    "and API resource and type (validate or admit).",
    ("name", "operation", "rejected", "type"),
    _SECONDS,
)
STEPS = PROCESS.histogram(
    f"{_PREFIX}step_admission_duration_seconds",
    "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step "
    "type (validate or admit).",
    ("operation", "rejected", "type"),
    _SECONDS,
)
WEBHOOKS = PROCESS.histogram(
    f"{_PREFIX}webhook_admission_duration_seconds",
    "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and "
    "API resource and type (validate or admit).",
    ("name", "operation", "rejected", "type"),
    (*_SECONDS, 10, 25),
)
REQUESTS = PROCESS.counter(
    f"{_PREFIX}webhook_request_total",
    "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or "
    "admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. "
    "Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    ("code", "name", "operation", "rejected", "type"),
)
REJECTIONS = PROCESS.counter(
    f"{_PREFIX}webhook_rejection_count",
    "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating "
    "or admit) and operation. Additional labels specify an error type (calling_webhook_error or "
    "apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if "
    "the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or "
    "equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
    ("error_type", "name", "operation", "rejection_code", "type"),
)
FAIL_OPEN = PROCESS.counter(
    f"{_PREFIX}webhook_fail_open_count",
    "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating "
    "or admit).",
    ("name", "type"),
)
CONDITION_ERRORS = PROCESS.counter(
    f"{_PREFIX}match_condition_evaluation_errors_total",
    "[ALPHA] Admission match condition evaluation errors count, identified by name of resource containing the match "
    "condition and broken out for each kind containing matchConditions (webhook or policy), operation and admission "
    "type (validate or admit).",
    _MATCH,
)
CONDITION_EXCLUSIONS = PROCESS.counter(
    f"{_PREFIX}match_condition_exclusions_total",
    "[ALPHA] Admission match condition evaluation exclusions count, identified by name of resource containing the "
    "match condition and broken out for each kind containing matchConditions (webhook or policy), operation and "
    "admission type (validate or admit).",
    _MATCH,
)
CONDITION_DURATIONS = PROCESS.histogram(
    f"{_PREFIX}match_condition_evaluation_seconds",
    "[ALPHA] Admission match condition evaluation time in seconds, identified by name and broken out for each kind "
    "containing matchConditions (webhook or policy), operation and type (validate or admit).",
    _MATCH,
    (0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25),
)


class Named(Protocol):
    name: str


P = TypeVar("P", bound=Named)


class Phase(Generic[P]):
    """The plugins that see one kind of request in a phase, each with its series, and what the phase counts."""

    def __init__(self, type_: str, operation: str, plugins: Sequence[P]) -> None:
        self._type, self._operation = type_, operation
        self.plugins = [(p, CONTROLLERS.of(p.name, operation, "false", type_)) for p in plugins]
        self.passed = STEPS.of(operation, "false", type_)

    def rejected(self, plugin: str, seconds: float, total: float) -> None:
        """A plugin refused the request, after so many seconds of its own and of the phase."""
        CONTROLLERS.observe((plugin, self._operation, "true", self._type), seconds)
        STEPS.observe((self._operation, "true", self._type), total)


def called(name: str, type_: str, operation: str, seconds: float, code: int, error: str = "") -> None:
    """A webhook was called. `code` is that of its answer, or what failed; `error` is set if the request fails by it."""
    rejected, shown = "true" if error else "false", str(min(code, 600))
    if error:
        REJECTIONS.add(error, name, operation, shown, type_)
    REQUESTS.add(shown, name, operation, rejected, type_)
    WEBHOOKS.observe((name, operation, rejected, type_), seconds)


@contextmanager
def matching(kind: str, name: str, operation: str, type_: str) -> Iterator[None]:
    """In the block the match conditions of a webhook or policy (`kind`) are evaluated."""
    began = clock.real_seconds()
    try:
        yield
    finally:
        CONDITION_DURATIONS.observe((kind, name, operation, type_), clock.real_seconds() - began)
