"""References to objects of any kind, as ingresses and their classes have them."""

from __future__ import annotations

from typing import Any

from podling.api import names
from podling.machinery.validation import Findings, Path, each, required


def typed(reference: Any, path: Path) -> Findings:
    """apiGroup, kind and name."""
    found: Findings = []
    if reference.api_group is not None:
        found += each(path.child("apiGroup"), reference.api_group, names.dns_subdomain(reference.api_group))
    for name, value in (("kind", reference.kind), ("name", reference.name)):
        at = path.child(name)
        found += each(at, value, names.path_segment(value)) if value else [required(at)]
    return found
