"""/metrics: counters and histograms under upstream's names, in Prometheus' text format.

A registry of our own, since a request must cost next to nothing here: labels are tuples, values floats in a dict.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from podling.apiserver.request_info import RequestInfo

_DURATIONS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
)  # fmt: skip


class Counter:
    """A number per set of labels, that only grows."""

    kind = "counter"

    def __init__(self, name: str, help_: str, labels: tuple[str, ...]) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + by

    def lines(self) -> Iterable[str]:
        for labels, value in self.values.items():
            yield f"{self.name}{_labels(self.labels, labels)} {value:g}"


class Gauge(Counter):
    """A number per set of labels; `read` gives them when asked, instead of their being kept."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help_: str,
        labels: tuple[str, ...],
        read: Callable[[], dict[tuple[str, ...], float]] | None = None,
    ) -> None:
        super().__init__(name, help_, labels)
        self._read = read

    def lines(self) -> Iterable[str]:
        if self._read is not None:
            self.values = self._read()
        return super().lines()


class Histogram:
    """How often an observed number was in which bucket, per set of labels."""

    kind = "histogram"

    def __init__(self, name: str, help_: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self.buckets = buckets
        self.values: dict[tuple[str, ...], list[float]] = {}

    def observe(self, labels: tuple[str, ...], value: float) -> None:
        row = self.values.get(labels)
        if row is None:
            # A count for each bucket and for what is above them all, then the sum.
            row = self.values[labels] = [0.0] * (len(self.buckets) + 2)
        row[bisect_left(self.buckets, value)] += 1
        row[-1] += value

    def lines(self) -> Iterable[str]:
        for labels, row in self.values.items():
            total = 0.0
            for bound, count in zip((*self.buckets, float("inf")), row, strict=False):
                total += count
                shown = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f"{self.name}_bucket{_labels((*self.labels, 'le'), (*labels, shown))} {total:g}"
            yield f"{self.name}_sum{_labels(self.labels, labels)} {row[-1]:.9g}"
            yield f"{self.name}_count{_labels(self.labels, labels)} {total:g}"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    if not names:
        return ""
    escaped = (v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for v in values)
    return "{" + ",".join(f'{n}="{v}"' for n, v in zip(names, escaped, strict=True)) + "}"


REQUESTS = Counter(
    "apiserver_request_total",
    "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
    "component, and HTTP response code.",
    ("code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"),
)
DURATIONS = Histogram(
    "apiserver_request_duration_seconds",
    "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, "
    "subresource, scope and component.",
    ("component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"),
    _DURATIONS,
)
#: In the order in which they are shown; parts of a cluster in this process may add their own.
METRICS: list[Counter | Histogram] = [REQUESTS, DURATIONS]

_VERBS = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH",
    "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}  # fmt: skip
_known: dict[tuple[str, ...], tuple[str, ...]] = {}


def request(method: str, info: RequestInfo | None, status: int, seconds: float) -> None:
    """A request was answered after `seconds`."""
    if info is None:
        return
    scope = (
        "resource" if info.name or info.verb == "create" else "namespace" if info.namespace else "cluster"
        if info.resource else ""
    )  # fmt: skip
    verb = _VERBS.get(info.verb, method)
    labels: tuple[str, ...] = ("apiserver", "", info.group, info.resource, scope, info.subresource, verb, info.version)
    labels = _known.setdefault(labels, labels)
    REQUESTS.add(str(status), *labels)
    if verb != "WATCH":
        DURATIONS.observe(labels, seconds)


def text(metrics: Iterable[Counter | Histogram] = METRICS) -> str:
    """All metrics, as a scraper wants them."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
    return "\n".join(lines) + "\n"
