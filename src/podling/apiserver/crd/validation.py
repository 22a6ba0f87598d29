"""Values against the OpenAPI v3 schema of a custom resource, with upstream's paths and messages (kube-openapi).

A schema is compiled once. On updates, what a write leaves as it is may stay wrong ("ratcheting", KEP-4008): a schema
may get stricter without making old objects impossible to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from podling.api.errors import FieldError
from podling.apiserver.crd import formats
from podling.machinery.cel import strings as cel_strings
from podling.machinery.cel.types import EvaluationError
from podling.machinery.validation import quote

#: Nothing is known of what was there before.
NO_OLD: Any = object()
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_TYPE_FORMATS = {"integer": "int64", "number": "float64"}


class Problem(NamedTuple):
    """`code` says which finding it becomes; of one without a path only the message counts."""

    code: str
    path: str
    message: str
    value: Any = None
    valid: Any = None


class Result:
    """Problems, and how much was right: that tells which of several alternatives was meant."""

    __slots__ = ("matches", "problems")

    def __init__(self, *problems: Problem, matches: int = 0) -> None:
        self.problems = list(problems)
        self.matches = matches

    def merge(self, other: Result) -> None:
        self.problems += other.problems
        self.matches += other.matches


def _go_number(value: Any) -> str:
    """As Go prints a float64 with %v."""
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e21:
            return str(int(value))
        text = f"{value:.17g}"
        return next((t for t in (f"{value:.{n}g}" for n in range(1, 18)) if float(t) == value), text)
    return str(value)


def kind_of(value: Any) -> str:
    found = _TYPES.get(type(value))
    if found is None:
        found = next((name for type_, name in _TYPES.items() if isinstance(value, type_)), "")
    return found


class Validator:
    """The check of one place in a schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        kind = schema.get("type") or ""
        self.types: tuple[str, ...] = (kind,) if kind else ()
        if schema.get("x-kubernetes-int-or-string"):
            self.types = ("integer", "string")
        self.nullable = bool(schema.get("nullable"))
        single = self.types[0] if len(self.types) == 1 else ""
        format_ = schema.get("format") or ""
        self.format = format_ if format_ and formats.known(single, format_) else ""
        self.has_format = formats.check(self.format) if self.format else None
        self.enum = schema.get("enum") or []
        self.properties = {name: Validator(field) for name, field in (schema.get("properties") or {}).items()}
        more = schema.get("additionalProperties")
        self.more = Validator(more) if isinstance(more, Mapping) else None
        self.closed = more is False
        items = schema.get("items")
        self.items = Validator(items) if isinstance(items, Mapping) else None
        self.required = schema.get("required") or []
        self.all_of, self.any_of, self.one_of = (
            [Validator(part) for part in schema.get(key) or ()] for key in ("allOf", "anyOf", "oneOf")
        )
        not_ = schema.get("not")
        self.not_ = Validator(not_) if isinstance(not_, Mapping) else None
        self.list_type = schema.get("x-kubernetes-list-type") or ""
        self.keys = schema.get("x-kubernetes-list-map-keys") or []
        self.regexp, self.pattern = _compiled(schema.get("pattern") or "")
        self.limits = {
            name: schema[name]
            for name in (
                "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minimum",
                "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum",
            )
            if schema.get(name) is not None
        }  # fmt: skip

    # The walk

    def check(self, value: Any, path: str, old: Any = NO_OLD) -> Result:
        """`old` is what was there, if it is known what that is."""
        result = self._check(value, path, old)
        if result.problems and old is not NO_OLD and same(value, old):
            return Result(matches=result.matches)
        return result

    def _check(self, value: Any, path: str, old: Any) -> Result:
        result = Result()
        if value is None:
            result.merge(self._type(None, path))
            result.merge(self._enum(None, path))
            return result
        kind = kind_of(value)
        if self.types or self.format:
            result.merge(self._type(value, path))
            result.matches += 1
        result.merge(self._junctions(value, path))
        if kind == "string":
            result.merge(self._string(value, path))
        elif kind in ("integer", "number"):
            result.merge(self._number(value, path))
        elif kind == "array":
            result.merge(self._array(value, path, old))
        result.merge(self._enum(value, path))
        if kind == "object":
            result.merge(self._object(value, path, old))
        result.matches += 3
        return result

    def _type(self, value: Any, path: str) -> Result:
        ok = Result(matches=1)
        if value is None:
            if self.types and not self.nullable:
                return Result(_bad_type(path, ",".join(self.types), "null"))
            return ok
        kind = kind_of(value)
        whole = kind == "number" and value.is_integer() and "integer" in self.types
        fits = kind in self.types or whole or (kind == "integer" and "number" in self.types)
        format_ = _TYPE_FORMATS.get(kind, "")
        if self.format:
            if kind not in ("string", "array"):
                if not fits and format_ != self.format:
                    return Result(_bad_type(path, self.format, format_))
            elif not {"number", "integer"} & set(self.types):
                return ok
        return ok if fits else Result(_bad_type(path, ",".join(self.types), kind))

    def _enum(self, value: Any, path: str) -> Result:
        if not self.enum or (value is not None and any(same(value, allowed) for allowed in self.enum)):
            return Result()
        return Result(Problem("enum", path, "", value, self.enum))

    def _string(self, value: str, path: str) -> Result:
        limits = self.limits
        longest, shortest = limits.get("maxLength"), limits.get("minLength")
        result = Result(matches=1)
        if longest is not None and len(value) > longest:
            message = f"{path} in body should be at most {longest} chars long"
            result.problems.append(Problem("too long", path, message, value, longest))
        elif shortest is not None and len(value) < shortest:
            message = f"{path} in body should be at least {shortest} chars long"
            result.problems.append(Problem("", path, message, value))
        elif self.regexp is not None and not self.regexp(value):
            message = f"{path} in body should match '{self.pattern}'"
            result.problems.append(Problem("", path, message, value))
        if self.has_format is not None and not self.has_format(value):
            result.problems.append(_bad_type(path, self.format, value))
        return result

    def _number(self, value: Any, path: str) -> Result:
        result = Result(matches=1)
        add, limits = result.problems.append, self.limits
        for problem in self._range(value, path):
            add(problem)
        factor = limits.get("multipleOf")
        if factor is not None and not _is_multiple(value, factor):
            add(Problem("", path, f"{path} in body should be a multiple of {_go_number(factor)}", value))
        low, high = limits.get("minimum"), limits.get("maximum")
        if low is not None:
            low = int(low) if isinstance(value, int) else low
            exclusive = limits.get("exclusiveMinimum")
            if value < low or (exclusive and value == low):
                words = "greater than" if exclusive else "greater than or equal to"
                add(Problem("", path, f"{path} in body should be {words} {_go_number(low)}", value))
        if high is not None:
            high = int(high) if isinstance(value, int) else high
            exclusive = limits.get("exclusiveMaximum")
            if value > high or (exclusive and value == high):
                words = "less than" if exclusive else "less than or equal to"
                add(Problem("", path, f"{path} in body should be {words} {_go_number(high)}", value))
        return result

    def _range(self, value: Any, path: str) -> list[Problem]:
        """Whether a number fits into what its format can hold."""
        if self.format == "int32" and not -(1 << 31) <= value < 1 << 31:
            return [Problem("plain", "", f"Checked value must be of type integer with format int32 in {path}")]
        if self.types == ("integer",) and not -(1 << 63) <= value < 1 << 63:
            with_format = f"with format {self.format}" if self.format else "(default format)"
            return [Problem("plain", "", f"Checked value must be of type integer {with_format} in {path}")]
        if self.format == "float" and abs(value) > 3.4028234663852886e38:
            return [Problem("plain", "", f"Checked value must be of type number with format float in {path}")]
        return []

    def _array(self, value: list[Any], path: str, old: Any) -> Result:
        result = Result(matches=1)
        if self.items is not None:
            before = self._correlated(value, old)
            for index, item in enumerate(value):
                result.merge(self.items.check(item, f"{path}[{index}]", before(index)))
        fewest, most = self.limits.get("minItems"), self.limits.get("maxItems")
        if fewest is not None and len(value) < fewest:
            message = f"{path} in body should have at least {fewest} items"
            result.problems.append(Problem("", path, message, len(value)))
        if most is not None and len(value) > most:
            result.problems.append(Problem("too many", path, "", len(value), most))
        return result

    def _correlated(self, value: list[Any], old: Any) -> Callable[[int], Any]:
        """Which old item is the one at an index now: known only of lists that are maps."""
        if self.list_type != "map" or not isinstance(old, list):
            return lambda index: NO_OLD
        return correlation(value, old, self.keys)

    def _object(self, value: dict[str, Any], path: str, old: Any) -> Result:
        result = Result()
        add, limits = result.problems.append, self.limits
        fewest, most = limits.get("minProperties"), limits.get("maxProperties")
        if fewest is not None and len(value) < fewest:
            add(Problem("", path, f"{path} in body should have at least {fewest} properties", len(value)))
        if most is not None and len(value) > most:
            add(Problem("too many", path, "", len(value), most))
        before = old if isinstance(old, dict) else {}
        for key, item in value.items():
            validator = self.properties.get(key)
            if validator is not None:
                at = f"{path}.{key}" if path else key
                fixed = not path and key in ("kind", "apiVersion")
                result.merge(validator.check(item, at, NO_OLD if fixed else before.get(key, NO_OLD)))
            elif self.closed:
                add(Problem("", path, f"{path}.{key} in body is a forbidden property", key))
            elif self.more is not None:
                result.merge(self.more.check(item, f"{path}.{key}", before.get(key, NO_OLD)))
        for key in self.required:
            if key not in value:
                add(Problem("required", f"{path}.{key}", ""))
        return result

    # Alternatives

    def _junctions(self, value: Any, path: str) -> Result:
        result = Result(matches=1)
        if self.any_of:
            result.merge(self._any(value, path))
        if self.one_of:
            result.merge(self._one(value, path))
        if self.all_of:
            found = [part.check(value, path) for part in self.all_of]
            for one in found:
                result.merge(one)
            right = sum(not one.problems for one in found)
            if right != len(found):
                rest = "" if right else ". None validated"
                result.problems.append(_whole(f"{quote(path)} must validate all the schemas (allOf){rest}"))
        if self.not_ is not None and not self.not_.check(value, path).problems:
            result.problems.append(_whole(f"{quote(path)} must not validate the schema (not)"))
        return result

    def _any(self, value: Any, path: str) -> Result:
        best: Result | None = None
        for part in self.any_of:
            found = part.check(value, path)
            if not found.problems:
                return found
            if best is None or found.matches > best.matches:
                best = found
        result = Result(_whole(f"{quote(path)} must validate at least one schema (anyOf)"))
        if best is not None:
            result.merge(best)
        return result

    def _one(self, value: Any, path: str) -> Result:
        best: Result | None = None
        right: list[Result] = []
        for part in self.one_of:
            found = part.check(value, path)
            if not found.problems:
                right.append(found)
                best = None
            elif not right and (best is None or found.matches > best.matches):
                best = found
        if len(right) == 1:
            return right[0]
        how = f"Found {len(right)} valid alternatives" if right else "Found none valid"
        result = Result(_whole(f"{quote(path)} must validate one and only one schema (oneOf). {how}"))
        if best is not None:
            result.merge(best)
        return result


def correlation(value: list[Any], old: list[Any], keys: list[str]) -> Callable[[int], Any]:
    """For a list of x-kubernetes-list-type map: the old item with the keys of the one at an index."""

    def key(item: Any) -> Any:
        return repr([item.get(k) for k in keys]) if isinstance(item, dict) else None

    before = {key(item): item for item in old if isinstance(item, dict)}
    return lambda index: before.get(key(value[index]), NO_OLD)


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict):
        if not isinstance(other, dict) or len(one) != len(other):
            return False
        return all(key in other and same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _compiled(pattern: str) -> tuple[Callable[[str], Any] | None, str]:
    """What finds a pattern in a text, and the pattern as messages show it. One that is broken is in no text."""
    if not pattern:
        return None, ""
    try:
        return cel_strings.compiled(pattern).search, pattern
    except EvaluationError as error:
        return lambda text: None, f"{pattern}, but pattern is invalid: {error}"


def _is_multiple(value: Any, factor: Any) -> bool:
    if isinstance(value, int) and float(factor).is_integer():
        return factor == 0 or value % int(factor) == 0
    quotient = value / factor if factor >= 1 else 1 / factor * value
    return bool(abs(quotient - round(quotient)) < 1e-9 * max(1.0, abs(quotient)))


def _bad_type(path: str, wanted: str, value: str) -> Problem:
    said = f": {quote(value)}" if value else ""
    return Problem("type", path, f"{path} in body must be of type {wanted}{said}", value)


def _whole(message: str) -> Problem:
    return Problem("plain", "", message)


# -- findings ---------------------------------------------------------------------------------------------------------


def findings(validator: Validator, value: Any, old: Any = NO_OLD, prefix: str = "") -> list[FieldError]:
    """What is wrong with a value at `prefix`; on an update, with what it changes of `old`."""
    from podling.machinery import validation

    found: list[FieldError] = []
    for problem in validator.check(value, "", old).problems:
        path = f"{prefix}.{problem.path.removeprefix('.')}" if prefix and problem.path.strip(".") else prefix
        at = validation.Path((path if prefix else problem.path.removeprefix(".")) or "<nil>")
        match problem.code:
            case "required":
                found.append(validation.required(at))
            case "enum":
                allowed = [v if isinstance(v, str) else _json(v) for v in problem.valid]
                value = "null" if problem.value is None else problem.value
                found.append(validation.not_supported(at, value, allowed))
            case "too long":
                found.append(validation.too_long(at, problem.valid))
            case "too many":
                found.append(validation.too_many(at, problem.value, problem.valid))
            case "type":
                found.append(validation.type_invalid(at, problem.value, problem.message))
            case "plain":
                found.append(validation.invalid(validation.Path(prefix or "<nil>"), "", problem.message))
            case _:
                found.append(validation.invalid(at, "" if problem.value is None else problem.value, problem.message))
    return found


def _json(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()
