"""Metrics of auditing, under upstream's names; shown from when auditing is on."""

from __future__ import annotations

from collections.abc import Sequence

from podling import log
from podling.apiserver.audit import event as events
from podling.apiserver.audit.event import Event
from podling.metrics import PROCESS

LOG = log.get(__name__)

EVENTS = PROCESS.counter(
    "apiserver_audit_event_total",
    "[ALPHA] Counter of audit events generated and sent to the audit backend.",
    (),
)
ERRORS = PROCESS.counter(
    "apiserver_audit_error_total",
    "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the "
    "error.",
    ("plugin",),
)
LEVELS = PROCESS.counter(
    "apiserver_audit_level_total",
    "[ALPHA] Counter of policy levels for audit events (1 per request).",
    ("level",),
)
REJECTED = PROCESS.counter(
    "apiserver_audit_requests_rejected_total",
    "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend.",
    (),
)


def failed(plugin: str, error: str, impacted: Sequence[Event]) -> None:
    """Events were lost: count them, and leave their main facts in the log."""
    ERRORS.add(plugin, by=len(impacted))
    lines = "".join(f"\n{events.line(e)}" for e in impacted)
    LOG.error("Error in audit plugin '%s' affecting %d audit events: %s%s", plugin, len(impacted), error, lines)
