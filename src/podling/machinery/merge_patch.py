"""JSON merge patches (RFC 7386): what the patch names is replaced, null removes, objects merge."""

from __future__ import annotations

from typing import Any


def apply(original: Any, patch: Any) -> Any:
    """The patched document. Neither argument is changed; parts of both may be shared with the result."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = apply(merged.get(key), value)
    return merged
