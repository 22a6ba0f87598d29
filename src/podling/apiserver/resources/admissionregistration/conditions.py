"""Match conditions and variables: named expressions, and what of them does not compile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from podling.api import admissionregistration_v1 as v1
from podling.api import names
from podling.machinery.validation import Findings, Path, duplicate, each, invalid, required, too_many

if TYPE_CHECKING:
    from podling.apiserver.admission.validating_policy import Problem

_MAX_CONDITIONS = 64
_IDENTIFIER = re.compile("[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    (
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip


def match_conditions(conditions: Sequence[v1.MatchCondition] | None, path: Path, *, params: bool = False) -> Findings:
    """Of a webhook, or of a policy, which may have parameters."""
    conditions = conditions or []
    found: Findings = []
    if len(conditions) > _MAX_CONDITIONS:
        found.append(too_many(path, len(conditions), _MAX_CONDITIONS))
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at = path.index(index)
        if not condition.expression.strip():
            found.append(required(at.child("expression")))
        else:
            found += _compiled(condition.expression, at.child("expression"), params=params)
        if not condition.name:
            found.append(required(at.child("name")))
            continue
        found += each(at.child("name"), condition.name, names.qualified_name(condition.name))
        if condition.name in seen:
            found.append(duplicate(at.child("name"), condition.name))
        seen.add(condition.name)
    return found


def _compiled(expression: str, path: Path, *, params: bool) -> Findings:
    # Expressions are rare, and what compiles them is not small.
    from podling.apiserver.admission.match_cel import condition
    from podling.machinery.cel import CompileError

    try:
        condition(expression, params=params)
    except CompileError as error:
        return [invalid(path, expression, str(error))]
    return []


def problems(found: Iterable[Problem], path: Path) -> Findings:
    """Expressions of a policy that do not compile, below `path`."""
    findings: Findings = []
    for problem in found:
        at = path
        for part in problem.path:
            at = at.index(part) if isinstance(part, int) else at.child(part)
        findings.append(invalid(at, problem.expression, problem.why))
    return findings


def variables(values: Sequence[v1.Variable] | None, path: Path) -> Findings:
    found: Findings = []
    for index, variable in enumerate(values or ()):
        at = path.index(index)
        name = variable.name
        if not name.strip():
            found.append(required(at.child("name"), "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            found.append(invalid(at.child("name"), name, "name is not a valid CEL identifier"))
        if not variable.expression.strip():
            found.append(required(at.child("expression"), "expression is not specified"))
    return found
