"""x-kubernetes-validations: CEL rules over custom objects, at any depth of the schema.

Rules that mention `oldSelf` judge changes, and are asked only where it is known what was there before; all others are
not asked again about what a write leaves as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from podling.apiserver.crd.validation import correlation, kind_of, same
from podling.machinery import cel
from podling.machinery.cel import CostExceeded, EvaluationError
from podling.machinery.cel import schema as cel_schema
from podling.machinery.validation import (
    OMITTED,
    Findings,
    Path,
    duplicate,
    forbidden,
    invalid,
    quote,
    required,
)

_MESSAGE_LIMIT = 5 * 1024
_OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"
_TOO_EXPENSIVE = "no further validation rules will be run due to call cost exceeds limit"
_NO_OLD: Any = object()

Unchanged = Callable[[], bool]


class Exhausted(Exception):
    """No more rules can be run; `findings` are those so far."""


class Rule:
    """A compiled rule. Raises cel.CompileError, whose text says which of its two expressions is meant."""

    def __init__(self, rule: Mapping[str, Any], type_: cel.Type, schema: Mapping[str, Any]) -> None:
        self.text = str(rule.get("rule") or "").strip()
        self.message = str(rule.get("message") or "").strip()
        self.reason = rule.get("reason")
        self.optional = bool(rule.get("optionalOldSelf"))
        variables = {"self": type_, "oldSelf": cel.optional_of(type_) if self.optional else type_}
        self.program = _compile(self.text, variables, cel.BOOL, "cel expression must evaluate to a bool")
        self.uses_old = "oldSelf" in self.program.names
        expression = rule.get("messageExpression")
        self.message_expression: cel.Program | None = None
        if expression:
            wrong = "messageExpression must evaluate to a string"
            try:
                self.message_expression = _compile(expression, variables, cel.STRING, wrong)
            except cel.CompileError as error:
                raise MessageError(str(error)) from None
        where = rule.get("fieldPath")
        self.field = field_path(str(where), schema) if where else None

    @property
    def shown(self) -> str:
        return self.message or self.text


class MessageError(ValueError):
    """It is the rule's messageExpression that does not compile."""


def _compile(text: str, variables: Mapping[str, cel.Type], result: cel.Type, wrong: str) -> cel.Program:
    program = cel.compile(text, variables)
    if str(program.type) not in (str(result), "dyn"):
        raise cel.CompileError(wrong)
    return program


class Rules:
    """The rules of one place in a schema and of all places below; None (from `compiled`) if there are none."""

    def __init__(self, schema: Mapping[str, Any], type_: cel.Type | None, *, root: bool) -> None:
        self.kind = str(schema.get("type") or "")
        self.list_type = schema.get("x-kubernetes-list-type")
        self.keys = schema.get("x-kubernetes-list-map-keys") or []
        self.rules: list[Rule] = []
        #: Rules that do not compile: they never get into a definition, but for those of older versions.
        self.broken: list[str] = []
        for rule in schema.get("x-kubernetes-validations") or () if type_ is not None else ():
            try:
                assert type_ is not None
                self.rules.append(Rule(rule, type_, schema))
            except (cel.CompileError, MessageError) as error:
                self.broken.append(str(error))
        self.properties: dict[str, Rules] = {}
        for name, field in (schema.get("properties") or {}).items():
            found = compiled(field)
            if found is not None:
                self.properties[name] = found
        more, items = schema.get("additionalProperties"), schema.get("items")
        self.more = compiled(more) if isinstance(more, Mapping) else None
        self.items = compiled(items) if isinstance(items, Mapping) else None

    @property
    def empty(self) -> bool:
        return not (self.rules or self.broken or self.properties or self.more or self.items)

    def findings(self, value: Any, old: Any = _NO_OLD, path: Path | None = None) -> Findings:
        """What the rules say of a value, or of the change from `old` (None is as good as nothing there)."""
        run = _Run()
        known = old is not _NO_OLD
        try:
            run.walk(self, value, old if known else None, path, (lambda: same(value, old)) if known else _changed, True)
        except Exhausted:
            pass
        return run.found


def _changed() -> bool:
    return False


def compiled(schema: Mapping[str, Any], *, root: bool = False) -> Rules | None:
    """The rules in a schema; None if it has none anywhere."""
    if not _has_rules(schema):
        return None
    type_ = cel_schema.type_of(schema, root=root)
    found = Rules(schema, type_, root=root)
    return None if found.empty else found


def _has_rules(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    if schema.get("x-kubernetes-validations"):
        return True
    fields = (schema.get("properties") or {}).values()
    return (
        _has_rules(schema.get("items"))
        or _has_rules(schema.get("additionalProperties"))
        or any(_has_rules(field) for field in fields)
    )


class _Run:
    """One evaluation of all rules over one object."""

    def __init__(self) -> None:
        self.found: Findings = []
        self.left = cel.TOTAL_BUDGET

    def walk(self, rules: Rules, value: Any, old: Any, path: Path | None, unchanged: Unchanged, root: bool) -> None:
        if value is None:
            return
        for rule in rules.rules:
            self.ask(rules, rule, value, old, path, unchanged)
        for why in rules.broken:
            self.add(invalid(_at(path), rules.kind, f"rule compile error: {why}"))
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                child = rules.properties.get(key)
                at = path.child(key) if path is not None else Path(key)
                if child is None and rules.more is not None and key not in rules.properties:
                    child, at = rules.more, path.key(key) if path is not None else Path(f"[{key}]")
                if child is not None:
                    self.walk(child, item, before.get(key), at, _unchanged(item, before, key, unchanged), False)
        elif isinstance(value, list) and rules.items is not None and path is not None:
            self.walk_list(rules, rules.items, value, old, path, unchanged)

    def walk_list(
        self, rules: Rules, items: Rules, value: list[Any], old: Any, path: Path, unchanged: Unchanged
    ) -> None:
        """Items have an old state only in lists that are maps."""
        before = correlation(value, old, rules.keys) if rules.list_type == "map" and isinstance(old, list) else None
        for index, item in enumerate(value):
            was = before(index) if before is not None else None
            if not isinstance(was, dict):
                self.walk(items, item, None, path.index(index), unchanged, False)
            else:
                self.walk(items, item, was, path.index(index), _equal(item, was), False)

    def ask(self, rules: Rules, rule: Rule, value: Any, old: Any, path: Path | None, unchanged: Unchanged) -> None:
        if rule.uses_old and old is None and not rule.optional:
            return
        was: Any = old
        if rule.optional:
            was = cel.Optional(old) if old is not None else cel.Optional(present=False)
        variables = {"self": value, "oldSelf": was}
        try:
            holds, cost = rule.program.measure(variables)
        except EvaluationError as error:
            self.spend(getattr(error, "cost", 0), rules, path)
            self.failed(rules, rule, error, path)
            return
        self.spend(cost, rules, path)
        if holds is True or (not rule.uses_old and unchanged()):
            return
        at = path
        if rule.field:
            for kind, name in rule.field:
                at = Path(name) if at is None else at.key(name) if kind == "key" else at.child(name)
        self.add(_finding(rule, _at(at), value, self.detail(rules, rule, variables, at)))

    def failed(self, rules: Rules, rule: Rule, error: EvaluationError, path: Path | None) -> None:
        text = str(error)
        if isinstance(error, CostExceeded):
            why = f"'{text}': {_TOO_EXPENSIVE} for rule: {rule.shown}"
            self.add(invalid(_at(path), rules.kind, why))
            raise Exhausted
        if text.startswith("no such overload"):
            why = (
                f"'{text}': call arguments did not match a supported operator, function or macro signature for rule: "
                f"{rule.shown}"
            )
        else:
            why = f"{text} evaluating rule: {rule.shown}"
        self.add(invalid(_at(path), rules.kind, why))

    def detail(self, rules: Rules, rule: Rule, variables: Mapping[str, Any], path: Path | None) -> str:
        """Why a rule does not hold: what its message expression says, if that says anything usable."""
        plain = rule.message or f"failed rule: {rule.text}"
        if rule.message_expression is None:
            return plain
        try:
            text, cost = rule.message_expression.measure(variables)
        except CostExceeded:
            why = f"{_TOO_EXPENSIVE} for messageExpression: {quote(rule.message_expression.expression)}"
            self.add(invalid(_at(path), rules.kind, why))
            raise Exhausted from None
        except EvaluationError as error:
            self.left -= getattr(error, "cost", 0)
            return plain
        if cost > self.left:
            why = (
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules "
                "will be run"
            )
            self.add(invalid(_at(path), rules.kind, why))
            raise Exhausted
        self.left -= cost
        text = text.strip() if isinstance(text, str) else ""
        usable = text and len(text.encode()) <= _MESSAGE_LIMIT and "\n" not in text
        return text if usable else plain

    def spend(self, cost: int, rules: Rules, path: Path | None) -> None:
        if cost > self.left:
            self.add(invalid(_at(path), rules.kind, _OUT_OF_BUDGET))
            raise Exhausted
        self.left -= cost

    def add(self, finding: Any) -> None:
        self.found.append(finding)


def _at(path: Path | None) -> Path:
    return path if path is not None else Path("<nil>")


def _unchanged(item: Any, before: dict[str, Any], key: str, outer: Unchanged) -> Unchanged:
    if key in ("apiVersion", "kind") or outer is _changed:
        return _changed
    return _equal(item, before[key]) if key in before else _changed


def _equal(item: Any, was: Any) -> Unchanged:
    return lambda: same(item, was)


def _finding(rule: Rule, path: Path, value: Any, detail: str) -> Any:
    shown = OMITTED if kind_of(value) in ("object", "array") else value
    match rule.reason:
        case "FieldValueForbidden":
            return forbidden(path, detail)
        case "FieldValueRequired":
            return required(path, detail)
        case "FieldValueDuplicate":
            return duplicate(path, value)
    return invalid(path, shown, detail)


# -- paths of fields --------------------------------------------------------------------------------------------------


def field_path(text: str, schema: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """`.spec['a.b']` as parts (("field" or "key"), name); None if the schema has no such field."""
    try:
        return parse_field_path(text, schema)
    except ValueError:
        return None


def parse_field_path(text: str, schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """As `field_path`; raises ValueError in upstream's words."""
    parts: list[tuple[str, str]] = []
    at = 0
    here: Mapping[str, Any] = schema
    while at < len(text):
        if text[at] == ".":
            end = at + 1
            while end < len(text) and text[end] not in ".[]":
                end += 1
            if end == at + 1 and end >= len(text):
                raise ValueError("unexpected end of JSON path")
            name, at = text[at + 1 : end], end
        elif text[at] == "[":
            name, at = _quoted(text, at + 1)
            if at >= len(text):
                raise ValueError("unexpected end of JSON path")
            if text[at] != "]":
                raise ValueError(f"expected ] but got {text[at:]}")
            at += 1
        else:
            raise ValueError(f"expected [ or . but got: {text[at:].partition('.')[0]}")
        properties, more = here.get("properties"), here.get("additionalProperties")
        if properties is not None:
            if name not in properties:
                raise ValueError("does not refer to a valid field")
            parts.append(("field", name))
            here = properties[name]
        elif isinstance(more, Mapping):
            parts.append(("key", name))
            here = more
        else:
            raise ValueError("does not refer to a valid field")
    return parts


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


def _quoted(text: str, at: int) -> tuple[str, int]:
    """The text in single quotes at `at`, and what comes behind it."""
    if at >= len(text):
        raise ValueError("unexpected end of JSON path")
    out, end = [], at + 1
    if text[at] != "'":
        raise ValueError(f"expected single quoted string but got {text[at:].partition(']')[0]}")
    while end < len(text) and text[end] != "'":
        if text[end] == "\\":
            end += 1
            escape = text[end : end + 1]
            if escape not in _ESCAPES:
                raise ValueError(f"invalid string literal: invalid escape char \\{escape}")
            out.append(_ESCAPES[escape])
        else:
            out.append(text[end])
        end += 1
    if end >= len(text):
        raise ValueError(f"expected single quoted string but got {text[at:]}")
    return "".join(out), end + 1
