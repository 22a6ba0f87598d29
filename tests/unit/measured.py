"""What the metrics of this process say, and that they grow when something happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from podling.metrics import PROCESS, Histogram, Registry


def count(name: str, registry: Registry = PROCESS, **labels: str) -> float:
    """The value of a family, or how often it was observed: the sum of all series with these labels."""
    family = registry.families[name]
    # `name` is taken.
    labels = {key.rstrip("_"): value for key, value in labels.items()}
    assert set(labels) <= set(family.labels), f"{name} has the labels {family.labels}"
    total = 0.0
    for values, shown in family.values.items():
        named = dict(zip(family.labels, values, strict=True))
        if labels.items() <= named.items():
            total += sum(shown[:-1]) if isinstance(family, Histogram) else shown  # type: ignore[index, operator]
    return total


@contextmanager
def grows(name: str, by: float = 1, registry: Registry = PROCESS, **labels: str) -> Iterator[None]:
    """In the block a family grows by so much."""
    before = count(name, registry, **labels)
    yield
    grown = count(name, registry, **labels) - before
    assert grown == by, f"{name}{labels} grew by {grown}, not by {by}"
