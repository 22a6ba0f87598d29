"""The evaluator of CEL: a checked tree becomes nested Python functions, which are then called with the variables.

What an evaluation costs is counted roughly as upstream counts it (one for each step, more for long texts and lists),
and an evaluation that costs too much is ended.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podling.machinery.cel import convert as convert
from podling.machinery.cel import functions as functions
from podling.machinery.cel import operators as operators
from podling.machinery.cel import types as t
from podling.machinery.cel.check import Checker
from podling.machinery.cel.functions import Overload
from podling.machinery.cel.operators import no_overload
from podling.machinery.cel.syntax import (
    Call,
    Comprehension,
    Const,
    Ident,
    ListNode,
    MapNode,
    Node,
    Select,
    StructNode,
)
from podling.machinery.cel.types import NONE, EvaluationError, ObjectType, Optional, Type, TypeValue, fits


class CostExceeded(EvaluationError):
    """Too much to compute."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Frame:
    """One evaluation."""

    __slots__ = ("cost", "limit", "vars")

    def __init__(self, variables: Mapping[str, Any], limit: int) -> None:
        self.vars: dict[str, Any] = dict(variables)
        self.cost = 0
        self.limit = limit

    def spend(self, amount: int) -> None:
        self.cost += amount
        if self.cost > self.limit:
            raise CostExceeded


Run = Callable[[Frame], Any]
_MISSING = object()
_TRAVERSING = frozenset(("_==_", "_!=_", "_+_", "@in"))
_FREE = frozenset(("_[_]", "_[?_]", "!_", "-_", "dyn", "type"))


class Compiler:
    """Makes the functions of a checked expression."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.renamed: list[dict[str, str]] = []
        self.count = 0

    def compile(self, node: Node) -> Run:
        return self._MAKERS[type(node)](self, node)

    def _const(self, node: Const) -> Run:
        value = node.value
        return lambda f: value

    def _named(self, node: Node) -> Run | None:
        name = self.checker.names.get(node)
        if name is None:
            return None
        if isinstance(name, TypeValue):
            return lambda f: name
        for scope in reversed(self.renamed):
            if name in scope:
                name = scope[name]
                break
        key: str = name

        def read(f: Frame) -> Any:
            f.cost += 1
            value = f.vars.get(key, _MISSING)
            if value is _MISSING:
                raise EvaluationError(f"no such attribute(s): {key}")
            return value

        return self._typed(node, read)

    def _ident(self, node: Ident) -> Run:
        run = self._named(node)
        assert run is not None
        return run

    def _typed(self, node: Node, run: Run) -> Run:
        """With values as their type in the schema says, where JSON has only texts and numbers."""
        convert = _CONVERSIONS.get(self.checker.type_of(node).kind)
        if convert is None:
            return run
        return lambda f: convert(run(f))

    def _select(self, node: Select) -> Run:
        named = self._named(node)
        if named is not None:
            return named
        operand = self.compile(node.operand)
        type_ = self.checker.type_of(node.operand)
        if type_.name == "optional_type":
            type_ = type_.params[0]
        field = type_.wire.get(node.field, node.field) if isinstance(type_, ObjectType) else node.field
        if node.test:
            return _tested(operand, field)
        if node.optional:
            return self._typed(node, _optional_field(operand, field))

        def select(f: Frame) -> Any:
            f.cost += 1
            value = operand(f)
            if isinstance(value, dict):
                found = value.get(field, _MISSING)
                if found is not _MISSING:
                    return found
            elif isinstance(value, Optional):
                return _field_of(value, field)
            raise EvaluationError(f"no such key: {field}")

        return self._typed(node, select)

    # calls

    def _call(self, node: Call) -> Run:
        function, member, chosen = self.checker.calls[node]
        nodes = [node.target, *node.args] if member and node.target is not None else node.args
        args = [self.compile(n) for n in nodes]
        name = function.name
        if name == "_&&_" or name == "_||_":
            return _logic(args[0], args[1], stop=name == "_||_")
        if name == "_?_:_":
            return _conditional(*args)
        if name in ("_==_", "_!=_", "_+_"):
            special = self._merged(name, nodes, args)
            if special is not None:
                return special
        run = _total(name, function.total, args) if function.total is not None else self._chosen(name, chosen, args)
        return self._typed(node, run) if name in ("_[_]", "_[?_]") else run

    def _chosen(self, name: str, chosen: list[Overload], args: list[Run]) -> Run:
        """The one overload that is meant, or the one that fits the values."""

        # No more than two questions to the authorizer fit into one evaluation.
        fixed = 350_000 if name == "check" else 1

        def dispatch(f: Frame) -> Any:
            values = [a(f) for a in args]
            f.spend(fixed + _sizes(values))
            for overload in chosen:
                if all(map(fits, values, overload.params)):
                    return overload.implementation(*values)
            raise no_overload(name, *values)

        return dispatch

    def _merged(self, name: str, nodes: list[Node], args: list[Run]) -> Run | None:
        """== and + of lists that are sets or maps in their schema."""
        left, right = args
        type_ = next((x for x in map(self.checker.type_of, nodes) if x.merge in ("set", "map")), None)
        if type_ is None:
            return None
        operation = _merge if name == "_+_" else _merge_equal
        negated = name == "_!=_"

        def run(f: Frame) -> Any:
            a, b = left(f), right(f)
            f.spend(1 + _sizes((a, b)) * 10)
            found = operation(a, b, type_)
            return not found if negated else found

        return run

    # aggregates

    def _list(self, node: ListNode) -> Run:
        items = [self.compile(i) for i in node.items]
        optional = node.optional
        if not optional:

            def make(f: Frame) -> list[Any]:
                f.cost += 10
                return [i(f) for i in items]

            return make

        def make_optional(f: Frame) -> list[Any]:
            f.cost += 10
            found = []
            for position, item in enumerate(items):
                value = item(f)
                if position in optional:
                    if not value.present:
                        continue
                    value = value.value
                found.append(value)
            return found

        return make_optional

    def _map(self, node: MapNode) -> Run:
        entries = [(self.compile(k), self.compile(v), optional) for k, v, optional in node.entries]

        def make(f: Frame) -> dict[Any, Any]:
            f.cost += 30
            found: dict[Any, Any] = {}
            for key, value, optional in entries:
                k, v = key(f), value(f)
                if optional:
                    if not v.present:
                        continue
                    v = v.value
                if isinstance(k, list | dict):
                    raise EvaluationError(f"unsupported key type: {t.name_of(k)}")
                if k in found:
                    raise EvaluationError(f"duplicate key in map: {operators.shown(k)}")
                found[k] = v
            return found

        return make

    def _struct(self, node: StructNode) -> Run:
        struct = self.checker.structs(node.name)
        wire: Mapping[str, str] = struct.wire if struct is not None else {}
        entries = [(wire.get(name, name), self.compile(v), optional) for _, name, v, optional in node.entries]
        name = node.name

        def make(f: Frame) -> t.Object:
            f.cost += 40
            found: dict[str, Any] = {}
            for field, value, optional in entries:
                v = value(f)
                if optional:
                    if not v.present:
                        continue
                    v = v.value
                found[field] = v
            return t.Object(name, found)

        return make

    # macros

    def _comprehension(self, node: Comprehension) -> Run:
        range_ = self.compile(node.range)
        self.count += 1
        first, second = f"{node.var}#{self.count}", f"{node.second}##{self.count}" if node.second else ""
        self.renamed.append({node.var: first} | ({node.second: second} if second else {}))
        body = self.compile(node.body)
        filter_ = self.compile(node.filter) if node.filter is not None else None
        self.renamed.pop()
        if node.kind in ("optMap", "optFlatMap"):
            return _optional_map(range_, first, body, flat=node.kind == "optFlatMap")
        each = _steps(range_, first, second)
        if node.kind in ("all", "exists"):
            return _quantified(each, body, stop=node.kind == "exists")
        if node.kind == "exists_one":
            return lambda f: sum(_truth(body(f)) for _ in each(f)) == 1
        if node.kind == "filter":
            name = second or first
            return lambda f: [f.vars[name] for _ in each(f) if _truth(body(f))]
        if node.kind in ("map", "transformList"):
            if filter_ is None:
                return lambda f: [body(f) for _ in each(f)]
            return lambda f: [body(f) for _ in each(f) if _truth(filter_(f))]
        if node.kind == "sortBy":
            return _sorted(each, first, body)
        return _transformed(each, first, body, filter_, entries=node.kind == "transformMapEntry")

    _MAKERS: dict[type[Node], Callable[[Compiler, Any], Run]] = {
        Const: _const,
        Ident: _ident,
        Select: _select,
        Call: _call,
        ListNode: _list,
        MapNode: _map,
        StructNode: _struct,
        Comprehension: _comprehension,
    }


def _as_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value)
    except binascii.Error:
        raise EvaluationError("invalid base64") from None


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "timestamp": lambda v: convert.parse_timestamp(v) if isinstance(v, str) else v,
    "duration": lambda v: convert.parse_duration(v) if isinstance(v, str) else v,
    "bytes": _as_bytes,
    "double": lambda v: float(v) if type(v) is int else v,
    "int": lambda v: int(v) if type(v) is float and v.is_integer() else v,
}


def _sizes(values: Iterable[Any]) -> int:
    return sum(len(v) // 10 for v in values if isinstance(v, str | list | bytes))


def _total(name: str, implementation: Callable[..., Any], args: list[Run]) -> Run:
    """An operator: it takes every value, and says itself what it can't take."""
    if len(args) == 2:
        left, right = args
        if name in _TRAVERSING:

            def traverse(f: Frame) -> Any:
                a, b = left(f), right(f)
                f.cost += 1
                if isinstance(a, str | list | dict) or isinstance(b, list):
                    f.spend(_sizes((a, b)))
                return implementation(a, b)

            return traverse

        def binary(f: Frame) -> Any:
            f.cost += 1
            return implementation(left(f), right(f))

        return binary
    (only,) = args

    def unary(f: Frame) -> Any:
        f.cost += 1
        return implementation(only(f))

    return unary


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise EvaluationError("no such overload")


def _logic(left: Run, right: Run, *, stop: bool) -> Run:
    """&& and ||: the value that decides wins over an error on the other side."""

    def run(f: Frame) -> bool:
        failure: EvaluationError | None = None
        for side in (left, right):
            try:
                value = side(f)
                decided = value is stop
                if decided:
                    return stop
                if not isinstance(value, bool):
                    raise EvaluationError("no such overload")
            except CostExceeded:
                raise
            except EvaluationError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return not stop

    return run


def _conditional(condition: Run, then: Run, otherwise: Run) -> Run:
    def run(f: Frame) -> Any:
        return then(f) if _truth(condition(f)) else otherwise(f)

    return run


def _tested(operand: Run, field: str) -> Run:
    def has(f: Frame) -> bool:
        value = operand(f)
        if isinstance(value, Optional):
            value = value.value
        return isinstance(value, dict) and field in value

    return has


def _field_of(value: Any, field: str) -> Optional:
    if isinstance(value, Optional):
        value = value.value if value.present else None
    if isinstance(value, dict):
        found = value.get(field, _MISSING)
        return NONE if found is _MISSING else Optional(found)
    return NONE


def _optional_field(operand: Run, field: str) -> Run:
    def select(f: Frame) -> Optional:
        f.cost += 1
        return _field_of(operand(f), field)

    return select


def _optional_map(range_: Run, name: str, body: Run, *, flat: bool) -> Run:
    def run(f: Frame) -> Optional:
        value = range_(f)
        if not isinstance(value, Optional):
            raise no_overload("hasValue", value)
        if not value.present:
            return NONE
        f.vars[name] = value.value
        found = body(f)
        if not flat:
            return Optional(found)
        if not isinstance(found, Optional):
            raise no_overload("optFlatMap", found)
        return found

    return run


def _steps(range_: Run, first: str, second: str) -> Callable[[Frame], Iterable[None]]:
    """Sets the variables to each item in turn."""

    def steps(f: Frame) -> Iterable[None]:
        value = range_(f)
        if isinstance(value, list):
            pairs: Iterable[tuple[Any, Any]] = enumerate(value) if second else ((v, None) for v in value)
        elif isinstance(value, dict):
            pairs = value.items()
        else:
            raise EvaluationError(f"got '{t.name_of(value)}', expected iterable type")
        variables = f.vars
        for a, b in pairs:
            variables[first] = a
            if second:
                variables[second] = b
            f.spend(3)
            yield

    return steps


def _quantified(each: Callable[[Frame], Iterable[None]], body: Run, *, stop: bool) -> Run:
    """all and exists: an item that decides wins over errors of others."""

    def run(f: Frame) -> bool:
        failure: EvaluationError | None = None
        for _ in each(f):
            try:
                if _truth(body(f)) is stop:
                    return stop
            except CostExceeded:
                raise
            except EvaluationError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return not stop

    return run


def _sorted(each: Callable[[Frame], Iterable[None]], name: str, body: Run) -> Run:
    def run(f: Frame) -> list[Any]:
        items, keys = [], []
        for _ in each(f):
            items.append(f.vars[name])
            keys.append(body(f))
        return functions.sort_by(items, keys)

    return run


def _transformed(
    each: Callable[[Frame], Iterable[None]], first: str, body: Run, filter_: Run | None, *, entries: bool
) -> Run:
    def run(f: Frame) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in each(f):
            if filter_ is not None and not _truth(filter_(f)):
                continue
            made = body(f)
            for key, value in made.items() if entries else ((f.vars[first], made),):
                if key in found:
                    raise EvaluationError(f"insert failed: key {operators.shown(key)} already exists")
                found[key] = value
        return found

    return run


def _merge(a: Any, b: Any, type_: Type) -> Any:
    """+ of sets and maps: what is in both is there once, and with the right one's value."""
    if not (isinstance(a, list) and isinstance(b, list)):
        return operators.add(a, b)
    if type_.merge == "set":
        return [*a, *(x for x in b if not operators.contains(x, a))]
    found = t.keyed(a, type_.keys) | t.keyed(b, type_.keys)
    return list(found.values())


def _merge_equal(a: Any, b: Any, type_: Type) -> bool:
    if type_.merge == "set":
        return t.set_equal(a, b)
    if not (isinstance(a, list) and isinstance(b, list)) or len(a) != len(b):
        return t.equal(a, b)
    left, right = t.keyed(a, type_.keys), t.keyed(b, type_.keys)
    return all(k in right and t.equal(v, right[k]) for k, v in left.items())
