"""403s of admission plugins."""

from __future__ import annotations

from podling.api import errors
from podling.api.errors import StatusError
from podling.apiserver.admission.base import Attributes


def forbidden(attributes: Attributes, why: str) -> StatusError:
    """`pods "web" is forbidden: why`."""
    name = attributes.name
    if not name and attributes.obj is not None:
        name = attributes.obj.metadata.generate_name or ""
    return errors.forbidden(attributes.resource.name, attributes.resource.group, name, why)


def aggregate(texts: list[str]) -> str:
    """Several reasons as one."""
    unique = list(dict.fromkeys(texts))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
