"""Match conditions of an authorization webhook: CEL over `request`, the spec of a SubjectAccessReview."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from podling.apiserver.authz.rbac import aggregate
from podling.machinery import cel

_REQUIREMENT = cel.message(
    "kubernetes.SelectorRequirement", {"key": cel.STRING, "operator": cel.STRING, "values": cel.list_of(cel.STRING)}
)


def _selector(kind: str) -> cel.Type:
    fields = {"rawSelector": cel.STRING, "requirements": cel.list_of(_REQUIREMENT)}
    return cel.message(f"kubernetes.{kind}SelectorAttributes", fields)


_RESOURCE = cel.message(
    "kubernetes.ResourceAttributes",
    {
        **dict.fromkeys(("namespace", "verb", "group", "version", "resource", "subresource", "name"), cel.STRING),
        "fieldSelector": _selector("Field"),
        "labelSelector": _selector("Label"),
    },
)
_PATH = cel.message("kubernetes.NonResourceAttributes", {"path": cel.STRING, "verb": cel.STRING})
_REQUEST = cel.message(
    "kubernetes.SubjectAccessReviewSpec",
    {
        "resourceAttributes": _RESOURCE, "nonResourceAttributes": _PATH, "user": cel.STRING, "uid": cel.STRING,
        "groups": cel.list_of(cel.STRING), "extra": cel.map_of(cel.STRING, cel.list_of(cel.STRING)),
    },
)  # fmt: skip


class ConditionError(Exception):
    """None of the conditions is false, and some can't be evaluated."""


@lru_cache(256)
def program(expression: str) -> cel.Program:
    """Raises cel.CompileError."""
    return cel.compile(expression, {"request": _REQUEST}, result=cel.BOOL)


def match(programs: Sequence[cel.Program], spec: dict[str, Any]) -> bool:
    """Whether all hold. Raises ConditionError."""
    failures = []
    for condition in programs:
        try:
            if condition.evaluate({"request": spec}) is not True:
                return False
        except cel.EvaluationError as error:
            text = f"expression '{condition.expression}' resulted in error: {error}"
            failures.append(f"cel evaluation error: {text}")
    if failures:
        raise ConditionError(aggregate(failures))
    return True
