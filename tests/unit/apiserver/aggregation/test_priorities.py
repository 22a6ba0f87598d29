from __future__ import annotations

from podling.api import registry
from podling.apiserver.aggregation import priorities
from podling.apiserver.aggregation.priorities import Ranked


def test_every_group_version_that_is_built_in_has_its_priorities() -> None:
    served = {(r.group, r.version) for r in registry.BUILTIN}
    assert served - priorities.BUILTIN.keys() == {("apiregistration.k8s.io", "v1")}
    assert priorities.BUILTIN.keys() <= served


def test_versions_by_priority_and_then_as_kubernetes_prefers_them() -> None:
    ranked = [Ranked("g", "v1", 1, 5), Ranked("g", "v1beta1", 1, 9), Ranked("g", "v2", 1, 5), Ranked("g", "v3", 1, 5)]
    assert priorities.versions(ranked) == ["v1beta1", "v3", "v2", "v1"]


def test_groups_by_the_highest_priority_that_is_asked_for_them() -> None:
    ranked = [
        Ranked("b", "v1", 1000, 1),
        Ranked("a", "v1", 1000, 1),
        Ranked("c", "v1", 10, 1),
        Ranked("c", "v2", 2000, 1),
    ]
    assert priorities.groups(ranked) == ["c", "a", "b"]


def test_legacy_discovery_breaks_ties_by_the_name_of_the_apiservice() -> None:
    ranked = [Ranked("a", "v1beta1", 1000, 1), Ranked("z", "v1", 1000, 1)]
    assert priorities.legacy_groups(ranked) == ["z", "a"]
    assert priorities.groups(ranked) == ["a", "z"]


def test_registration_itself_comes_first() -> None:
    ranked = [Ranked(g, v, *priorities.default(g, v)) for g, v in {(r.group, r.version) for r in registry.BUILTIN}]
    assert priorities.groups(ranked)[:3] == ["apiregistration.k8s.io", "", "apps"]
    assert priorities.default("example.com", "v1") == (1000, 100)
