"""Metrics of admission policies, under upstream's names."""

from __future__ import annotations

from podling.metrics import PROCESS

_SECONDS = (0.0000005, 0.001, 0.01, 0.1, 1.0)
_VALIDATING = ("enforcement_action", "error_type", "policy", "policy_binding")
_MUTATING = ("error_type", "policy", "policy_binding")

VALIDATIONS = PROCESS.counter(
    "apiserver_validating_admission_policy_check_total",
    "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and "
    "enforcement action taken.",
    _VALIDATING,
)
VALIDATION_DURATIONS = PROCESS.histogram(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and "
    "further including binding and enforcement action taken.",
    _VALIDATING,
    _SECONDS,
)
MUTATIONS = PROCESS.counter(
    "apiserver_mutating_admission_policy_check_total",
    "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
    _MUTATING,
)
MUTATION_DURATIONS = PROCESS.histogram(
    "apiserver_mutating_admission_policy_check_duration_seconds",
    "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
    _MUTATING,
    _SECONDS,
)
#: How an expression ended.
NO_ERROR, COMPILE, INVALID, OUT_OF_BUDGET = "no_error", "compile_error", "invalid_error", "out_of_budget"


def validated(action: str, error: str, policy: str, binding: str, seconds: float) -> None:
    """A validation failed, with this effect (allow, audit, deny, warn)."""
    labels = action, error, policy, binding
    VALIDATIONS.add(*labels)
    VALIDATION_DURATIONS.observe(labels, seconds)


def mutated(error: str, policy: str, binding: str, seconds: float) -> None:
    """A mutation was computed."""
    labels = error, policy, binding
    MUTATIONS.add(*labels)
    MUTATION_DURATIONS.observe(labels, seconds)
