"""node_collector_*: how well the nodes of each zone are, and how often they were given up, under upstream's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from podling.metrics import PROCESS

EVICTIONS = PROCESS.counter(
    "node_collector_evictions_total",
    "[STABLE] Number of Node evictions that happened since current instance of NodeController started.",
    ("zone",),
)


class Zone(Protocol):
    """How many nodes there are, and how many of them are not ready."""

    nodes: int
    unhealthy: int


def evicted(zone: str) -> None:
    """The pods of a node of a zone are told to leave."""
    EVICTIONS.add(_name(zone))


def show(zones: Callable[[], Mapping[str, Zone]]) -> None:
    """`zones` gives them as they are when a scraper asks."""

    def gauge(name: str, help_: str, value: Callable[[Zone], float]) -> None:
        PROCESS.gauge(name, help_, ("zone",), lambda: {(_name(n),): value(zone) for n, zone in zones().items()})

    gauge(
        "node_collector_zone_size",
        "[ALPHA] Gauge measuring number of registered Nodes per zones.",
        lambda zone: zone.nodes,
    )
    gauge(
        "node_collector_unhealthy_nodes_in_zone",
        "[ALPHA] Gauge measuring number of not Ready Nodes per zones.",
        lambda zone: zone.unhealthy,
    )
    gauge(
        "node_collector_zone_health",
        "[ALPHA] Gauge measuring percentage of healthy nodes per zone.",
        lambda zone: 100 * (zone.nodes - zone.unhealthy) / zone.nodes if zone.nodes else 100,
    )


def _name(zone: str) -> str:
    """Of nodes that are in no zone: none."""
    return "" if zone == ":" else zone
