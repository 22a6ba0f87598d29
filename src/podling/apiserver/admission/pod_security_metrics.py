"""Metrics of Pod Security's plugin, under upstream's names."""

from __future__ import annotations

from podling.apiserver.admission.attributes import Attributes
from podling.apiserver.version import version_info
from podling.machinery.pod_security.policy import PRIVILEGED, LevelVersion
from podling.metrics import PROCESS

EVALUATIONS = PROCESS.counter(
    "pod_security_evaluations_total",
    "[ALPHA] Number of policy evaluations that occurred, not counting ignored or exempt requests.",
    ("decision", "mode", "policy_level", "policy_version", "request_operation", "resource", "subresource"),
)
EXEMPTIONS = PROCESS.counter(
    "pod_security_exemptions_total",
    "[ALPHA] Number of exempt requests, not counting ignored or out of scope requests.",
    ("request_operation", "resource", "subresource"),
)
ERRORS = PROCESS.counter(
    "pod_security_errors_total",
    "[ALPHA] Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted "
    "profile being used for evaluation.",
    ("fatal", "request_operation", "resource", "subresource"),
)

_MINOR = int(version_info().minor)


class Counts:
    """Counts for one request."""

    def __init__(self, attributes: Attributes) -> None:
        resource = {"pods": "pod", "namespaces": "namespace"}.get(attributes.qualified, "controller")
        self._labels = attributes.operation.lower(), resource, attributes.subresource

    def evaluated(self, mode: str, level: LevelVersion, *, allowed: bool) -> None:
        """A level was applied."""
        version = "latest"
        if level.minor is not None and level.level != PRIVILEGED:
            version = f"v1.{level.minor}" if level.minor <= _MINOR else "future"
        EVALUATIONS.add("allow" if allowed else "deny", mode, level.level, version, *self._labels)

    def exempt(self) -> None:
        """The request is not held to any level."""
        EXEMPTIONS.add(*self._labels)

    def failed(self, *, fatal: bool) -> None:
        """The namespace or its labels can't be read."""
        ERRORS.add("true" if fatal else "false", *self._labels)
