"""Metrics of conversions by webhooks, under upstream's names."""

from __future__ import annotations

from podling.metrics import PROCESS, exponential

REQUESTS = PROCESS.counter(
    "apiserver_conversion_webhook_request_total",
    "[ALPHA] Counter for conversion webhook requests with success/failure and failure error type",
    ("failure_type", "result"),
)
DURATIONS = PROCESS.histogram(
    "apiserver_conversion_webhook_duration_seconds",
    "[ALPHA] Conversion webhook request latency",
    ("failure_type", "result"),
    (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 45, 60),
)
DEFINITIONS = PROCESS.histogram(
    "apiserver_crd_conversion_webhook_duration_seconds",
    "[ALPHA] CRD webhook conversion duration in seconds",
    ("crd_name", "from_version", "succeeded", "to_version"),
    exponential(0.001, 2, 15),
)

#: Why a conversion fails.
CALL = "conversion_webhook_call_failure"
MALFORMED = "conversion_webhook_malformed_response_failure"
PARTIAL = "conversion_webhook_partial_response_failure"
INVALID = "conversion_webhook_invalid_converted_object_failure"


def converted(definition: str, old: str, new: str, seconds: float, failure: str = "") -> None:
    """Objects of a definition were converted by its webhook, or should have been."""
    result = "failure" if failure else "success"
    REQUESTS.add(failure, result)
    DURATIONS.observe((failure, result), seconds)
    DEFINITIONS.observe((definition, old, "false" if failure else "true", new), seconds)
