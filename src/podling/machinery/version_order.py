"""The order of the versions of a group where nothing else says which is to be preferred."""

from __future__ import annotations

import re
from typing import Any

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?\Z")


def version_order(version: str) -> tuple[Any, ...]:
    """Sorts versions as Kubernetes prefers them: v10, v2, v1, v11beta2, v3beta1, v12alpha1, and others by name."""
    found = _VERSION.match(version)
    if found is None:
        return 1, version
    stage = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return 0, stage, -int(found[1]), -int(found[3] or 0)
