"""LimitRanges."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import core_v1, quantity
from podling.api.quantity import Quantity
from podling.apiserver.resources.podspec import requirements
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, duplicate, forbidden, invalid, label_name, required

_LIMITS = Path("spec").child("limits")
_TYPES = ("Container", "Pod", "PersistentVolumeClaim")
_FOR_POD = "may not be specified when `type` is 'Pod'"


class LimitRangeStrategy(Strategy[core_v1.LimitRange]):
    create_on_update = True

    def default(self, obj: core_v1.LimitRange) -> None:
        for item in obj.spec.limits:
            if item.type == "Container":
                default = dict(item.default or {})
                for name, value in (item.max or {}).items():
                    default.setdefault(name, value)
                request = dict(item.default_request or {})
                for name, value in (*default.items(), *(item.min or {}).items()):
                    request.setdefault(name, value)
                item.default, item.default_request = default, request

    def validate(self, obj: core_v1.LimitRange) -> Findings:
        found: Findings = []
        seen: set[str] = set()
        for index, item in enumerate(obj.spec.limits):
            at = _LIMITS.index(index)
            found += label_name(item.type, at.child("type"))
            if "/" not in item.type and item.type not in _TYPES:
                detail = "must be a standard limit type or fully qualified"
                found.append(invalid(at.child("type"), item.type, detail))
            if item.type in seen:
                found.append(duplicate(at.child("type"), item.type))
            seen.add(item.type)
            found += _item(item, at)
        return found


def _item(item: core_v1.LimitRangeItem, path: Path) -> Findings:
    found: Findings = []
    groups: dict[str, Mapping[str, Quantity]] = {}
    rule = requirements.container_resource_name
    if item.type not in ("Pod", "Container"):
        rule = requirements.resource_name
    for name, amounts in (
        ("max", item.max),
        ("min", item.min),
        ("default", item.default),
        ("defaultRequest", item.default_request),
        ("maxLimitRequestRatio", item.max_limit_request_ratio),
    ):
        if item.type == "Pod" and name.startswith("default") and amounts:
            found.append(forbidden(path.child(name), _FOR_POD))
            amounts = {}
        for resource in amounts or ():
            found += rule(resource, path.child(name).key(resource))
        groups[name] = {k: quantity.parse(v) for k, v in (amounts or {}).items()}
    storage = "storage" in groups["min"] or "storage" in groups["max"]
    if item.type == "PersistentVolumeClaim" and not storage:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        found.append(required(path.child("limits"), detail))
    for resource in sorted({r for g in groups.values() for r in g}):
        found += _order(resource, {n: g[resource] for n, g in groups.items() if resource in g}, path)
    return found


_ORDER = (
    ("min", "max", "min", "min value {0} is greater than max value {1}"),
    ("min", "defaultRequest", "defaultRequest", "min value {0} is greater than default request value {1}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {0} is greater than max value {1}"),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "default request value {0} is greater than default limit value {1}",
    ),
    ("min", "default", "default", "min value {0} is greater than default value {1}"),
    ("default", "max", "default", "default value {0} is greater than max value {1}"),
)


def _order(resource: str, values: Mapping[str, Quantity], path: Path) -> Findings:
    found: Findings = []
    for low, high, at, text in _ORDER:
        if low in values and high in values and values[low] > values[high]:
            shown = values[low] if at != "default" or low == "min" else values[high]
            found.append(invalid(path.child(at).key(resource), str(shown), text.format(values[low], values[high])))
    ratio = values.get("maxLimitRequestRatio")
    at_ratio = path.child("maxLimitRequestRatio").key(resource)
    if ratio is not None and ratio < 1:
        found.append(invalid(at_ratio, str(ratio), f"ratio {ratio} is less than 1"))
    if ratio is not None and "min" in values and "max" in values and values["min"].nano > 0:
        limit = values["max"].nano / values["min"].nano
        if ratio.nano / 10**9 > limit:
            found.append(invalid(at_ratio, str(ratio), f"ratio {ratio} is greater than max/min = {limit:f}"))
    return found
