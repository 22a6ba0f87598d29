"""JSONPath as kubectl and printer columns write it: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.

Source: k8s.io/client-go/util/jsonpath. Only what one path can be: fields, indexes, slices, unions, wildcards, filters
and recursive descent; no text around it, no loops.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from podling.errors import PodlingError

Step = Callable[[list[Any]], list[Any]]


class PathError(PodlingError):
    """The text is no path."""


_FIELD = re.compile(r"(?:[^.\[\]\\{}\s]|\\.)+")
_NUMBERS = re.compile(r"\s*(-?\d*)\s*(?::\s*(-?\d*)\s*(?::\s*(-?\d*)\s*)?)?\Z")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


class JsonPath:
    """A compiled path. `find` gives all that it leads to; what is not there is left out."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._steps = _parse(text)

    def find(self, value: Any) -> list[Any]:
        found = [value]
        for step in self._steps:
            found = step(found)
            if not found:
                break
        return found

    def first(self, value: Any) -> Any:
        """None if there is nothing."""
        found = self.find(value)
        return found[0] if found else None


def _parse(text: str) -> list[Step]:
    steps: list[Step] = []
    at = 0
    text = text.strip()
    while at < len(text):
        if text.startswith("..", at):
            steps.append(_descend)
            at += 1 if text[at + 2 : at + 3] != "[" else 2
            continue
        if text[at] in "$@" and at == 0:
            at += 1
        elif text[at] == ".":
            at += 1
            if at == len(text) or text[at] == "[":
                continue
            found = _FIELD.match(text, at)
            if found is None:
                raise PathError(f"invalid path {text}")
            at = found.end()
            name = re.sub(r"\\(.)", r"\1", found[0])
            steps.append(_wildcard if name == "*" else _field(name))
        elif text[at] == "[":
            end = _closing(text, at)
            steps.append(_bracket(text[at + 1 : end]))
            at = end + 1
        else:
            raise PathError(f"unrecognized character in action: {text[at]!r}")
    return steps


def _closing(text: str, at: int) -> int:
    """Where the bracket that opens at `at` closes."""
    depth, quote = 0, ""
    for index in range(at, len(text)):
        character = text[index]
        if quote:
            if character == quote and text[index - 1] != "\\":
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if depth == 0:
                return index
    raise PathError("unterminated array")


def _field(name: str) -> Step:
    return lambda values: [v[name] for v in values if isinstance(v, dict) and name in v]


def _wildcard(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            found += value.values()
        elif isinstance(value, list):
            found += value
    return found


def _descend(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found.append(value)
        found += _descend(_wildcard([value]))
    return found


def _bracket(text: str) -> Step:
    text = text.strip()
    if text.startswith("?(") and text.endswith(")"):
        return _filter(text[2:-1])
    if text == "*":
        return _wildcard
    parts = _split(text, ",")
    if len(parts) > 1:
        steps = [_bracket(part) for part in parts]
        return lambda values: [found for step in steps for found in step(values)]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return _field(re.sub(r"\\(.)", r"\1", text[1:-1]))
    numbers = _NUMBERS.match(text)
    if numbers is None or not text:
        raise PathError(f"invalid array index {text}")
    if ":" not in text:
        index = int(numbers[1])
        return lambda values: [v[index] for v in values if isinstance(v, list) and -len(v) <= index < len(v)]
    bounds = slice(*(int(n) if n else None for n in numbers.groups()))
    return lambda values: [item for v in values if isinstance(v, list) for item in v[bounds]]


def _split(text: str, separator: str) -> list[str]:
    """Split outside of quotes and parentheses."""
    parts, start, quote, depth = [], 0, "", 0
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


_COMPARISON = re.compile(r"(?P<left>(?:[^'\"=!<>]|'[^']*'|\"[^\"]*\")+?)\s*(?P<op>==|!=|<=|>=|<|>)\s*(?P<right>.+)\Z")


def _filter(text: str) -> Step:
    found = _COMPARISON.match(text.strip())
    if found is None:
        left = _operand(text.strip())
        return lambda values: [item for item in _items(values) if left(item)]
    left, right, compare = _operand(found["left"]), _operand(found["right"].strip()), _OPERATORS[found["op"]]

    def holds(item: Any) -> bool:
        ours, theirs = left(item), right(item)
        if len(ours) != 1 or len(theirs) != 1:
            return False
        try:
            return bool(compare(ours[0], theirs[0]))
        except TypeError:
            return False

    return lambda values: [item for item in _items(values) if holds(item)]


def _items(values: list[Any]) -> list[Any]:
    return [item for value in values if isinstance(value, list) for item in value]


def _operand(text: str) -> Callable[[Any], list[Any]]:
    text = text.strip()
    if text.startswith(("@", ".", "$")):
        return JsonPath(text).find
    constant: Any
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        constant = text[1:-1]
    elif text in ("true", "false"):
        constant = text == "true"
    else:
        try:
            constant = float(text) if "." in text else int(text)
        except ValueError:
            raise PathError(f"cannot parse {text}") from None
    return lambda item: [constant]
