"""What is to be checked of a definition's schema once it is known to be structural: its defaults and its rules.

The schema is given in wire form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from podling.apiserver.crd import embedded, formats, rules
from podling.apiserver.crd.structural import Node, embedded_problems, settled
from podling.apiserver.crd.validation import Validator, findings, same
from podling.machinery import cel
from podling.machinery.cel import schema as cel_schema
from podling.machinery.validation import Findings, Path, internal, invalid

_META = ("metadata", "apiVersion", "kind")


def default_findings(schema: Mapping[str, Any], path: Path, *, root: bool = True, in_meta: bool = False) -> Findings:
    """Defaults have to be what the schema itself demands."""
    found: Findings = []
    is_object = root or bool(schema.get("x-kubernetes-embedded-resource"))
    if schema.get("default") is not None and not in_meta:
        found += _default(schema, path.child("default"), root=is_object)
    items = schema.get("items")
    if isinstance(items, Mapping):
        found += default_findings(items, path.child("items"), root=False, in_meta=in_meta)
    for name, field in (schema.get("properties") or {}).items():
        inside = in_meta or (is_object and name in _META)
        found += default_findings(field, path.child("properties").key(name), root=False, in_meta=inside)
    return found


def _default(schema: Mapping[str, Any], path: Path, *, root: bool) -> Findings:
    value, node = schema["default"], Node(schema)
    found: Findings = []
    pruned = settled(value, node, defaults=False)
    if pruned is not value and not same(pruned, value):
        found.append(invalid(path, value, "must not have unknown fields"))
    problem = embedded_problems(value, node, str(path))
    if problem:
        where, _, text = problem.partition(": Invalid value: ")
        return [*found, invalid(Path(where), value, text.rpartition(": ")[2])]
    wrong = embedded.findings(value, node, path) or findings(Validator(schema), value, prefix=str(path))
    if wrong:
        return found + wrong
    compiled = rules.compiled(schema, root=root)
    if compiled is None:
        return found
    wrong = compiled.findings(value, value, path) or compiled.findings(value, path=path)
    return found + wrong


def rule_findings(schema: Mapping[str, Any], path: Path, *, root: bool = True, fixed: Path | None = None) -> Findings:
    """Rules have to compile. `fixed` is the list or map whose items can't be told from each other in a change."""
    found: Findings = []
    is_object = root or bool(schema.get("x-kubernetes-embedded-resource"))
    for name, field in (schema.get("properties") or {}).items():
        found += rule_findings(field, path.child("properties").key(name), root=False, fixed=fixed)
    more, items = schema.get("additionalProperties"), schema.get("items")
    if isinstance(more, Mapping):
        found += rule_findings(more, path.child("additionalProperties"), root=False, fixed=fixed)
    if isinstance(items, Mapping):
        inner = fixed if schema.get("x-kubernetes-list-type") == "map" else fixed or path
        found += rule_findings(items, path.child("items"), root=False, fixed=inner)
    said = schema.get("x-kubernetes-validations") or ()
    if not said:
        return found
    type_ = cel_schema.type_of(schema, root=is_object)
    at = path.child("x-kubernetes-validations")
    if type_ is None:
        why = "internal error: failed to retrieve type information for x-kubernetes-validations"
        return [*found, internal(at, why)]
    for index, rule in enumerate(said):
        found += _rule(rule, type_, schema, at.index(index), fixed)
    return found


def _rule(
    rule: Mapping[str, Any], type_: cel.Type, schema: Mapping[str, Any], path: Path, fixed: Path | None
) -> Findings:
    found: Findings = []
    where = rule.get("fieldPath")
    if where and rules.field_path(where, schema) is None:
        found.append(invalid(path.child("fieldPath"), where, "must be a valid path"))
    try:
        compiled = rules.Rule(rule, type_, schema)
    except cel.CompileError as error:
        return [*found, invalid(path.child("rule"), rule, str(error))]
    except rules.MessageError as error:
        return [*found, invalid(path.child("messageExpression"), rule, str(error))]
    if compiled.uses_old and fixed is not None:
        why = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {fixed}"
        found.append(invalid(path.child("rule"), rule["rule"], why))
    if not compiled.uses_old and rule.get("optionalOldSelf") is not None:
        why = "may not be set if oldSelf is not used in rule"
        found.append(invalid(path.child("optionalOldSelf"), rule["optionalOldSelf"], why))
    return found


def unknown_formats(schema: Mapping[str, Any]) -> list[str]:
    """Formats that mean nothing, anywhere in a schema."""
    return [
        part["format"]
        for part in _parts(schema)
        if part.get("format") and not formats.known(part.get("type") or "", part["format"])
    ]


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(schema, Mapping):
        return
    yield schema
    for key in ("items", "additionalProperties", "not"):
        yield from _parts(schema.get(key))
    for key in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(key) or ():
            yield from _parts(part)
    for field in (schema.get("properties") or {}).values():
        yield from _parts(field)
