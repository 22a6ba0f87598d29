"""The type checker of CEL: what type each part of an expression has, and which function each call means.

What is dynamic passes everywhere; what is not has to fit, and messages say so in upstream's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from podling.machinery.cel import types as t
from podling.machinery.cel.convert import parse_duration, parse_timestamp
from podling.machinery.cel.functions import Function, Functions, Overload
from podling.machinery.cel.strings import compiled
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
    SyntaxProblem,
    qualified_name,
)
from podling.machinery.cel.types import BOOL, DYN, ObjectType, Type, TypeValue, UInt

Mapping_ = dict[str, Type]

#: Names of types, as values.
TYPES: dict[str, Type] = {
    **{x.name: x for x in (t.BOOL, t.INT, t.UINT, t.DOUBLE, t.STRING, t.BYTES, t.TYPE, t.DURATION, t.TIMESTAMP)},
    "null_type": t.NULL,
    "list": t.list_of(DYN),
    "map": t.map_of(DYN, DYN),
    "optional_type": t.optional_of(DYN),
}
_NULLABLE = frozenset(("null", "opaque", "object", "duration", "timestamp"))
_LITERALS: dict[str, Callable[[str], Any]] = {
    "duration": parse_duration, "timestamp": parse_timestamp, "matches": compiled
}  # fmt: skip


class Checker:
    """Checks one expression. `types` and `calls` are what the evaluator needs of it."""

    def __init__(
        self,
        variables: Mapping[str, Type],
        functions: Functions,
        structs: Callable[[str], ObjectType | None] | None = None,
    ) -> None:
        self.functions = functions
        self.structs = structs or (lambda name: None)
        self.scopes: list[Mapping[str, Type]] = [variables]
        self.found: dict[Node, Type] = {}
        #: The function of each call, whether its target is an argument, and the overloads that may be meant.
        self.calls: dict[Node, tuple[Function, bool, list[Overload]]] = {}
        #: Variables with dots in their names, and types.
        self.names: dict[Node, str | TypeValue] = {}
        self.problems: list[SyntaxProblem] = []
        self.mapping: Mapping_ = {}

    def check(self, node: Node) -> Type:
        """The type of an expression; what is wrong is in `problems`."""
        type_ = self._check(node)
        return self.resolved(type_)

    def type_of(self, node: Node) -> Type:
        return self.resolved(self.found.get(node, DYN))

    def resolved(self, type_: Type) -> Type:
        """With all that has been found out; what has not is dynamic."""
        type_ = _find(self.mapping, type_)
        if type_.kind == "param":
            return DYN
        if not type_.params:
            return type_
        return type_.with_params(tuple(self.resolved(p) for p in type_.params))

    def _problem(self, node: Node | int, text: str) -> Type:
        self.problems.append(SyntaxProblem(node if isinstance(node, int) else node.pos, text))
        return t.ERROR

    def _check(self, node: Node) -> Type:
        type_ = self._CHECKS[type(node)](self, node)
        self.found[node] = type_
        return type_

    # names and fields

    def _const(self, node: Const) -> Type:
        return _literal(node.value)

    def _lookup(self, name: str) -> Type | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def _named(self, node: Node, name: str) -> Type | None:
        """A variable or a type of a qualified name."""
        found = self._lookup(name)
        if found is not None:
            self.names[node] = name
            return found
        type_ = TYPES.get(name)
        if type_ is not None:
            self.names[node] = TypeValue(name)
            return t.type_of_type(type_)
        return None

    def _ident(self, node: Ident) -> Type:
        found = self._named(node, node.name)
        if found is None:
            return self._problem(node, f"undeclared reference to '{node.name}' (in container '')")
        return found

    def _select(self, node: Select) -> Type:
        if not node.test and not node.optional and (name := qualified_name(node)):
            root = name.partition(".")[0]
            if not any(root in scope for scope in self.scopes[1:]):
                found = self._named(node, name)
                if found is not None:
                    return found
        operand = self.resolved(self._check(node.operand))
        optional = node.optional
        if operand.kind == "opaque" and operand.name == "optional_type":
            operand, optional = operand.params[0], True
        field = self._field(node, operand)
        if node.test:
            return BOOL
        return t.optional_of(field) if optional and field.kind != "error" else field

    def _field(self, node: Select, operand: Type) -> Type:
        if operand.kind in ("dyn", "error", "param"):
            return DYN
        if operand.kind == "map":
            return operand.params[1]
        if isinstance(operand, ObjectType):
            found = operand.lookup(node.field)
            return found if found is not None else self._problem(node, f"undefined field '{node.field}'")
        return self._problem(node, f"type '{operand}' does not support field selection")

    # calls

    def _call(self, node: Call) -> Type:
        args = list(node.args)
        function: Function | None = None
        member = False
        if node.target is not None:
            namespace = qualified_name(node.target)
            if namespace and self._lookup(namespace.partition(".")[0]) is None:
                function = self.functions.get(f"{namespace}.{node.function}")
            if function is None:
                member = True
                args = [node.target, *args]
        function = function or self.functions.get(node.function)
        types = [self._check(a) for a in args]
        if function is None:
            return self._problem(node, f"undeclared reference to '{node.function}' (in container '')")
        if any(x.kind == "error" for x in types):
            self.calls[node] = (function, member, function.overloads)
            return t.ERROR
        chosen, result = self._resolve(function, member, types)
        self.calls[node] = (function, member, chosen)
        if result is None:
            shown = [str(self.resolved(x)) for x in types]
            applied = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
            return self._problem(node, f"found no matching overload for '{function.name}' applied to '{applied}'")
        self._literals(function.name, args)
        return result

    def _resolve(self, function: Function, member: bool, types: list[Type]) -> tuple[list[Overload], Type | None]:
        chosen: list[Overload] = []
        result: Type | None = None
        for overload in function.overloads:
            if overload.member != member or len(overload.params) != len(types):
                continue
            fresh: Mapping_ = {}
            params = [_instance(p, fresh) for p in overload.params]
            mapping = dict(self.mapping)
            if not all(unify(mapping, p, a) for p, a in zip(params, types, strict=True)):
                continue
            self.mapping = mapping
            chosen.append(overload)
            found = self._known(_instance(overload.result, fresh))
            result = found if result is None or str(result) == str(found) else DYN
        return chosen, result

    def _known(self, type_: Type) -> Type:
        """With what has been found out so far; the rest stays open."""
        type_ = _find(self.mapping, type_)
        if type_.params:
            return type_.with_params(tuple(self._known(p) for p in type_.params))
        return type_

    def _literals(self, name: str, args: list[Node]) -> None:
        """Constants that are parsed at run time are parsed now."""
        parse = _LITERALS.get(name)
        if parse is None:
            return
        argument = args[-1]
        if isinstance(argument, Const) and isinstance(argument.value, str):
            try:
                parse(argument.value)
            except t.EvaluationError:
                self._problem(argument, f"invalid {name} argument")

    # aggregates

    def _joined(self, nodes: list[Node], types: list[Type]) -> Type:
        joined: Type | None = None
        for node, type_ in zip(nodes, types, strict=True):
            if joined is None or _find(self.mapping, joined).kind == "dyn":
                joined = type_ if joined is None else joined
            elif not unify(self.mapping, joined, type_):
                expected, found = self.resolved(joined), self.resolved(type_)
                return self._problem(node, f"expected type '{expected}' but found '{found}'")
            elif _find(self.mapping, type_).kind == "dyn":
                joined = DYN
        return joined if joined is not None else t.variable()

    def _list(self, node: ListNode) -> Type:
        types = []
        for position, item in enumerate(node.items):
            type_ = self._check(item)
            types.append(self._unwrapped(item, type_) if position in node.optional else type_)
        return t.list_of(self._joined(node.items, types))

    def _unwrapped(self, node: Node, type_: Type) -> Type:
        """The type within an optional entry's value."""
        found = self.resolved(type_)
        if found.kind in ("dyn", "error"):
            return DYN
        if found.name == "optional_type":
            return found.params[0]
        return self._problem(node, f"expected type 'optional_type({found})' but found '{found}'")

    def _map(self, node: MapNode) -> Type:
        keys = [k for k, _, _ in node.entries]
        values = [v for _, v, _ in node.entries]
        key = self._joined(keys, [self._check(k) for k in keys])
        types = [self._unwrapped(v, self._check(v)) if optional else self._check(v) for _, v, optional in node.entries]
        return t.map_of(key, self._joined(values, types))

    def _struct(self, node: StructNode) -> Type:
        struct = self.structs(node.name)
        if struct is None:
            for _, _, value, _ in node.entries:
                self._check(value)
            return self._problem(node, f"undeclared reference to '{node.name}' (in container '')")
        for position, field, value, optional in node.entries:
            type_ = self._check(value)
            if optional:
                type_ = self._unwrapped(value, type_)
            wanted = struct.lookup(field)
            if wanted is None:
                self._problem(position, f"undefined field '{field}'")
            elif not unify(self.mapping, wanted, type_):
                self._problem(
                    position,
                    f"expected type of field '{field}' is '{wanted}' but provided type is '{self.resolved(type_)}'",
                )
        return struct

    # macros

    def _comprehension(self, node: Comprehension) -> Type:
        range_ = self.resolved(self._check(node.range))
        if node.kind in ("optMap", "optFlatMap"):
            return self._optional(node, range_)
        first, second = self._variables(node, range_)
        scope = {node.var: first}
        if node.second:
            scope[node.second] = second
        self.scopes.append(scope)
        try:
            filter_ = self._check(node.filter) if node.filter is not None else BOOL
            body = self._check(node.body)
        finally:
            self.scopes.pop()
        if not unify(self.mapping, BOOL, filter_):
            self._mismatch(node, "_?_:_", f"({self.resolved(filter_)}, list(dyn), list(dyn))")
        item = first if not node.second else second
        return self._macro(node, item, body, range_)

    def _macro(self, node: Comprehension, item: Type, body: Type, range_: Type) -> Type:
        kind = node.kind
        if kind in ("all", "exists", "exists_one", "filter"):
            if not unify(self.mapping, BOOL, body):
                found = self.resolved(body)
                operator, applied = {
                    "all": ("_&&_", f"(bool, {found})"), "exists": ("_||_", f"(bool, {found})")
                }.get(kind, ("_?_:_", f"({found}, dyn, dyn)"))  # fmt: skip
                return self._mismatch(node, operator, applied)
            return t.list_of(item) if kind == "filter" else BOOL
        if kind in ("map", "transformList"):
            return t.list_of(body)
        if kind == "transformMap":
            return t.map_of(range_.params[0] if range_.kind == "map" else t.INT, body)
        if kind == "transformMapEntry":
            found = self.resolved(body)
            return found if found.kind == "map" else t.map_of(DYN, DYN)
        return t.list_of(item)

    def _mismatch(self, node: Node, function: str, applied: str) -> Type:
        return self._problem(node, f"found no matching overload for '{function}' applied to '{applied}'")

    def _variables(self, node: Comprehension, range_: Type) -> tuple[Type, Type]:
        """The types of the one or two variables; with one, of a map its keys."""
        if range_.kind == "list":
            return (t.INT, range_.params[0]) if node.second else (range_.params[0], DYN)
        if range_.kind == "map":
            return range_.params[0], range_.params[1]
        if range_.kind not in ("dyn", "error"):
            self._problem(
                node.range,
                f"expression of type '{range_}' cannot be range of a comprehension (must be list, map, or dynamic)",
            )
        return DYN, DYN

    def _optional(self, node: Comprehension, range_: Type) -> Type:
        item = range_.params[0] if range_.name == "optional_type" else DYN
        if range_.name != "optional_type" and range_.kind not in ("dyn", "error"):
            return self._mismatch(node, "hasValue", f"{range_}.()")
        self.scopes.append({node.var: item})
        try:
            body = self._check(node.body)
        finally:
            self.scopes.pop()
        return t.optional_of(body) if node.kind == "optMap" else body

    _CHECKS: dict[type[Node], Callable[[Checker, Any], Type]] = {
        Const: _const,
        Ident: _ident,
        Select: _select,
        Call: _call,
        ListNode: _list,
        MapNode: _map,
        StructNode: _struct,
        Comprehension: _comprehension,
    }


def _literal(value: Any) -> Type:
    if value is None:
        return t.NULL
    if isinstance(value, UInt):
        return t.UINT
    return {bool: t.BOOL, int: t.INT, float: t.DOUBLE, str: t.STRING, bytes: t.BYTES}[type(value)]


def _instance(type_: Type, fresh: Mapping_) -> Type:
    """A declaration's type with variables of its own."""
    if type_.kind == "param":
        if type_.name not in fresh:
            fresh[type_.name] = t.variable()
        return fresh[type_.name]
    if not type_.params:
        return type_
    return Type(type_.kind, type_.name, tuple(_instance(p, fresh) for p in type_.params))


def _find(mapping: Mapping_, type_: Type) -> Type:
    while type_.kind == "param" and type_.name in mapping:
        type_ = mapping[type_.name]
    return type_


def _occurs(mapping: Mapping_, name: str, type_: Type) -> bool:
    type_ = _find(mapping, type_)
    if type_.kind == "param":
        return type_.name == name
    return any(_occurs(mapping, name, p) for p in type_.params)


def _more_general(a: Type, b: Type) -> bool:
    """Whether `a` says less than `b`."""
    if a.kind == "dyn":
        return b.kind != "dyn"
    if a.kind != b.kind or len(a.params) != len(b.params):
        return False
    return any(_more_general(x, y) for x, y in zip(a.params, b.params, strict=True))


def unify(mapping: Mapping_, want: Type, have: Type) -> bool:
    """Whether what is of type `have` fits where `want` is wanted; finds out variables."""
    target, source = _find(mapping, want), _find(mapping, have)
    if target is source:
        return True
    if target.kind == "param":
        if source.kind == "param" and source.name == target.name:
            return True
        if _occurs(mapping, target.name, source):
            return False
        mapping[target.name] = source
        return True
    if source.kind == "param":
        if _occurs(mapping, source.name, target):
            return False
        mapping[source.name] = target
        return True
    if not _fits(mapping, target, source):
        return False
    if want.kind == "param" and (_more_general(source, target) or target.kind == "null"):
        while mapping[want.name].kind == "param":
            want = mapping[want.name]
        mapping[want.name] = source
    return True


def _fits(mapping: Mapping_, target: Type, source: Type) -> bool:
    kinds = (target.kind, source.kind)
    if "dyn" in kinds or "error" in kinds:
        return True
    if "null" in kinds:
        return kinds[0] in _NULLABLE and kinds[1] in _NULLABLE
    if kinds[0] != kinds[1] or target.name != source.name:
        return False
    if kinds[0] == "type":
        return True
    if len(target.params) != len(source.params):
        return False
    return all(unify(mapping, a, b) for a, b in zip(target.params, source.params, strict=True))
