"""What an expression may cost at most, found out before it is ever run: from the sizes that its schema allows.

A rule that could cost too much is refused when it is written, so that no object can make it expensive later. The unit
is upstream's: one for each step, a tenth for each character that is read. Source: cel-go's checker/cost.go and
k8s.io/apiserver pkg/cel/library/cost.go.
"""

from __future__ import annotations

import math

from podling.machinery.cel import Program
from podling.machinery.cel.check import Checker
from podling.machinery.cel.schema import MAX_REQUEST
from podling.machinery.cel.syntax import Call, Comprehension, Const, Ident, ListNode, MapNode, Node, Select, StructNode
from podling.machinery.cel.types import Type

#: Of one rule with all the places that it is evaluated at, and of all rules of a custom resource definition.
RULE_LIMIT = 10_000_000
DEFINITION_LIMIT = 100_000_000
#: Without any bound.
UNBOUNDED = float(2**64 - 1)

_STRING = 0.1
_REGEX = 0.25
_LIST, _MAP, _STRUCT = 10, 30, 40
_CHECK = 350_000

_SCANS = frozenset(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf", "sort", "distinct", "slice", "reverse"))
_OVER_TARGET = frozenset(("lowerAscii", "upperAscii", "substring", "trim", "replace", "startsWith", "endsWith"))
_OVER_FIRST = frozenset(
    ("url", "isURL", "ip", "isIP", "cidr", "isCIDR", "quantity", "isQuantity", "semver", "isSemver",
     "jsonpatch.escapeKey", "ip.isCanonical", "duration", "timestamp", "bytes", "strings.quote")
)  # fmt: skip
_COMPARISONS = frozenset(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"))


def estimate(program: Program) -> float:
    """The most that evaluating the program can cost; UNBOUNDED if there is no telling."""
    return min(_Estimator(program.checker).cost(program.root), UNBOUNDED)


class _Estimator:
    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._sizes: dict[Node, float] = {}

    def cost(self, node: Node) -> float:
        """Of a part; what is known of the size of its value is noted for what contains it."""
        match node:
            case Const():
                return 0.0
            case Ident():
                return 1.0
            case Select():
                if node in self._checker.names:
                    return 1.0
                return self.cost(node.operand) + (0.0 if node.test else 1.0)
            case Call():
                return self._call(node)
            case ListNode():
                self._sizes[node] = float(len(node.items))
                return _LIST + sum(self.cost(i) for i in node.items)
            case MapNode():
                self._sizes[node] = float(len(node.entries))
                return _MAP + sum(self.cost(k) + self.cost(v) for k, v, _ in node.entries)
            case StructNode():
                return _STRUCT + sum(self.cost(v) for _, _, v, _ in node.entries)
            case Comprehension():
                return self._comprehension(node)
        return 1.0

    def size(self, node: Node) -> float:
        """How long the value of a part is at most, after its cost is known."""
        if node in self._sizes:
            return self._sizes[node]
        if isinstance(node, Const):
            return float(len(node.value)) if isinstance(node.value, str | bytes) else 1.0
        return _most(self._checker.type_of(node))

    def _call(self, node: Call) -> float:
        function, member, _ = self._checker.calls[node]
        args: list[Node] = [node.target, *node.args] if member and node.target is not None else list(node.args)
        costs = [self.cost(a) for a in args]
        name = function.name
        if name == "_?_:_":
            self._sizes[node] = max(self.size(args[1]), self.size(args[2]))
            return costs[0] + max(costs[1], costs[2])
        if name in ("_&&_", "_||_"):
            return sum(costs)
        return sum(costs) + self._function(name, node, args)

    def _function(self, name: str, node: Call, args: list[Node]) -> float:
        """Of the function itself. The result's size is noted where it follows from the arguments'."""
        if not args:
            return 1.0
        first = self.size(args[0])
        if name == "check":
            return float(_CHECK)
        if name in _COMPARISONS:
            sizes = [self.size(a) for a in args]
            return max(1.0, math.ceil(min(sizes) * _STRING))
        if name == "@in":
            return max(1.0, self.size(args[1])) if self._checker.type_of(args[1]).kind != "map" else 1.0
        if name == "_+_":
            self._sizes[node] = first + self.size(args[1])
            kind = self._checker.type_of(node).kind
            return math.ceil(self._sizes[node] * _STRING) if kind in ("string", "bytes", "dyn") else 1.0
        if name in ("matches", "find", "findAll"):
            self._sizes[node] = first
            return math.ceil((first + 1) * _STRING) * math.ceil(self.size(args[1]) * _REGEX)
        if name == "contains" and len(args) > 1:
            return math.ceil(first * _STRING) * math.ceil(self.size(args[1]) * _STRING)
        return self._text_function(name, node, args, first)

    def _text_function(self, name: str, node: Call, args: list[Node], first: float) -> float:
        if name in _SCANS:
            self._sizes[node] = first
            type_ = self._checker.type_of(args[0])
            each = 1.0
            if type_.kind == "list" and type_.params[0].kind in ("string", "bytes"):
                each += math.ceil(_most(type_.params[0]) * _STRING)
            return first * each if type_.kind == "list" else math.ceil(first * _STRING)
        if name == "split":
            self._sizes[node] = first
            return math.ceil(first * 2 * _STRING)
        if name == "join":
            type_ = self._checker.type_of(args[0])
            inner = _most(type_.params[0]) if type_.params else UNBOUNDED
            separator = self.size(args[1]) if len(args) > 1 else 0.0
            self._sizes[node] = first * inner + separator * first
            return math.ceil(self._sizes[node] * _STRING)
        if name == "format":
            return math.ceil(first * _STRING)
        if name in _OVER_TARGET:
            factor = 1.0
            if name == "replace":
                found, put = max(self.size(args[1]), 1.0), self.size(args[2])
                factor = max(1.0, put / found)
            self._sizes[node] = first * factor
            read = self.size(args[1]) if name in ("startsWith", "endsWith") else first * factor
            return math.ceil(read * _STRING)
        if name in _OVER_FIRST:
            self._sizes[node] = first
            return math.ceil(first * _STRING)
        if name in ("containsIP", "containsCIDR"):
            return 10.0
        if name == "string":
            self._sizes[node] = first
        return 1.0

    def _comprehension(self, node: Comprehension) -> float:
        range_ = self.cost(node.range)
        body = self.cost(node.body)
        filter_ = self.cost(node.filter) if node.filter is not None else 0.0
        if node.kind in ("optMap", "optFlatMap"):
            return range_ + body + 2
        count = self.size(node.range)
        if self._checker.type_of(node.range).kind == "dyn" and node.range not in self._sizes:
            count = _most(self._checker.type_of(node.range))
        per = {"all": 3.0, "exists": 3.0, "exists_one": 2.0, "filter": 13.0}.get(node.kind, 12.0)
        if node.kind not in ("all", "exists", "exists_one"):
            self._sizes[node] = count
        return range_ + count * (per + body + filter_) + 1


def _most(type_: Type) -> float:
    """How many characters, items or entries a value of a type has at most."""
    if type_.most is not None:
        return float(type_.most)
    if type_.kind in ("int", "uint", "double", "bool", "null", "type", "timestamp", "duration", "object"):
        return 1.0
    if type_.kind == "opaque":
        return float(MAX_REQUEST) if type_.name == "optional_type" else 1.0
    return UNBOUNDED
