"""The objects of every cluster, and what is done to them."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.resources.make import strategy
from podling.api import flowcontrol_v1 as v1
from podling.api.struct import clone
from podling.apiserver.flowcontrol import bootstrap


def named(kind: type[Any], name: str) -> Any:
    return clone(next(o for o in bootstrap.objects() if type(o) is kind and o.metadata.name == name))


def test_names_precedences_and_levels() -> None:
    schemas = [o for o in bootstrap.objects() if isinstance(o, v1.FlowSchema)]
    found = {
        s.metadata.name: (
            s.spec.matching_precedence,
            s.spec.priority_level_configuration.name,
            s.spec.distinguisher_method.type if s.spec.distinguisher_method else "",
        )
        for s in schemas
    }
    assert found == {
        "exempt": (1, "exempt", ""),
        "probes": (2, "exempt", ""),
        "system-leader-election": (100, "leader-election", "ByUser"),
        "system-node-high": (400, "node-high", "ByUser"),
        "system-nodes": (500, "system", "ByUser"),
        "kube-controller-manager": (800, "workload-high", "ByNamespace"),
        "kube-scheduler": (800, "workload-high", "ByNamespace"),
        "kube-system-service-accounts": (900, "workload-high", "ByNamespace"),
        "service-accounts": (9000, "workload-low", "ByUser"),
        "global-default": (9900, "global-default", "ByUser"),
        "catch-all": (10000, "catch-all", "ByUser"),
    }
    assert all(o.metadata.annotations == {"apf.kubernetes.io/autoupdate-spec": "true"} for o in bootstrap.objects())


def test_what_is_missing_is_made() -> None:
    wanted = named(v1.FlowSchema, "probes")
    made = bootstrap.decide(wanted, None)
    assert made == wanted and made is not wanted


def stored(kind: type[Any], name: str, annotation: str | None = "true", generation: int = 1) -> Any:
    found = named(kind, name)
    found.metadata.generation = generation
    found.metadata.annotations = {bootstrap.AUTO_UPDATE: annotation} if annotation is not None else None
    return found


@pytest.mark.parametrize(
    ("annotation", "generation", "updated", "says"),
    [
        ("true", 1, True, "true"),
        ("true", 7, True, "true"),
        ("false", 1, False, "false"),
        # Without a word, what nobody has touched is the server's.
        (None, 1, True, "true"),
        (None, 2, False, "false"),
        ("perhaps", 1, True, "true"),
        ("perhaps", 3, False, "false"),
    ],
)
def test_suggestions_are_the_administrators_to_change(
    annotation: str | None, generation: int, updated: bool, says: str
) -> None:
    wanted, found = named(v1.FlowSchema, "service-accounts"), stored(
        v1.FlowSchema, "service-accounts", annotation, generation
    )  # fmt: skip
    found.spec.matching_precedence = 4711
    new = bootstrap.decide(wanted, found)
    if new is None:
        assert not updated and annotation == says
    else:
        assert (new.spec == wanted.spec) is updated and new.metadata.annotations[bootstrap.AUTO_UPDATE] == says
    assert found.spec.matching_precedence == 4711


def test_what_is_as_it_should_be_is_left_alone() -> None:
    for wanted in bootstrap.objects():
        assert bootstrap.decide(wanted, clone(wanted)) is None


def test_the_mandatory_are_put_right_whatever_they_say() -> None:
    found = stored(v1.FlowSchema, "catch-all", "false", 5)
    found.spec.matching_precedence = 7
    new = bootstrap.decide(named(v1.FlowSchema, "catch-all"), found)
    assert new is not None and new.spec.matching_precedence == 10000
    assert new.metadata.annotations[bootstrap.AUTO_UPDATE] == "true"


def test_the_shares_of_the_exempt_may_be_changed() -> None:
    found = stored(v1.PriorityLevelConfiguration, "exempt")
    found.spec.exempt.nominal_concurrency_shares = 10
    assert bootstrap.decide(named(v1.PriorityLevelConfiguration, "exempt"), found) is None
    found.metadata.annotations = None
    new = bootstrap.decide(named(v1.PriorityLevelConfiguration, "exempt"), found)
    assert new is not None and new.spec.exempt.nominal_concurrency_shares == 10


@pytest.mark.parametrize(("annotation", "gone"), [("true", True), ("false", False), (None, False), ("perhaps", False)])
def test_what_an_older_version_had_made_is_deleted(annotation: str | None, gone: bool) -> None:
    found = stored(v1.FlowSchema, "probes", annotation)
    assert not bootstrap.obsolete(found)
    found.metadata.name = "endpoint-controller"
    assert bootstrap.obsolete(found) is gone


def test_they_are_valid() -> None:
    for obj in bootstrap.objects():
        rules = strategy(obj.api_version, obj.kind)
        made = clone(obj)
        rules.default(made)
        assert rules.validate(made) == [] and made == obj
