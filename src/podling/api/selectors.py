"""Label and field selectors: from text or from objects to something that matches.

Selectors are immutable and hashable; a label selector's requirements are sorted by key, so equal selectors print alike.
The grammar and the texts of errors are those of k8s.io/apimachinery's labels and fields packages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from podling.api import meta_v1, names

_OPERATORS = ("in", "notin", "=", "==", "!=", "gt", "lt")
_ALL_OPERATORS = (*_OPERATORS, "exists", "!")
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


class SelectorError(ValueError):
    """A selector that can't be read; the message is what upstream says."""


class Requirement(msgspec.Struct, frozen=True):
    """One condition on one label. `operator`: in, notin, =, ==, !=, gt, lt, exists, !."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        if value is None or not _INTEGER.fullmatch(value) or not _INTEGER.fullmatch(self.values[0]):
            return False
        return int(value) > int(self.values[0]) if self.operator == "gt" else int(value) < int(self.values[0])

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"
        symbol = {"gt": ">", "lt": "<"}.get(self.operator, self.operator)
        return f"{self.key}{symbol}{','.join(self.values)}"


class LabelSelector(msgspec.Struct, frozen=True):
    """All of `requirements` must hold; with none, everything matches, unless `nothing`."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Every object matches."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self.nothing:
            return False
        found = labels or {}
        return all(requirement.matches(found) for requirement in self.requirements)

    def exact(self, key: str) -> str | None:
        """The one value that `key` must have, if the selector demands one."""
        for requirement in self.requirements:
            if requirement.key == key:
                single = requirement.operator in ("=", "==", "in") and len(requirement.values) == 1
                return requirement.values[0] if single else None
        return None

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def _check(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    findings: list[str] = []
    if problems := names.qualified_name(key):
        findings.append(f'key: Invalid value: "{key}": {"; ".join(problems)}')
    shown = msgspec.json.encode(values).decode()
    match operator:
        case "in" | "notin" if not values:
            findings.append(f"values: Invalid value: {shown}: for 'in', 'notin' operators, values set can't be empty")
        case "=" | "==" | "!=" if len(values) != 1:
            findings.append(f"values: Invalid value: {shown}: exact-match compatibility requires one single value")
        case "exists" | "!" if values:
            findings.append(f"values: Invalid value: {shown}: values set must be empty for exists and does not exist")
        case "gt" | "lt":
            findings += _check_number(values, shown)
        case _ if operator not in _ALL_OPERATORS:
            supported = ", ".join(f'"{o}"' for o in _ALL_OPERATORS)
            findings.append(f'operator: Unsupported value: "{operator}": supported values: {supported}')
    for index, value in enumerate(values):
        if problems := names.label_value(value):
            findings.append(f'values[{index}][{key}]: Invalid value: "{value}": {"; ".join(problems)}')
    if findings:
        raise SelectorError(findings[0] if len(findings) == 1 else f"[{', '.join(dict.fromkeys(findings))}]")
    return Requirement(key, operator, values)


def _check_number(values: tuple[str, ...], shown: str) -> list[str]:
    if len(values) != 1:
        return [f"values: Invalid value: {shown}: for 'Gt', 'Lt' operators, exactly one value is required"]
    if not _INTEGER.fullmatch(values[0]):
        return [f"values[0]: Invalid value: \"{values[0]}\": for 'Gt', 'Lt' operators, the value must be an integer"]
    return []


_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^=!(),<> \t\r\n]+)?")
_SYMBOLS = frozenset(("=", "==", "!=", "!", "(", ")", ",", "<", ">"))
_END = ""


class _Parser:
    """Recursive descent over tokens; a token is a symbol, a word, or "" at the end."""

    def __init__(self, text: str) -> None:
        self.tokens = [t for t in _TOKEN.findall(text) if t]
        self.position = 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else _END

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    @staticmethod
    def is_word(token: str) -> bool:
        return token != _END and token not in _SYMBOLS

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while (token := self.peek()) != _END:
            if not self.is_word(token) and token != "!":
                raise SelectorError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from None
            token = self.take()
            if token == _END:
                break
            if token != ",":
                raise SelectorError(f"found '{token}', expected: ',' or 'end of string'")
            if not self.is_word(self.peek()) and self.peek() != "!":
                raise SelectorError(f"found '{self.peek()}', expected: identifier after ','")
        return found

    def requirement(self) -> Requirement:
        negated = self.peek() == "!"
        if negated:
            self.take()
        key = self.take()
        if not self.is_word(key):
            raise SelectorError(f"found '{key}', expected: identifier")
        if problems := names.qualified_name(key):
            raise SelectorError(f'<nil>: Invalid value: "{key}": {"; ".join(problems)}')
        if negated:
            return _check(key, "!", ())
        if self.peek() in (_END, ","):
            return _check(key, "exists", ())
        symbol = self.take()
        operator = {">": "gt", "<": "lt"}.get(symbol, symbol)
        if operator not in _OPERATORS:
            raise SelectorError(f"found '{symbol}', expected: {', '.join(_OPERATORS)}")
        values = self.values() if operator in ("in", "notin") else {self.exact_value()}
        return _check(key, operator, tuple(sorted(values)))

    def exact_value(self) -> str:
        if self.peek() in (_END, ","):
            return ""
        token = self.take()
        if not self.is_word(token):
            raise SelectorError(f"found '{token}', expected: identifier")
        return token

    def values(self) -> set[str]:
        token = self.take()
        if token != "(":
            raise SelectorError(f"found '{token}' expected: '('")
        first = self.peek()
        if first == ")":
            self.take()
            return {""}
        if first != "," and not self.is_word(first):
            raise SelectorError(f"found '{first}', expected: ',', ')' or identifier")
        found = self.list_of_values()
        if self.take() != ")":
            raise SelectorError(f"found '{first}', expected: ')'")
        return found

    def list_of_values(self) -> set[str]:
        found: set[str] = set()
        while True:
            token = self.take()
            following = self.peek()
            if self.is_word(token):
                found.add(token)
                if following == ")":
                    return found
                if following != ",":
                    raise SelectorError(f"found '{following}', expected: ',' or ')'")
            elif token == ",":
                if not found or following == ",":
                    found.add("")
                if following == ")":
                    found.add("")
                    return found
            else:
                raise SelectorError(f"found '{token}', expected: ',', or identifier")


@lru_cache(maxsize=1024)
def parse(text: str) -> LabelSelector:
    """`app=web,tier in (a,b),!legacy` as a selector; "" matches everything. Raises SelectorError."""
    if not text:
        return EVERYTHING
    return LabelSelector(tuple(sorted(_Parser(text).parse(), key=lambda r: r.key)))


def from_set(labels: Mapping[str, str] | None) -> LabelSelector:
    """What has exactly these labels among its own (a Service's selector); everything without labels. Unchecked."""
    return LabelSelector(tuple(Requirement(k, "=", (v,)) for k, v in sorted((labels or {}).items())))


_OF_OBJECT = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


def from_label_selector(selector: meta_v1.LabelSelector | None) -> LabelSelector:
    """An API object's selector: None matches nothing, an empty one everything. Raises SelectorError."""
    if selector is None:
        return NOTHING
    found = [_check(key, "=", (value,)) for key, value in (selector.match_labels or {}).items()]
    for expression in selector.match_expressions or ():
        operator = _OF_OBJECT.get(expression.operator)
        if operator is None:
            raise SelectorError(f'"{expression.operator}" is not a valid label selector operator')
        found.append(_check(expression.key, operator, tuple(expression.values or ())))
    return LabelSelector(tuple(sorted(found, key=lambda r: r.key)))


def format_label_selector(selector: meta_v1.LabelSelector | None) -> str:
    """As tables show it: `<none>` for one that demands nothing, `<error>` for one that can't be read."""
    try:
        return str(from_label_selector(selector)) or "<none>"
    except SelectorError:
        return "<error>"


class FieldRequirement(msgspec.Struct, frozen=True):
    """`field` must (not, if `negated`) have `value`."""

    field: str
    value: str
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{escape(self.value)}"


class FieldSelector(msgspec.Struct, frozen=True):
    """All of `requirements` must hold. An absent field has the value ""."""

    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.requirements

    def matches(self, fields: Mapping[str, str]) -> bool:
        return all((fields.get(r.field, "") == r.value) is not r.negated for r in self.requirements)

    def exact(self, field: str) -> str | None:
        """The one value that `field` must have, if the selector demands one."""
        return next((r.value for r in self.requirements if r.field == field and not r.negated), None)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it asks for."""
        return tuple(r.field for r in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def escape(value: str) -> str:
    """`value` with what means something in a field selector made literal."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescape(value: str) -> str:
    found: list[str] = []
    characters = iter(value)
    for c in characters:
        if c == "\\":
            following = next(characters, "")
            if following not in ("\\", ",", "="):
                raise SelectorError(f"invalid field selector: invalid escape sequence: \\{following}")
            found.append(following)
        elif c in ",=":
            raise SelectorError(f"invalid field selector: unescaped character in value: {ord(c)}")
        else:
            found.append(c)
    return "".join(found)


_TERM = re.compile(r"((?:[^\\,]|\\.)*\\?)(?:,|$)", re.DOTALL)
_TERM_PARTS = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)


def pinned(text: str, field: str) -> str:
    """The value that the field selector `text` demands of `field`, "" if it demands none or can't be read.

    What may be seen is decided by this, so it reads a selector exactly as those do who select by it.
    """
    if field not in text:
        return ""
    try:
        return parse_fields(text).exact(field) or ""
    except SelectorError:
        return ""


@lru_cache(maxsize=1024)
def parse_fields(text: str) -> FieldSelector:
    """`status.phase=Running,spec.nodeName!=a` as a selector; "" matches everything. Raises SelectorError."""
    found: list[FieldRequirement] = []
    for term in sorted(t for t in _TERM.findall(text) if t):
        parts = _TERM_PARTS.fullmatch(term)
        if parts is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append(FieldRequirement(parts[1], _unescape(parts[3]), parts[2] == "!="))
    return FieldSelector(tuple(found))
