"""CEL, the expression language of Kubernetes' validation rules and admission policies.

    program = cel.compile("object.spec.replicas <= params.max", {"object": cel.DYN, "params": cel.DYN}, result=cel.BOOL)
    program.evaluate({"object": {...}, "params": {...}})       # True, or EvaluationError

Expressions are type-checked against declared variables, with Kubernetes' functions and upstream's messages, and run
over wire-form dicts as they are, without copying or converting them. Every evaluation is bounded in what it may cost,
and regular expressions are RE2's. The libraries at hand (Google's cel-expr-python, common-expression-language) have no
values of declared types such as quantities, no types from schemas, no cost limits to choose, or no type checks at all.

    types      types and values             check    the type checker
    syntax     text to tree, macros         eval     tree to Python functions
    functions  CEL's own functions, with operators, convert and strings
    library    Kubernetes' functions        program  all of it together: compile and evaluate
    schema     types from OpenAPI schemas   cost     what an expression may cost at most
"""

from podling.machinery.cel.eval import CostExceeded
from podling.machinery.cel.library import FUNCTIONS
from podling.machinery.cel.program import (
    MATCH_CONDITIONS_BUDGET,
    PER_CALL_LIMIT,
    TOTAL_BUDGET,
    CompileError,
    Program,
    children,
    compile,
)
from podling.machinery.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    UINT,
    EvaluationError,
    ObjectType,
    Optional,
    Type,
    list_of,
    map_of,
    message,
    optional_of,
)

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "DURATION",
    "DYN",
    "FUNCTIONS",
    "INT",
    "MATCH_CONDITIONS_BUDGET",
    "NULL",
    "PER_CALL_LIMIT",
    "STRING",
    "TIMESTAMP",
    "TOTAL_BUDGET",
    "UINT",
    "CompileError",
    "CostExceeded",
    "EvaluationError",
    "ObjectType",
    "Optional",
    "Program",
    "Type",
    "children",
    "compile",
    "list_of",
    "map_of",
    "message",
    "optional_of",
]
