"""YAML, the subset that is JSON: bodies, and answers for people.

Plain scalars mean what they mean to go-yaml, not to YAML 1.1's letter: `22:22` is text, and so is a date. A document
that grows by its aliases is refused as go-yaml refuses it, and of several documents the first counts.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from podling.machinery import nesting, schema


def encode(data: bytes) -> bytes:
    """JSON as YAML."""
    import yaml

    value = msgspec.json.decode(data)
    text: str = yaml.dump(value, Dumper=_dumper(), default_flow_style=False, allow_unicode=True)
    return text.encode()


@cache
def _dumper() -> Any:
    """Quotes what would be read as something else than text."""
    import yaml

    def represent(dumper: Any, text: str) -> Any:
        quoted = not isinstance(_resolved_or_text(text), str)
        return dumper.represent_scalar(f"{_TAG}str", text, style='"' if quoted else None)

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    made: Any = type("Dumper", (base,), {})
    made.add_representer(str, represent)
    return made


def decode(body: bytes) -> Any:
    """YAML as JSON knows it. Raises schema.DecodeError."""
    import yaml

    try:
        node = next(yaml.compose_all(body, Loader=_loader()), None)
        found = _Document().value(node) if node is not None else None
        if nesting.deeper(found):
            raise schema.DecodeError(f"error converting YAML to JSON: {schema.TOO_DEEP}")
    except RecursionError:
        raise schema.DecodeError(f"error converting YAML to JSON: {schema.TOO_DEEP}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise schema.DecodeError(f"error converting YAML to JSON: yaml: {error}") from None
    return found


@cache
def _loader() -> Any:
    """The C parser, where there is one; scalars without a tag stay without."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return type("Loader", (base,), {"yaml_implicit_resolvers": {}, "DEFAULT_SCALAR_TAG": ""})


def duplicate_keys(found: Any) -> list[tuple[int, str]]:
    """The keys that a document has again in the same map, with their lines, of what `decode` made of it."""
    # What aliases share is there more than once, and is one place.
    places: set[tuple[int, int, str]] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value, schema.WithDuplicates):
                places.update(value.places)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(found)
    return [(line, key) for line, _, key in sorted(places)]


# -- nodes into values -------------------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
#: Go's integers have 64 bits; what has more digits need not be looked at.
_MAX_DIGITS = 66


class _Document:
    """The nodes of one document as values; counts what aliases make of it."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._decoded = self._aliased = self._inside = 0

    def value(self, node: Any) -> Any:
        """A node as JSON has it. Raises ValueError."""
        self._count()
        kind = node.id
        if kind == "scalar":
            return _scalar(node)
        me = id(node)
        if me in self._open:
            raise ValueError("anchor value contains itself")
        again = me in self._seen
        self._seen.add(me)
        self._open.add(me)
        self._inside += again
        found = self._mapping(node) if kind == "mapping" else [self.value(item) for item in node.value]
        self._inside -= again
        self._open.discard(me)
        return found

    def _count(self) -> None:
        self._decoded += 1
        if self._inside:
            self._aliased += 1
            if self._aliased > 100 and self._decoded > 1000 and self._aliased > self._decoded * _ratio(self._decoded):
                raise ValueError("document contains excessive aliasing")

    def _mapping(self, node: Any) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        found: dict[str, Any] = {}
        for key, item in node.value:
            if _merges(key):
                merged = {**self._merged(item), **merged}
                continue
            if key.id != "scalar":
                raise ValueError("unsupported map key: only text, numbers and booleans can be keys")
            found[_key(_scalar(key))] = self.value(item)
        if len(found) < len(node.value) and (again := _repeated(node)):
            marked = schema.WithDuplicates({**merged, **found})
            marked.duplicates = again
            marked.places = tuple(_places(node))
            return marked
        return {**merged, **found} if merged else found

    def _merged(self, node: Any) -> dict[str, Any]:
        """What `<<` brings: a map, or several of which the first wins."""
        value = self.value(node)
        maps = value if isinstance(value, list) else [value]
        if not all(isinstance(item, dict) for item in maps):
            raise ValueError("map merge requires map or sequence of maps as the value")
        found: dict[str, Any] = {}
        for item in reversed(maps):
            found.update(item)
        return found


def _merges(key: Any) -> bool:
    return key.tag == _TAG + "merge" or (key.value == "<<" and not key.tag and not key.style)


def _ratio(decoded: int) -> float:
    """How much of a document may come of aliases: less, the bigger it gets."""
    if decoded <= 400_000:
        return 0.99
    return 0.10 if decoded >= 4_000_000 else 0.99 - 0.89 * (decoded - 400_000) / 3_600_000


def _repeated(node: Any) -> tuple[str, ...]:
    """The keys that a map has more than once."""
    times = Counter(_key(_scalar(key)) for key, _ in node.value if not _merges(key))
    return tuple(key for key, count in times.items() if count > 1)


def _places(node: Any) -> Iterator[tuple[int, int, str]]:
    """Line, column and text of the keys that a map has had before."""
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            yield key.start_mark.line + 1, key.start_mark.column, key.value
        seen.add(key.value)


def _key(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value)


def _scalar(node: Any) -> Any:
    text: str = node.value
    if not node.tag:
        return text if node.style else _resolved(text)
    match node.tag.removeprefix(_TAG):
        case "binary":
            return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
        case "int" | "bool" | "null":
            return _resolved(text)
        case "float":
            found = _resolved(text)
            return float(found) if isinstance(found, int) else found
    return text


def _resolved(text: str) -> Any:
    """A plain scalar."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    plain = text.replace("_", "") if "_" in text else text
    if _INTEGER.fullmatch(plain) and len(plain) <= _MAX_DIGITS:
        number = _integer(plain)
        if -(1 << 63) <= number < 1 << 64:
            return number
    if _FLOAT.fullmatch(plain) and math.isfinite(decimal := float(plain)):
        return decimal
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"json: unsupported value: {text}")
    return text


def _resolved_or_text(text: str) -> Any:
    try:
        return _resolved(text)
    except ValueError:
        return None


def _integer(plain: str) -> int:
    sign, digits = (-1 if plain[0] == "-" else 1), plain.lstrip("+-").lower()
    if digits.startswith(("0x", "0b", "0o")):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if digits[0] == "0" else 10)
