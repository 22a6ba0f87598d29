"""What the API server counts of its requests and watches, under upstream's names (see `podling.metrics`).

All requests that are alike share a `Kind`, which holds their cells: a request costs one look-up and a few additions.
Only what is really served is counted, so that nobody can make labels up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from podling.apiserver.request_info import RequestInfo
from podling.metrics import PROCESS, Cell, Series, exponential

if TYPE_CHECKING:
    from podling.api.registry import Resource
    from podling.apiserver.entry import Change, Entry
    from podling.apiserver.present import Framer
    from podling.apiserver.served import Served

_DURATIONS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
)  # fmt: skip
_SLOS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
_LABELS = ("component", "group", "resource", "scope", "subresource", "verb", "version")

REQUESTS = PROCESS.counter(
    "apiserver_request_total",
    "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
    "component, and HTTP response code.",
    ("code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"),
)
DURATIONS = PROCESS.histogram(
    "apiserver_request_duration_seconds",
    "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, "
    "subresource, scope and component.",
    ("component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"),
    _DURATIONS,
)
SLI_DURATIONS = PROCESS.histogram(
    "apiserver_request_sli_duration_seconds",
    "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in "
    "seconds for each verb, group, version, resource, subresource, scope and component.",
    _LABELS,
    _SLOS,
)
SIZES = PROCESS.histogram(
    "apiserver_response_sizes",
    "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and "
    "component.",
    _LABELS,
    exponential(1000, 10, 7),
)
LONG_RUNNING = PROCESS.gauge(
    "apiserver_longrunning_requests",
    "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope "
    "and component. Not all requests are tracked this way.",
    _LABELS,
)
TERMINATIONS = PROCESS.counter(
    "apiserver_request_terminations_total",
    "[ALPHA] Number of requests which apiserver terminated in self-defense.",
    ("code", *_LABELS),
)
ABORTS = PROCESS.counter(
    "apiserver_request_aborts_total",
    "[ALPHA] Number of requests which apiserver aborted possibly due to a timeout, for each group, version, verb, "
    "resource, subresource and scope",
    ("group", "resource", "scope", "subresource", "verb", "version"),
)
DEPRECATED = PROCESS.gauge(
    "apiserver_requested_deprecated_apis",
    "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, "
    "subresource, and removed_release.",
    ("group", "removed_release", "resource", "subresource", "version"),
)
WATCH_EVENTS = PROCESS.counter(
    "apiserver_watch_events_total", "[BETA] Number of events sent in watch clients", ("group", "resource", "version")
)
WATCH_SIZES = PROCESS.histogram(
    "apiserver_watch_events_sizes",
    "[BETA] Watch event size distribution in bytes",
    ("group", "resource", "version"),
    exponential(1024, 2, 8),
)
WATCH_LISTS = PROCESS.histogram(
    "apiserver_watch_list_duration_seconds",
    "[BETA] Response latency distribution in seconds for watch list requests broken by group, version, resource and "
    "scope.",
    ("group", "resource", "scope", "version"),
    (*_SLOS, 90, 120, 180, 300),
)

_REMOVED = re.compile(r"unavailable in v(\d+\.\d+)\+")

_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION", "proxy": "PROXY",
}  # fmt: skip
_METHODS = {"get": "GET", "head": "GET", "post": "POST", "put": "PUT", "patch": "PATCH", "delete": "DELETE"}
#: Subresources whose requests are counted as CONNECT.
_CONNECT = frozenset(("attach", "exec", "log", "portforward", "proxy"))
_HEALTH = frozenset(("/healthz", "/livez", "/readyz"))


class Kind:
    """All requests with the same labels."""

    __slots__ = ("_aborts", "_answers", "_durations", "_labels", "_sizes", "_slis", "long_running", "scope")

    def __init__(
        self, verb: str, group: str, version: str, resource: str, subresource: str, scope: str, dry_run: str
    ) -> None:
        rest = group, resource, scope, subresource, verb, version
        self.scope = scope
        self._labels = "apiserver", dry_run, *rest
        self._answers: dict[int, Cell] = {}
        self._durations = DURATIONS.of(*self._labels)
        self._slis: Series | None = SLI_DURATIONS.of("apiserver", *rest) if not dry_run else None
        self._sizes: Series | None = SIZES.of("apiserver", *rest) if verb in ("GET", "LIST") else None
        self._aborts = rest
        self.long_running: Cell | None = (
            LONG_RUNNING.of("apiserver", *rest) if verb in ("WATCH", "CONNECT", "PROXY") else None
        )

    def answered(self, status: int, seconds: float, size: int, waited: float = 0.0) -> None:
        """`size` is that of the body in bytes; `waited` are the seconds that webhooks and queues took."""
        answers = self._answers.get(status)
        if answers is None:
            answers = self._answers[status] = REQUESTS.of(str(status), *self._labels)
        answers.value += 1
        self._durations.observe(seconds)
        if self._slis is not None:
            self._slis.observe(seconds - waited)
        if self._sizes is not None:
            self._sizes.observe(size)

    def listed(self, seconds: float) -> None:
        """The initial events of a watch have been sent."""
        _, _, group, resource, scope, _, _, version = self._labels
        WATCH_LISTS.of(group, resource, scope, version).observe(seconds)

    def terminated(self, status: int) -> None:
        """The server refused or gave up."""
        TERMINATIONS.add(str(status), "apiserver", *self._aborts)

    def aborted(self) -> None:
        ABORTS.add(*self._aborts)


_kinds: dict[tuple[str | bool, ...], Kind] = {}


def kind_of(
    served: Mapping[tuple[str, str, str], Served], info: RequestInfo, query: Mapping[str, str], apply: bool = False
) -> Kind | None:
    """The kind of a request; None if it is for something that is not served. `apply` marks a server-side apply."""
    dry_run = ""
    if query and (dry_run := query.get("dryRun", "")) and dry_run != "All":
        dry_run = "invalid"
    if not info.resource:
        path = info.path.rstrip("/")
        key: tuple[str | bool, ...] = info.verb, path if path in _HEALTH else "", dry_run
    else:
        key = (
            info.verb, info.group, info.version, info.resource, info.subresource, info.name != "",
            info.namespace != "", dry_run, apply,
        )  # fmt: skip
    kind = _kinds.get(key)
    if kind is not None:
        return kind
    if not info.resource:
        kind = Kind(_METHODS.get(info.verb, "other"), "", "", "", str(key[1]), "", dry_run)
    else:
        item = served.get((info.group, info.version, info.resource))
        if item is None or (info.subresource and info.subresource not in item.resource.subresources):
            return None
        verb = "CONNECT" if info.subresource in _CONNECT else "APPLY" if apply else _VERBS.get(info.verb, "other")
        kind = Kind(verb, info.group, info.version, info.resource, info.subresource, scope_of(info), dry_run)
    if info.verb in _VERBS or info.verb in _METHODS:
        _kinds[key] = kind
    return kind


def deprecated(info: RequestInfo, warning: str) -> None:
    """A version was asked for that is deprecated; `warning` may tell in which release it goes."""
    DEPRECATED.set(1, info.group, removed_in(warning), info.resource, info.subresource, info.version)


def removed_in(warning: str) -> str:
    """In which release a version goes, by the warning of it; "" if that is not known."""
    found = _REMOVED.search(warning)
    return found[1] if found else ""


def counting(resource: Resource, frame: Framer) -> Framer:
    """Counts what `frame` makes of the events that are sent to a watcher of a resource, and its size in bytes."""
    labels = resource.group, resource.name, resource.version
    sent, sizes = WATCH_EVENTS.of(*labels), WATCH_SIZES.of(*labels)

    def counted(type_: str, entry: Entry, change: Change | None) -> bytes:
        data = frame(type_, entry, change)
        sent.value += 1
        sizes.observe(len(data))
        return data

    return counted


def scope_of(info: RequestInfo) -> str:
    """The label `scope`."""
    if info.name or info.verb == "create":
        return "resource"
    return "namespace" if info.namespace else "cluster" if info.resource else ""
