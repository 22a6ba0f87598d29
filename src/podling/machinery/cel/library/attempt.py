"""What several libraries need: whether something can be made at all, and the sign of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podling.machinery.cel.types import EvaluationError


def attempt(make: Callable[..., Any]) -> Callable[..., bool]:
    """Whether `make` has a value for its arguments."""

    def works(*args: Any) -> bool:
        try:
            make(*args)
        except EvaluationError:
            return False
        return True

    return works


def compare(a: Any, b: Any) -> int:
    return int(a > b) - int(a < b)
