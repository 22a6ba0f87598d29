"""Sets of pod indexes as text: `0-3,5,7,8`."""

from __future__ import annotations

from collections.abc import Iterable


def parse(text: str | None, limit: int | None = None) -> set[int]:
    """The indexes below `limit` that a text names; what is no number is left out."""
    found: set[int] = set()
    for part in filter(None, (text or "").split(",")):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last) if dash else int(first)
        except ValueError:
            continue
        found.update(range(low, (min(high, limit - 1) if limit is not None else high) + 1))
    return {i for i in found if limit is None or i < limit}


def show(indexes: Iterable[int]) -> str:
    """Three and more in a row as a range."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(indexes), None]:
        if index is not None and run and index == run[-1] + 1:
            run.append(index)
            continue
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts.extend(map(str, run))
        run = [index] if index is not None else []
    return ",".join(parts)
