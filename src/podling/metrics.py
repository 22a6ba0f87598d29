"""Counters, gauges and histograms in Prometheus' text format, and the registry that a scrape reads.

Our own, since a request must cost next to nothing: a family holds one cell for each set of labels, and who counts often
keeps the cell (`requests = REQUESTS.of("GET", "pods")`, then `requests.value += 1`). What is only read now and then is
not counted at all: `read` gives its values when a scraper asks.

Families belong to the process (`PROCESS`) or to one of its parts; names, labels, buckets and help texts are upstream's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Labels = tuple[str, ...]
#: Gives the value for each set of labels.
Read = Callable[[], Mapping[Labels, float]]

#: client_golang's default buckets.
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """`count` bounds, each `factor` times the one before it."""
    return tuple(start * factor**i for i in range(count))


class Cell:
    """The number of one set of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counter:
    """A number for each set of labels, that only grows. A family without labels is there from the start, at zero."""

    kind = "counter"

    def __init__(self, name: str, help_: str, labels: Labels = (), read: Read | None = None) -> None:
        self.name = name
        self.help = help_
        self.labels = labels
        self._cells: dict[Labels, Cell] = {} if labels else {(): Cell()}
        self._read = read

    def of(self, *labels: str) -> Cell:
        """The cell of these labels, to be kept by who counts often."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = Cell()
        return cell

    def add(self, *labels: str, by: float = 1) -> None:
        self.of(*labels).value += by

    def remove(self, *labels: str) -> None:
        """What the labels stand for is gone."""
        self._cells.pop(labels, None)

    @property
    def values(self) -> dict[Labels, float]:
        if self._read is not None:
            return dict(self._read())
        return {labels: cell.value for labels, cell in self._cells.items()}

    def lines(self) -> Iterable[str]:
        for labels, value in self.values.items():
            yield f"{self.name}{_labels(self.labels, labels)} {number(value)}"


class Gauge(Counter):
    """A number for each set of labels."""

    kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        self.of(*labels).value = value


class Series:
    """The observations of one set of labels: a count for each bucket and one for what is above them all."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times


#: Gives the series for each set of labels.
ReadSeries = Callable[[], Mapping[Labels, Series]]


class Histogram:
    """How often an observed number was in which bucket, for each set of labels."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        help_: str,
        labels: Labels = (),
        buckets: tuple[float, ...] = DEFAULT_BUCKETS,
        read: ReadSeries | None = None,
    ) -> None:
        self._read = read
        self.name = name
        self.help = help_
        self.labels = labels
        self.buckets = buckets
        self._series: dict[Labels, Series] = {} if labels else {(): Series(buckets)}

    def of(self, *labels: str) -> Series:
        """The series of these labels, to be kept by who observes often."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(self.buckets)
        return series

    def observe(self, labels: Labels, value: float) -> None:
        self.of(*labels).observe(value)

    @property
    def values(self) -> dict[Labels, list[float]]:
        """The count of each bucket, that of what is above them all, and the sum."""
        return {labels: [*series.counts, series.sum] for labels, series in self._shown().items()}

    def _shown(self) -> Mapping[Labels, Series]:
        return self._series if self._read is None else self._read()

    def lines(self) -> Iterable[str]:
        for labels, series in self._shown().items():
            if labels and not any(series.counts):
                # Kept by who will observe, but nothing has been observed yet.
                continue
            total = 0
            for bound, count in zip((*self.buckets, float("inf")), series.counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_labels((*self.labels, 'le'), (*labels, number(bound)))} {total}"
            yield f"{self.name}_sum{_labels(self.labels, labels)} {number(series.sum)}"
            yield f"{self.name}_count{_labels(self.labels, labels)} {total}"


Family = Counter | Histogram
F = TypeVar("F", bound=Family)


class Registry:
    """Families in the order in which they are shown."""

    def __init__(self) -> None:
        self.families: dict[str, Family] = {}

    def counter(self, name: str, help_: str, labels: Labels = (), read: Read | None = None) -> Counter:
        return self.add(Counter(name, help_, labels, read))

    def gauge(self, name: str, help_: str, labels: Labels = (), read: Read | None = None) -> Gauge:
        return self.add(Gauge(name, help_, labels, read))

    def histogram(
        self,
        name: str,
        help_: str,
        labels: Labels = (),
        buckets: tuple[float, ...] = DEFAULT_BUCKETS,
        read: ReadSeries | None = None,
    ) -> Histogram:
        return self.add(Histogram(name, help_, labels, buckets, read))

    def add(self, family: F) -> F:
        self.families[family.name] = family
        return family


#: The families of this process, whichever part of it counts.
PROCESS = Registry()


def number(value: float) -> str:
    """As Prometheus reads it, without loss."""
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _labels(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    escaped = (v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for v in values)
    return "{" + ",".join(f'{n}="{v}"' for n, v in zip(names, escaped, strict=True)) + "}"


def text(*registries: Registry) -> str:
    """All families of these registries, as a scraper wants them; a name is shown once, as the last one has it."""
    families: dict[str, Family] = {}
    for registry in registries:
        families.update(registry.families)
    lines = []
    for family in families.values():
        shown = list(family.lines())
        if shown:
            help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            lines += [f"# HELP {family.name} {help_}", f"# TYPE {family.name} {family.kind}", *shown]
    return "\n".join(lines) + "\n"
