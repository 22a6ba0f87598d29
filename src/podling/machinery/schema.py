"""From bytes to objects, and what there is to say about the bytes.

`decode` reads a document as strictly as Go's decoder would (and as leniently: null stands for "not set" anywhere), and
brings scalars to their canonical form: quantities, times, base64. `problems` finds what decoding silently drops:
unknown and duplicate fields, which become warnings or, with fieldValidation=Strict, a refusal. It runs on every write,
so it makes one pass of the JSON scanner and one walk over tables that are built once per type.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from podling.api import errors, quantity, times
from podling.api.struct import decode as _decode
from podling.api.struct import from_dict
from podling.errors import PodlingError
from podling.machinery import nesting, typeinfo

S = TypeVar("S", bound=msgspec.Struct)

#: Upstream stops collecting after so many.
_MAX_PROBLEMS = 100

TOO_DEEP = "json: exceeded max depth"


class DecodeError(PodlingError):
    """The document is not what it should be; the message is what Go's decoder would say."""


class UnreadableError(DecodeError):
    """The document can't be read at all; `kind` and `version` are what it says it is, "" if not even that is known."""

    def __init__(self, why: str, kind: str = "", version: str = "") -> None:
        super().__init__(why)
        self.kind = kind
        self.version = version


class StrictDecodeError(DecodeError):
    """The document has unknown or duplicate fields; `problems` lists them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"strict decoding error: {', '.join(problems)}")
        self.problems = problems


def cannot_be_handled(kind: str, version: str, error: DecodeError) -> errors.StatusError:
    """`error` as the API server answers it; `version` is the group version's last part (`v1`)."""
    return errors.bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}')


def decode(data: bytes | str, type_: type[S]) -> S:
    """JSON as a `type_`. Raises DecodeError."""
    _check_depth(data)
    try:
        obj = _decode(data, type_)
    except msgspec.ValidationError:
        obj = convert(parse(data), type_)
        return obj
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not _has_surrogates(data):
            raise DecodeError(_syntax(error)) from None
        return convert(parse(data), type_)
    canonicalize(obj)
    return obj


def convert(raw: Any, type_: type[S]) -> S:
    """A decoded document (wire-named dicts and lists) as a `type_`. Raises DecodeError."""
    try:
        obj = from_dict(raw, type_)
    except msgspec.ValidationError as first:
        try:
            obj = from_dict(_without_nulls(raw, type_), type_)
        except msgspec.ValidationError:
            raise DecodeError(_explain(str(first), type_, raw)) from None
    canonicalize(obj)
    return obj


def parse(data: bytes | str) -> Any:
    """JSON as dicts and lists. Objects with duplicate keys come as `WithDuplicates`. Raises DecodeError."""
    _check_depth(data)
    try:
        found = _scanner.decode(data if isinstance(data, str) else data.decode())
        return _without_surrogates(found) if _has_surrogates(data) else found
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(_syntax(error)) from None


def _check_depth(data: bytes | str) -> None:
    if nesting.too_deep(data.encode() if isinstance(data, str) else data):
        raise DecodeError(TOO_DEEP)


def _has_surrogates(data: bytes | str) -> bool:
    """Whether there may be halves of a character, written as `\\ud800`, in JSON."""
    if isinstance(data, str):
        return "\\ud" in data or "\\uD" in data
    return b"\\ud" in data or b"\\uD" in data


def _without_surrogates(value: Any) -> Any:
    """With the replacement character for halves without the other one, as Go reads them."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return _object([(_without_surrogates(key), _without_surrogates(item)) for key, item in value.items()])
    return value


def _syntax(error: Exception) -> str:
    text = str(error)
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if "truncated" in text:
        return "unexpected end of JSON input"
    return f"couldn't get version/kind; json parse error: {text}"


class WithDuplicates(dict[str, Any]):
    """An object of which some keys came more than once; the last value counts.

    `order` has all keys as they came, `duplicates` those that came again; of YAML, `places` where (line, column, key).
    """

    duplicates: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    places: tuple[tuple[int, int, str], ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked = WithDuplicates(found)
    seen: set[str] = set()
    again: dict[str, None] = {}
    for key, _ in pairs:
        if key in seen:
            again[key] = None
        seen.add(key)
    marked.duplicates = tuple(again)
    marked.order = tuple(key for key, _ in pairs)
    return marked


_scanner = json.JSONDecoder(object_pairs_hook=_object)


# -- unknown and duplicate fields -------------------------------------------------------------------------------------


def problems(raw: Any, type_: type[Any]) -> list[str]:
    """Unknown and duplicate fields of what `parse` returned, in upstream's words: `unknown field "spec.foo"`."""
    found: list[str] = []
    if isinstance(raw, dict):
        _walk(raw, _table(type_), "", found)
    return found[:_MAX_PROBLEMS]


def check(data: bytes | str, type_: type[Any]) -> list[str]:
    """As `problems`, of JSON. Raises DecodeError if it is none."""
    return problems(parse(data), type_)


#: Per wire name: None for a value that is not looked into, else the kind of value and what its objects have.
_Entry = tuple[str, "type[Any] | None"]
_OBJECT, _LIST, _MAP, _LABELS = "object", "list", "map", "labels"


@typeinfo.cached
def _table(type_: type[Any]) -> dict[str, _Entry | None]:
    table: dict[str, _Entry | None] = {}
    for name, field in typeinfo.fields(type_).items():
        if field.struct is None:
            table[name] = (_LABELS, None) if field.shape == "map" else None
        else:
            table[name] = ({"list": _LIST, "map": _MAP}.get(field.shape, _OBJECT), field.struct)
    # Every document may carry these, whether its type declares them or not.
    if "metadata" in table:
        table.setdefault("kind", None)
        table.setdefault("apiVersion", None)
    return table


_MISSING: Any = object()


#: In the place of a value: the key was there before.
_AGAIN: Any = object()


def _in_order(raw: WithDuplicates) -> Iterator[tuple[str, Any]]:
    """Keys and values as they came; a key that comes again is told once, where it does."""
    told: dict[str, int] = {}
    for key in raw.order or (*raw, *raw.duplicates):
        told[key] = told.get(key, 0) + 1
        if told[key] <= 2:
            yield key, raw[key] if told[key] == 1 else _AGAIN


def _walk(raw: dict[str, Any], table: dict[str, _Entry | None], path: str, found: list[str]) -> None:
    for key, value in _in_order(raw) if type(raw) is WithDuplicates else raw.items():
        if value is _AGAIN:
            found.append(f'duplicate field "{path}{key}"')
            continue
        entry = table.get(key, _MISSING)
        if entry is None:
            continue
        if entry is _MISSING:
            found.append(f'unknown field "{path}{key}"')
            continue
        kind, struct = entry
        if kind is _OBJECT:
            if isinstance(value, dict):
                _walk(value, _table(struct), f"{path}{key}.", found)
        elif kind is _LIST:
            if isinstance(value, list):
                inner = _table(struct)
                for index, item in enumerate(value):
                    if isinstance(item, dict):
                        _walk(item, inner, f"{path}{key}[{index}].", found)
        elif type(value) is WithDuplicates:
            found += [f'duplicate field "{path}{key}.{again}"' for again in value.duplicates]
        elif kind is _MAP and isinstance(value, dict):
            inner = _table(struct)
            for name, item in value.items():
                if isinstance(item, dict):
                    _walk(item, inner, f"{path}{key}.{name}.", found)


# -- nulls and mismatches ---------------------------------------------------------------------------------------------


def _without_nulls(raw: Any, type_: type[Any]) -> Any:
    """`raw` without the fields that are null, which in Go leave a field at its zero value."""
    if not isinstance(raw, dict):
        return raw
    declared = typeinfo.fields(type_)
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        if value is None:
            continue
        field = declared.get(key)
        if field is None:
            kept[key] = value
        elif field.shape == "map" and isinstance(value, dict):
            zero = "" if field.scalar is str and field.struct is None else {}
            values = {k: zero if v is None else v for k, v in value.items()}
            kept[key] = {k: _without_nulls(v, field.struct) for k, v in values.items()} if field.struct else values
        elif field.shape == "list" and isinstance(value, list):
            zero = {} if field.struct else ""
            items = [zero if v is None and (field.struct or field.scalar is str) else v for v in value]
            kept[key] = [_without_nulls(v, field.struct) for v in items] if field.struct else items
        else:
            kept[key] = _without_nulls(value, field.struct) if field.struct and not field.shape else value
    return kept


#: What msgspec expected, what it got (nothing: the type is right, the number too large or small), and where.
_MISMATCH = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`| [<>]= -?[0-9]+)(?: - at `\$\.?(.*)`)?")
_GO_KINDS = {"str": "string", "int": "number", "float": "number", "bool": "bool", "array": "array", "object": "object"}


def _explain(message: str, type_: type[Any], raw: Any) -> str:
    """A mismatch that msgspec found, as Go's decoder would tell it."""
    found = _MISMATCH.match(message)
    if found is None:
        return f"json: {message}"
    got = _GO_KINDS.get(found[2] or "int", found[2])
    if not found[3]:
        return f"json: cannot unmarshal {got} into Go value of type {type_.__name__}"
    parts = [p for p in re.split(r"\.|\[[^\]]*\]", found[3]) if p]
    element = found[3].endswith("]")
    holder, field = type_, None
    for part in parts:
        field = typeinfo.fields(holder).get(part) if holder else None
        if field is None:
            break
        if part is not parts[-1]:
            holder = field.struct or holder
    wanted = typeinfo.go_type(field) if field else found[1].removesuffix(" | null")
    if element and field:
        wanted = wanted.removeprefix("[]").removeprefix("map[string]")
    if got == "number" and wanted in ("int32", "int64", "intstr.IntOrString"):
        got = f"number {_number(raw, found[3])}"
        if wanted == "intstr.IntOrString":
            return f"json: cannot unmarshal {got} into Go value of type int32"
    return f"json: cannot unmarshal {got} into Go struct field {holder.__name__}.{'.'.join(parts)} of type {wanted}"


def _number(raw: Any, path: str) -> Any:
    """The number at a place as msgspec tells it: keys and indexes, and `[...]` for some value of a map."""
    found = [raw]
    for key, index in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", path):
        if key:
            found = [v[key] for v in found if isinstance(v, dict) and key in v]
        elif index == "...":
            found = [item for v in found if isinstance(v, dict) for item in v.values()]
        else:
            found = [v[int(index)] for v in found if isinstance(v, list)]
    numbers = [v for v in found if isinstance(v, int | float)]
    return next((n for n in numbers if isinstance(n, float) or not -(2**31) <= n < 2**31), "")


# -- scalars ----------------------------------------------------------------------------------------------------------


def canonicalize(obj: Any) -> None:
    """Quantities, times and base64 of a typed object in their canonical form, in place. Raises DecodeError."""
    step = _canonicalizer(type(obj))
    if step is not None:
        step(obj)


def _quantity(value: Any) -> str:
    try:
        return str(quantity.parse(value))
    except ValueError as error:
        raise DecodeError(str(error)) from None


def _time(value: str) -> str:
    try:
        return times.format(times.parse(value))
    except ValueError:
        layout = "2006-01-02T15:04:05Z07:00"
        raise DecodeError(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"') from None


def _micro_time(value: str) -> str:
    try:
        return times.format_micro(times.parse(value))
    except ValueError:
        layout = "2006-01-02T15:04:05.000000Z07:00"
        raise DecodeError(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"') from None


def _base64(value: str) -> str:
    text = value.replace("\n", "").replace("\r", "") if "\n" in value or "\r" in value else value
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        position = next((i for i, c in enumerate(text) if not (c.isascii() and (c.isalnum() or c in "+/="))), len(text))
        raise DecodeError(f"illegal base64 data at input byte {position}") from None
    return text


_SCALARS: dict[str, Callable[[Any], str]] = {
    "Quantity": _quantity,
    "Time": _time,
    "MicroTime": _micro_time,
    "Base64": _base64,
}
_Step = Callable[[Any], None]


@typeinfo.cached
def _holds_scalars(type_: type[Any]) -> bool:
    """Whether a value of `type_` can hold, at any depth, a scalar with a canonical form."""
    seen: set[type[Any]] = set()
    waiting = [type_]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for field in typeinfo.fields(current).values():
            if field.meaning in _SCALARS:
                return True
            if field.struct is not None:
                waiting.append(field.struct)
    return False


@typeinfo.cached
def _canonicalizer(type_: type[Any]) -> _Step | None:
    if not _holds_scalars(type_):
        return None
    scalars: list[tuple[str, str, Callable[[Any], str]]] = []
    structs: list[tuple[str, str, type[Any]]] = []
    for field in typeinfo.fields(type_).values():
        if field.meaning in _SCALARS:
            scalars.append((field.attribute, field.shape, _SCALARS[field.meaning]))
        elif field.struct is not None and _holds_scalars(field.struct):
            structs.append((field.attribute, field.shape, field.struct))

    def step(obj: Any) -> None:
        for attribute, shape, canonical in scalars:
            value = getattr(obj, attribute)
            if not value and value != 0:
                continue
            if shape == "map":
                for key, item in value.items():
                    value[key] = canonical(item)
            elif shape == "list":
                value[:] = [canonical(item) for item in value]
            else:
                setattr(obj, attribute, canonical(value))
        for attribute, shape, struct in structs:
            value = getattr(obj, attribute)
            if not value:
                continue
            inner = _canonicalizer(struct)
            assert inner is not None
            if not shape:
                inner(value)
            else:
                for item in value.values() if shape == "map" else value:
                    inner(item)

    return step
