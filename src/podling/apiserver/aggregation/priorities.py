"""The order of groups and versions in discovery: by the priorities of their APIServices.

Upstream's table of what it serves itself stands in cmd/kube-apiserver/app/aggregator.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from podling.machinery.version_order import version_order

#: The group in which APIServices are. It has none of its own and always comes first.
REGISTRATION = "apiregistration.k8s.io"
_FIRST = 20001


class Ranked(NamedTuple):
    """A group version with the priorities of its group and of itself within it."""

    group: str
    version: str
    group_priority: int
    version_priority: int


#: Of what is served without an APIService of its own yet, and what custom resources get.
CUSTOM = (1000, 100)

BUILTIN: dict[tuple[str, str], tuple[int, int]] = {
    ("", "v1"): (18000, 1),
    ("apps", "v1"): (17800, 15),
    ("events.k8s.io", "v1"): (17750, 15),
    ("authentication.k8s.io", "v1"): (17700, 15),
    ("authorization.k8s.io", "v1"): (17600, 15),
    ("autoscaling", "v1"): (17500, 15),
    ("autoscaling", "v2"): (17500, 30),
    ("batch", "v1"): (17400, 15),
    ("certificates.k8s.io", "v1"): (17300, 15),
    ("networking.k8s.io", "v1"): (17200, 15),
    ("policy", "v1"): (17100, 15),
    ("rbac.authorization.k8s.io", "v1"): (17000, 15),
    ("storage.k8s.io", "v1"): (16800, 15),
    ("apiextensions.k8s.io", "v1"): (16700, 15),
    ("admissionregistration.k8s.io", "v1"): (16700, 15),
    ("scheduling.k8s.io", "v1"): (16600, 15),
    ("coordination.k8s.io", "v1"): (16500, 15),
    ("node.k8s.io", "v1"): (16300, 15),
    ("discovery.k8s.io", "v1"): (16200, 15),
    ("resource.k8s.io", "v1"): (16200, 20),
    ("flowcontrol.apiserver.k8s.io", "v1"): (16100, 21),
    # As metrics-server's own.
    ("metrics.k8s.io", "v1beta1"): (100, 100),
}


def default(group: str, version: str) -> tuple[int, int]:
    """(group priority, version priority) of a group version that no APIService says anything of."""
    if group == REGISTRATION:
        return _FIRST, 0
    return BUILTIN.get((group, version), CUSTOM)


def versions(ranked: Iterable[Ranked]) -> list[str]:
    """The versions of one group, the preferred one first."""
    return [r.version for r in sorted(ranked, key=lambda r: (-r.version_priority, version_order(r.version)))]


def groups(ranked: Iterable[Ranked]) -> list[str]:
    """Groups as aggregated discovery has them: by the highest priority that is asked for them, then by name."""
    highest: dict[str, int] = {}
    for r in ranked:
        highest[r.group] = max(r.group_priority, highest.get(r.group, 0))
    return sorted(highest, key=lambda group: (-highest[group], group))


def legacy_groups(ranked: Iterable[Ranked]) -> list[str]:
    """Groups as /apis has them: of equal ones, the one comes first whose APIService's name does."""
    by_name = sorted(ranked, key=lambda r: (-r.group_priority, f"{r.version}.{r.group}"))
    return list(dict.fromkeys(r.group for r in by_name))
