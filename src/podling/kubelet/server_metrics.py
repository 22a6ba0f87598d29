"""kubelet_http_*: the requests that node agents' servers of this process answer, under upstream's names."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from podling import clock
from podling.metrics import PROCESS

_LABELS = ("long_running", "method", "path", "server_type")

REQUESTS = PROCESS.counter(
    "kubelet_http_requests_total", "[ALPHA] Number of the http requests received since the server started", _LABELS
)
DURATIONS = PROCESS.histogram(
    "kubelet_http_requests_duration_seconds", "[ALPHA] Duration in seconds to serve http requests", _LABELS
)
IN_FLIGHT = PROCESS.gauge("kubelet_http_inflight_requests", "[ALPHA] Number of the inflight http requests", _LABELS)

_LONG_RUNNING = frozenset(("exec", "attach", "portForward"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
#: Paths of which the second part is told, too.
_DEEPER = frozenset(("metrics", "stats"))


@contextmanager
def serving(method: str, parts: list[str], known: Collection[str]) -> Iterator[None]:
    """In the block a request is answered whose path has these parts; `known` are the first ones that are served."""
    path = parts[0] if parts[0] in known else "other"
    if path in _DEEPER:
        path = "/".join(parts[:2])
        path = path if path in _SERVED else "other"
    shown = method if method in _METHODS else "other"
    labels = "true" if path in _LONG_RUNNING else "false", shown, path, "readwrite"
    REQUESTS.add(*labels)
    running = IN_FLIGHT.of(*labels)
    running.value += 1
    began = clock.real_seconds()
    try:
        yield
    finally:
        running.value -= 1
        DURATIONS.observe(labels, clock.real_seconds() - began)


_SERVED = frozenset(("metrics", "metrics/cadvisor", "metrics/probes", "metrics/resource", "stats/summary"))
