"""What the storage kinds share: names of drivers, parameters for them."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import meta_v1, names, quantity
from podling.api.scalars import Quantity
from podling.machinery.validation import (
    NOT_NEGATIVE,
    Findings,
    Path,
    each,
    invalid,
    required,
    too_long,
)

_MAX_NAME = 63
_MAX_PARAMETERS = 512
_MAX_PARAMETER_BYTES = 256 * 1024


def driver_name(name: str, path: Path) -> Findings:
    """Of a CSI driver: a subdomain, of which case does not matter."""
    if not name:
        return [required(path)]
    found: Findings = [too_long(path, _MAX_NAME)] if len(name) > _MAX_NAME else []
    return found + each(path, name, names.dns_subdomain(name.lower()))


def provisioner(name: str, path: Path) -> Findings:
    if not name:
        return [required(path)]
    return each(path, name, names.qualified_name(name.lower()))


def parameters(values: Mapping[str, str] | None, path: Path, *, needed: bool = False) -> Findings:
    values = values or {}
    if len(values) > _MAX_PARAMETERS:
        return [too_long(path, _MAX_PARAMETERS)]
    found = [invalid(path, key, "field can not be empty.") for key in values if not key]
    if sum(len(k.encode()) + len(v.encode()) for k, v in values.items()) > _MAX_PARAMETER_BYTES:
        found.append(too_long(path, _MAX_PARAMETER_BYTES))
    if needed and not values:
        found.append(required(path, "must contain at least one key/value pair"))
    return found


def amount(value: Quantity | None, path: Path) -> Findings:
    """A quantity that is not negative."""
    if value is None:
        return []
    parsed = quantity.parse(value)
    return [invalid(path, str(parsed), NOT_NEGATIVE)] if parsed.nano < 0 else []


def is_default(meta: meta_v1.ObjectMeta, *annotations: str) -> bool:
    """Whether the class is marked as what is taken if nobody says."""
    return any((meta.annotations or {}).get(annotation) == "true" for annotation in annotations)
