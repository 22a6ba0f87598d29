"""Match conditions and variables: named expressions. What compiles is for those who evaluate them to say."""

from __future__ import annotations

import re
from collections.abc import Sequence

from podling.api import admissionregistration_v1 as v1
from podling.api import names
from podling.machinery.validation import Findings, Path, duplicate, each, invalid, required, too_many

_MAX_CONDITIONS = 64
_IDENTIFIER = re.compile("[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    (
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip


def match_conditions(conditions: Sequence[v1.MatchCondition] | None, path: Path) -> Findings:
    conditions = conditions or []
    found: Findings = []
    if len(conditions) > _MAX_CONDITIONS:
        found.append(too_many(path, len(conditions), _MAX_CONDITIONS))
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at = path.index(index)
        if not condition.expression.strip():
            found.append(required(at.child("expression")))
        if not condition.name:
            found.append(required(at.child("name")))
            continue
        found += each(at.child("name"), condition.name, names.qualified_name(condition.name))
        if condition.name in seen:
            found.append(duplicate(at.child("name"), condition.name))
        seen.add(condition.name)
    return found


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
