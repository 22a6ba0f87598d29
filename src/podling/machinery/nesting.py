"""How deep documents may be nested, and how much YAML's aliases may unfold.

All algorithms over objects recurse. A document that is nested more deeply than they can follow must be refused at the
door: once stored, it would break everything that looks at it. Upstream's limit is 10,000, which Go's growing stacks
allow; no object that means something comes near ours.
"""

from __future__ import annotations

import re
from typing import Any

MAX_DEPTH = 128

#: All bytes but brackets.
_OTHERS = bytes(sorted(set(range(256)) - set(b"{}[]")))
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)
_OPENING = frozenset(b"{[")

#: Upstream's YAML library (go-yaml) lets documents of this many values consist of aliases almost wholly ...
_FEW, _FEW_RATIO = 400_000, 0.99
#: ... and those of this many to a tenth; between them the share falls in a straight line.
_MANY, _MANY_RATIO = 4_000_000, 0.10


def too_deep(data: bytes) -> bool:
    """Whether JSON text is nested more deeply than MAX_DEPTH. What is no JSON gets some answer, without harm."""
    # Innermost pairs are removed until none is left: as many rounds as there are levels, each a scan in C.
    left = data.translate(None, _OTHERS)
    for level in range(MAX_DEPTH + 1):
        if len(left) + level <= MAX_DEPTH:
            return False
        fewer = left.replace(b"{}", b"").replace(b"[]", b"")
        if len(fewer) == len(left):
            break
        left = fewer
    # Either it is so deep, or brackets within strings are in the way.
    depth = 0
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first != 34:
            depth += 1 if first in _OPENING else -1
            if depth > MAX_DEPTH:
                return True
    return False


def deeper(value: Any) -> bool:
    """Whether dicts and lists are nested more deeply than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, dict | list))
        if not below:
            return False
        level = below
    return True


def unfolds_too_far(value: Any) -> bool:
    """Whether what YAML's aliases share would be too much if it were written out. Not for circles: those have no end.

    Raises RecursionError for them, and for what is nested too deeply.
    """
    sizes: dict[int, int] = {}
    proper = 0

    def size(item: Any) -> int:
        nonlocal proper
        if not isinstance(item, dict | list):
            return 1
        known = sizes.get(id(item))
        if known is not None:
            return known
        children = item.values() if isinstance(item, dict) else item
        found = 1
        for child in children:
            found += size(child)
            if not isinstance(child, dict | list):
                proper += 1
        proper += 1
        sizes[id(item)] = found
        return found

    whole = size(value)
    aliased = whole - proper
    return aliased > 100 and whole > 1000 and aliased / whole > _allowed(whole)


def _allowed(values: int) -> float:
    if values <= _FEW:
        return _FEW_RATIO
    if values >= _MANY:
        return _MANY_RATIO
    return _FEW_RATIO - (_FEW_RATIO - _MANY_RATIO) * (values - _FEW) / (_MANY - _FEW)
