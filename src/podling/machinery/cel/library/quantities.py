"""Quantities: amounts with units, compared and added exactly."""

from __future__ import annotations

from podling.api import quantity
from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.library.attempt import attempt, compare
from podling.machinery.cel.types import (
    INT_MAX,
    INT_MIN,
    EvaluationError,
    Opaque,
    opaque,
)


class Quantity(Opaque):
    __slots__ = ("amount",)
    TYPE = opaque("kubernetes.Quantity")

    def __init__(self, amount: quantity.Quantity) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount == other.amount

    def __hash__(self) -> int:
        return hash(self.amount)


def to_quantity(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _is_integer(value: Quantity) -> bool:
    return value.amount.nano % 10**9 == 0 and INT_MIN <= value.amount.nano // 10**9 <= INT_MAX


def _as_integer(value: Quantity) -> int:
    if not _is_integer(value):
        raise EvaluationError("cannot convert value to integer")
    return value.amount.nano // 10**9


def declare_all(table: Functions) -> None:
    kind = Quantity.TYPE.name
    declare(table, f"quantity(string) -> {kind}", to_quantity)
    declare(table, "isQuantity(string) -> bool", attempt(to_quantity))
    declare(table, f"{kind}.sign() -> int", lambda q: q.amount.sign)
    declare(table, f"{kind}.isGreaterThan({kind}) -> bool", lambda a, b: a.amount > b.amount)
    declare(table, f"{kind}.isLessThan({kind}) -> bool", lambda a, b: a.amount < b.amount)
    declare(table, f"{kind}.compareTo({kind}) -> int", lambda a, b: compare(a.amount, b.amount))
    declare(table, f"{kind}.asApproximateFloat() -> double", lambda q: float(q.amount))
    declare(table, f"{kind}.asInteger() -> int", _as_integer)
    declare(table, f"{kind}.isInteger() -> bool", _is_integer)
    declare(table, f"{kind}.add({kind}) -> {kind}", lambda a, b: Quantity(a.amount + b.amount))
    declare(table, f"{kind}.add(int) -> {kind}", lambda a, b: Quantity(a.amount + quantity.of(b)))
    declare(table, f"{kind}.sub({kind}) -> {kind}", lambda a, b: Quantity(a.amount - b.amount))
    declare(table, f"{kind}.sub(int) -> {kind}", lambda a, b: Quantity(a.amount - quantity.of(b)))
