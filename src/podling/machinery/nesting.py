"""How deep documents may be nested.

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
#: One kind of brackets for both: in a round that took away first the one and then the other, two levels could go.
_ALIKE = bytes.maketrans(b"{}", b"[]")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)
_OPENING = frozenset(b"{[")


def too_deep(data: bytes) -> bool:
    """Whether JSON text is nested more deeply than MAX_DEPTH. What is no JSON gets some answer, without harm."""
    # Innermost pairs are removed until none is left: as many rounds as there are levels, each a scan in C.
    left = data.translate(_ALIKE, _OTHERS)
    for level in range(MAX_DEPTH + 1):
        if len(left) + level <= MAX_DEPTH:
            return False
        fewer = left.replace(b"[]", b"")
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
