"""Kubernetes' own functions of CEL, one library a file. Source: k8s.io/apiserver pkg/cel/library."""

from __future__ import annotations

from podling.machinery.cel.functions import STANDARD, Function, Functions, declare
from podling.machinery.cel.library import addresses, authorizer, formats, lists, quantities, regex, semver, urls


def kubernetes() -> Functions:
    """CEL's own functions and Kubernetes'."""
    table: Functions = {}
    for name, function in STANDARD.items():
        table[name] = copy = Function(name)
        copy.overloads, copy.total = list(function.overloads), function.total
    for library in (lists, regex, urls, quantities, addresses, formats, semver, authorizer):
        library.declare_all(table)
    return table


FUNCTIONS = kubernetes()
#: Mutations can escape names for the paths of their patches.
MUTATION_FUNCTIONS = dict(FUNCTIONS)
declare(
    MUTATION_FUNCTIONS,
    "jsonpatch.escapeKey(string) -> string",
    lambda text: text.replace("~", "~0").replace("/", "~1"),
)
