"""Lists: sorted, least and greatest, sums, positions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.operators import add
from podling.machinery.cel.types import (
    Duration,
    EvaluationError,
    equal,
)


def _key(item: Any) -> Any:
    return item.ns if hasattr(item, "ns") else item


def is_sorted(items: list[Any]) -> bool:
    return all(_key(a) <= _key(b) for a, b in pairwise(items))


def _extreme(name: str, choose: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def extreme(items: list[Any]) -> Any:
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        return choose(items, key=_key)

    return extreme


def _sum(zero: Any) -> Callable[[list[Any]], Any]:
    def total(items: list[Any]) -> Any:
        if not items:
            return zero
        found = items[0]
        for item in items[1:]:
            found = add(found, item)
        return found

    return total


def index_of(items: list[Any], item: Any) -> int:
    return next((i for i, other in enumerate(items) if equal(item, other)), -1)


def last_index_of(items: list[Any], item: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if equal(item, items[i])), -1)


def declare_all(table: Functions) -> None:
    for kind in ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"):
        declare(table, f"list<{kind}>.isSorted() -> bool", is_sorted)
        declare(table, f"list<{kind}>.max() -> {kind}", _extreme("max", max))
        declare(table, f"list<{kind}>.min() -> {kind}", _extreme("min", min))
    for kind, zero in (("int", 0), ("uint", 0), ("double", 0.0), ("duration", Duration(0))):
        declare(table, f"list<{kind}>.sum() -> {kind}", _sum(zero))
    declare(table, "list<A>.indexOf(A) -> int", index_of)
    declare(table, "list<A>.lastIndexOf(A) -> int", last_index_of)
