"""A program: an expression that has been parsed, checked and made into Python functions, ready to be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from podling import clock
from podling.machinery.cel import metrics
from podling.machinery.cel.check import Checker, unify
from podling.machinery.cel.eval import Compiler, CostExceeded, Frame
from podling.machinery.cel.functions import Functions
from podling.machinery.cel.library import FUNCTIONS
from podling.machinery.cel.syntax import (
    Call,
    Comprehension,
    Ident,
    ListNode,
    MapNode,
    Node,
    Parser,
    Select,
    StructNode,
    SyntaxProblem,
    explain,
)
from podling.machinery.cel.types import (
    EvaluationError,
    ObjectType,
    Type,
)

#: What one evaluation may cost at most; about a tenth of a second upstream.
PER_CALL_LIMIT = 1_000_000
#: What all rules of a policy's binding or of a custom resource may cost together, and all conditions of a webhook.
TOTAL_BUDGET = 10_000_000
MATCH_CONDITIONS_BUDGET = 2_500_000
#: Of an expression, in characters, and of its nesting.
MAX_LENGTH = 100_000
MAX_DEPTH = 150

Structs = Callable[[str], ObjectType | None]


class CompileError(ValueError):
    """The text begins with `compilation failed: ` and shows line, column and place, or says which type is wanted."""

    def __init__(self, message: str, *, problem: str = "") -> None:
        super().__init__(message)
        #: Without the first words.
        self.problem = problem or message


class Program:
    """A compiled expression, to be evaluated any number of times.

    `expression` is its text, `type` that of its value. `names` are the variables that it mentions, `fields` the chains
    of field names (`("oldSelf",)`, `("self", "spec")`) that it reads from them.
    """

    __slots__ = ("_run", "checker", "expression", "names", "root", "type")

    def __init__(self, expression: str, root: Node, checker: Checker, type_: Type) -> None:
        self.expression = expression
        self.root = root
        self.checker = checker
        self.type = type_
        self.names = frozenset(
            name if isinstance(name, str) else name.name for name in checker.names.values()
        )  # fmt: skip
        self._run = Compiler(checker).compile(root)

    def evaluate(self, variables: Mapping[str, Any], *, limit: int = PER_CALL_LIMIT) -> Any:
        """The value. EvaluationError if there is none, CostExceeded (one of them) if it costs more than `limit`."""
        return self.measure(variables, limit=limit)[0]

    def measure(self, variables: Mapping[str, Any], *, limit: int = PER_CALL_LIMIT) -> tuple[Any, int]:
        """The value and what it cost."""
        frame, began = Frame(variables, limit), clock.real_seconds()
        try:
            value = self._run(frame)
        except RecursionError:
            raise EvaluationError("max recursion depth exceeded") from None
        except EvaluationError as error:
            error.cost = frame.cost  # type: ignore[attr-defined]
            raise
        finally:
            metrics.EVALUATIONS.observe(clock.real_seconds() - began)
        if frame.cost > limit:
            raise CostExceeded
        return value, frame.cost


def compile(
    expression: str,
    variables: Mapping[str, Type],
    *,
    result: Type | tuple[Type, ...] | None = None,
    structs: Structs | None = None,
    functions: Functions | None = None,
) -> Program:
    """Check an expression and make it ready to run.

    `variables` are all that it may mention, by name. `result` is what its value has to be; several if one of them will
    do. `structs` finds the messages that it may construct (`Object{...}`), `functions` is a table to use instead of
    Kubernetes' own. Raises CompileError.
    """
    if len(expression) > MAX_LENGTH:
        why = f"expression code point size exceeds limit: size: {len(expression)}, limit {MAX_LENGTH}"
        raise _failed(expression, [SyntaxProblem(0, why)])
    began = clock.real_seconds()
    try:
        root = _parse(expression)
    except SyntaxProblem as problem:
        raise _failed(expression, [problem]) from None
    except RecursionError:
        why = f"expression recursion limit exceeded: {MAX_DEPTH}"
        raise _failed(expression, [SyntaxProblem(0, why)]) from None
    checker = Checker(variables, functions or FUNCTIONS, structs)
    type_ = checker.check(root)
    if checker.problems:
        raise _failed(expression, checker.problems)
    if result is not None:
        _check_result(type_, result if isinstance(result, tuple) else (result,))
    program = Program(expression, root, checker, type_)
    metrics.COMPILATIONS.observe(clock.real_seconds() - began)
    return program


@lru_cache(1024)
def _parse(expression: str) -> Node:
    root = Parser(expression).parse()
    if _depth(root) > MAX_DEPTH:
        raise SyntaxProblem(0, f"expression recursion limit exceeded: {MAX_DEPTH}")
    return root


def _depth(root: Node) -> int:
    deepest, pending = 0, [(root, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        pending += [(child, depth + 1) for child in children(node)]
    return deepest


def children(node: Node) -> list[Node]:
    """The parts of a part."""
    match node:
        case Select():
            return [node.operand]
        case Call():
            return [*([node.target] if node.target is not None else []), *node.args]
        case ListNode():
            return node.items
        case MapNode():
            return [x for k, v, _ in node.entries for x in (k, v)]
        case StructNode():
            return [v for _, _, v, _ in node.entries]
        case Comprehension():
            return [node.range, *([node.filter] if node.filter is not None else []), node.body]
    return []


def idents(expression: str) -> set[str]:
    """The names that an expression begins chains with, declared or not; empty if it can't be parsed."""
    try:
        pending = [_parse(expression)]
    except (SyntaxProblem, RecursionError):
        return set()
    found = set()
    while pending:
        node = pending.pop()
        if isinstance(node, Ident):
            found.add(node.name)
        pending += children(node)
    return found


def _failed(expression: str, problems: list[SyntaxProblem]) -> CompileError:
    text = explain(expression, sorted(problems, key=lambda p: p.position))
    return CompileError(f"compilation failed: {text}", problem=text)


def _check_result(type_: Type, wanted: tuple[Type, ...]) -> None:
    if type_.kind in ("dyn", "error") or any(unify({}, w, type_) for w in wanted):
        return
    names = [str(w) for w in wanted]
    if len(names) == 1:
        raise CompileError(f"must evaluate to {names[0]}")
    raise CompileError(f"must evaluate to one of [{' '.join(names)}]")
