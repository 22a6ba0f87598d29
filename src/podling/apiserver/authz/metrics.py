"""Metrics of authorization, under upstream's names.

`ATTEMPTS` are the requests that were judged as a whole, `DECISIONS` what each authorizer decided, whoever asked it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from podling import clock
from podling.apiserver.identity import IDENTITY
from podling.metrics import DEFAULT_BUCKETS, PROCESS, Cell, exponential

ATTEMPTS = PROCESS.counter(
    "authorization_attempts_total",
    "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', "
    "'no-opinion' or 'error'.",
    ("result",),
)
DURATIONS = PROCESS.histogram(
    "authorization_duration_seconds",
    "[ALPHA] Authorization duration in seconds broken out by result.",
    ("result",),
    exponential(0.001, 2, 15),
)
DECISIONS = PROCESS.counter(
    "apiserver_authorization_decisions_total",
    "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
    ("decision", "name", "type"),
)
WEBHOOKS = PROCESS.counter(
    "apiserver_authorization_webhook_evaluations_total",
    "[ALPHA] Round-trips to authorization webhooks.",
    ("name", "result"),
)
WEBHOOK_DURATIONS = PROCESS.histogram(
    "apiserver_authorization_webhook_duration_seconds",
    "[ALPHA] Request latency in seconds.",
    ("name", "result"),
    DEFAULT_BUCKETS,
)
FAIL_OPEN = PROCESS.counter(
    "apiserver_authorization_webhook_evaluations_fail_open_total",
    "[ALPHA] NoOpinion results due to webhook timeout or error.",
    ("name", "result"),
)
CONDITION_ERRORS = PROCESS.counter(
    "apiserver_authorization_match_condition_evaluation_errors_total",
    "[ALPHA] Total number of errors when an authorization webhook encounters a match condition error split by "
    "authorizer type and name.",
    ("name", "type"),
)
CONDITION_EXCLUSIONS = PROCESS.counter(
    "apiserver_authorization_match_condition_exclusions_total",
    "[ALPHA] Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
    ("name", "type"),
)
CONDITION_DURATIONS = PROCESS.histogram(
    "apiserver_authorization_match_condition_evaluation_seconds",
    "[ALPHA] Authorization match condition evaluation time in seconds, split by authorizer type and name.",
    ("name", "type"),
    (0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25),
)
RELOADS = PROCESS.counter(
    "apiserver_authorization_config_controller_automatic_reloads_total",
    "[BETA] Total number of automatic reloads of authorization configuration split by status and apiserver identity.",
    ("apiserver_id_hash", "status"),
)
LAST_RELOAD = PROCESS.gauge(
    "apiserver_authorization_config_controller_automatic_reload_last_timestamp_seconds",
    "[BETA] Timestamp of the last automatic reload of authorization configuration split by status and apiserver "
    "identity.",
    ("apiserver_id_hash", "status"),
)

ALLOWED, DENIED, NO_OPINION, ERROR = "allowed", "denied", "no-opinion", "error"
_RESULTS = {r: (ATTEMPTS.of(r), DURATIONS.of(r)) for r in (ALLOWED, DENIED, NO_OPINION, ERROR)}


def attempted(allowed: bool, denied: bool, error: str, seconds: float) -> None:
    """A request was judged."""
    result = ALLOWED if allowed else ERROR if error else DENIED if denied else NO_OPINION
    attempts, durations = _RESULTS[result]
    attempts.value += 1
    durations.observe(seconds)


def allowing(type_: str, name: str = "") -> Cell:
    """How often an authorizer has allowed something, to be counted up by it."""
    return DECISIONS.of(ALLOWED, name or type_.lower(), type_)


def denying(type_: str, name: str = "") -> Cell:
    """How often it has denied something for good."""
    return DECISIONS.of(DENIED, name or type_.lower(), type_)


def asked(name: str, result: str, seconds: float, *, open_: bool) -> None:
    """A webhook was asked: `success`, `error` or `timeout`. `open_`: others decide, since it has not."""
    WEBHOOKS.add(name, result)
    WEBHOOK_DURATIONS.observe((name, result), seconds)
    if open_:
        FAIL_OPEN.add(name, result)


@contextmanager
def matching(name: str) -> Iterator[None]:
    """In the block the match conditions of a webhook are evaluated; what it raises is an error of theirs."""
    began = clock.real_seconds()
    try:
        yield
    except Exception:
        CONDITION_ERRORS.add(name, "Webhook")
        raise
    finally:
        CONDITION_DURATIONS.observe((name, "Webhook"), clock.real_seconds() - began)


def reloaded(*, good: bool) -> None:
    """The AuthorizationConfiguration was read again."""
    status = "success" if good else "failure"
    RELOADS.add(IDENTITY, status)
    LAST_RELOAD.set(clock.now().timestamp(), IDENTITY, status)
