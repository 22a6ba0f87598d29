"""The pod-template-hash: a short name for a pod template that can stand in a label and in an object's name."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import names
from podling.api.struct import to_dict


def fnv1a_32(data: bytes) -> int:
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def template_hash(template: Any, collisions: int | None = None) -> str:
    """Of a pod template and how often its hash has collided before. The same for templates that mean the same."""
    data = msgspec.json.encode(pruned(to_dict(template)), order="sorted")
    if collisions is not None:
        data += collisions.to_bytes(4, "little") + bytes(4)
    return names.safe_encode(str(fnv1a_32(data)))


def pruned(value: Any) -> Any:
    """Without what is empty: an empty list or map means the same as an absent one."""
    if isinstance(value, dict):
        kept = {k: pruned(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v is not None and v != {} and v != []}
    if isinstance(value, list):
        return [pruned(v) for v in value]
    return value


def same_meaning(a: Any, b: Any) -> bool:
    """Whether two API objects are equal, an empty list or map being as good as an absent one."""
    return bool(a == b) or pruned(to_dict(a)) == pruned(to_dict(b))
