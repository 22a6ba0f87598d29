"""endpoint_slice_controller_*: how endpoints are packed into slices, under upstream's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from podling.api import core_v1, discovery_v1
from podling.controllers import slices
from podling.metrics import DEFAULT_BUCKETS, PROCESS, exponential

_PREFIX = "endpoint_slice_controller_"

ADDED = PROCESS.histogram(
    f"{_PREFIX}endpoints_added_per_sync",
    "[BETA] Number of endpoints added on each Service sync",
    (),
    exponential(2, 2, 15),
).of()
REMOVED = PROCESS.histogram(
    f"{_PREFIX}endpoints_removed_per_sync",
    "[BETA] Number of endpoints removed on each Service sync",
    (),
    exponential(2, 2, 15),
).of()
ENDPOINTS = PROCESS.gauge(f"{_PREFIX}endpoints_desired", "[BETA] Number of endpoints desired").of()
SLICES = PROCESS.gauge(f"{_PREFIX}num_endpoint_slices", "[BETA] Number of EndpointSlices").of()
DESIRED = PROCESS.gauge(
    f"{_PREFIX}desired_endpoint_slices",
    "[BETA] Number of EndpointSlices that would exist with perfect endpoint allocation",
).of()
SERVICES = PROCESS.gauge(
    f"{_PREFIX}services_count_by_traffic_distribution",
    "[BETA] Number of Services using some specific trafficDistribution",
    ("traffic_distribution",),
)
CHANGES = PROCESS.counter(f"{_PREFIX}changes", "[ALPHA] Number of EndpointSlice changes", ("operation",))
CHANGED = PROCESS.histogram(
    f"{_PREFIX}endpointslices_changed_per_sync",
    "[ALPHA] Number of EndpointSlices changed on each Service sync",
    ("topology", "traffic_distribution"),
    DEFAULT_BUCKETS,
)
SYNCS = PROCESS.counter(f"{_PREFIX}syncs", "[ALPHA] Number of EndpointSlice syncs", ("result",))


class _Size(NamedTuple):
    """What a service has."""

    endpoints: int = 0
    slices: int = 0
    desired: int = 0
    distribution: str = ""


class SliceCounts:
    """What all services of a controller have together. `most` endpoints go into a slice."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[str, _Size] = {}

    def synced(
        self,
        key: str,
        service: core_v1.Service,
        groups: Mapping[slices.Group, list[discovery_v1.Endpoint]],
        existing: Sequence[slices.Slice],
        changes: slices.Changes,
    ) -> None:
        """The changes have been made."""
        desired = sum(-(-len(endpoints) // self._most) for endpoints in groups.values())
        number = len(existing) + len(changes.create) - len(changes.delete)
        distribution = service.spec.traffic_distribution or ""
        endpoints = sum(map(len, groups.values()))
        self._put(key, _Size(endpoints, number, max(desired, 1), distribution))
        if changes.create or changes.update or changes.delete:
            before = {slices.identity(e) for s in existing for e in s.endpoints or ()}
            after = {slices.identity(e) for es in groups.values() for e in es}
            ADDED.observe(len(after - before))
            REMOVED.observe(len(before - after))
        else:
            ADDED.observe(0)
            REMOVED.observe(0)
        made = {"create": changes.create, "update": changes.update, "delete": changes.delete}
        for operation, done in made.items():
            if done:
                CHANGES.add(operation, by=len(done))
        CHANGED.observe(("Disabled", distribution), sum(map(len, made.values())))
        SYNCS.add("success")

    def forget(self, key: str) -> None:
        """The service is gone."""
        self._put(key, _Size())
        del self._sizes[key]

    def _put(self, key: str, size: _Size) -> None:
        before = self._sizes.get(key, _Size())
        self._sizes[key] = size
        ENDPOINTS.value += size.endpoints - before.endpoints
        SLICES.value += size.slices - before.slices
        DESIRED.value += size.desired - before.desired
        if before.distribution:
            SERVICES.of(before.distribution).value -= 1
        if size.distribution:
            SERVICES.of(size.distribution).value += 1
