"""Resource requests and limits: names, amounts, and how the two belong together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from podling.api import core_v1, names, quantity
from podling.api.scalars import Quantity
from podling.machinery.validation import (
    NOT_NEGATIVE,
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)

_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_QUOTA = frozenset(
    (
        "cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.storage",
        "requests.ephemeral-storage", "limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods",
        "resourcequotas", "services", "replicationcontrollers", "secrets", "persistentvolumeclaims", "configmaps",
        "services.nodeports", "services.loadbalancers",
    )
)  # fmt: skip
_STANDARD = _QUOTA | {"storage"}
_INTEGERS = frozenset(
    (
        "pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps",
        "persistentvolumeclaims", "services.nodeports", "services.loadbalancers",
    )
)  # fmt: skip


def is_huge_page(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    """Of Kubernetes itself: without a domain, or with one of its own."""
    return "/" not in name or name.split("/")[0] == "kubernetes.io" or ".kubernetes.io/" in f".{name}"


def is_extended(name: str) -> bool:
    """A node's special equipment, such as `nvidia.com/gpu`."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def allows_overcommit(name: str) -> bool:
    """Whether requests may be below limits."""
    return is_native(name) and not is_huge_page(name)


def is_standard_quota(name: str) -> bool:
    return name in _QUOTA or is_huge_page(name) or name.startswith("requests.hugepages-")


def _is_integer(name: str) -> bool:
    return name in _INTEGERS or is_extended(name)


def resource_name(name: str, path: Path) -> Findings:
    if problems := each(path, name, names.qualified_name(name)):
        return problems
    if "/" not in name and name not in _STANDARD and not is_huge_page(name) and not is_standard_quota(name):
        return [invalid(path, name, "must be a standard resource type or fully qualified")]
    return []


def container_resource_name(name: str, path: Path) -> Findings:
    if name in _CONTAINER:
        return []
    found = resource_name(name, path)
    if "/" not in name:
        if not is_huge_page(name):
            found.append(invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        found.append(invalid(path, name, "doesn't follow extended resource name standard"))
    return found


def pod_resource_name(name: str, path: Path) -> Findings:
    if found := resource_name(name, path):
        return found
    if name not in ("cpu", "memory") and not is_huge_page(name):
        return [not_supported(path, name, ("cpu", "hugepages-", "memory"))]
    return []


def quota_resource_name(name: str, path: Path) -> Findings:
    found = resource_name(name, path)
    if "/" not in name and not is_standard_quota(name):
        found.append(invalid(path, name, "must be a standard resource for quota"))
    return found


def amount(name: str, value: Quantity, path: Path) -> Findings:
    """An amount of the resource `name`."""
    parsed = quantity.parse(value)
    found: Findings = []
    if parsed.nano < 0:
        found.append(invalid(path, str(parsed), NOT_NEGATIVE))
    if name not in _CONTAINER and _is_integer(name) and parsed.milli() % 1000:
        found.append(invalid(path, str(parsed), "must be an integer"))
    return found


def _huge_pages(name: str, value: Quantity, path: Path) -> Findings:
    parsed = quantity.parse(value)
    try:
        size = quantity.parse(name.removeprefix("hugepages-"))
    except ValueError:
        size = quantity.ZERO
    if size.nano > 0 and parsed.nano > 0 and parsed.nano % size.nano == 0:
        return []
    if parsed.nano == 0:
        return []
    return [invalid(path, str(parsed), f"{parsed} is not positive integer multiple of {name}")]


NameRule = Callable[[str, Path], Findings]


def requirements(
    resources: core_v1.ResourceRequirements,
    claim_names: Collection[str],
    path: Path,
    name_rule: NameRule = container_resource_name,
) -> Findings:
    """Requests and limits of a container, or of a pod with `pod_resource_name`."""
    found: Findings = []
    limits, requests = resources.limits or {}, resources.requests or {}
    if limits:
        found += _amounts(limits, path.child("limits"), name_rule)
    if requests:
        found += _amounts(requests, path.child("requests"), name_rule)
        found += _requests_against_limits(requests, limits, path)
    used = limits.keys() | requests.keys()
    if any(map(is_huge_page, used)) and "cpu" not in used and "memory" not in used:
        found.append(forbidden(path, "HugePages require cpu or memory"))
    if resources.claims:
        found += _claims(resources.claims, claim_names, path.child("claims"))
    return found


def _amounts(amounts: Mapping[str, Quantity], path: Path, name_rule: NameRule) -> Findings:
    found: Findings = []
    for name, value in amounts.items():
        at = path.key(name)
        found += name_rule(name, at)
        found += amount(name, value, at)
        if is_huge_page(name):
            found += _huge_pages(name, value, at)
    return found


def _requests_against_limits(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity], path: Path) -> Findings:
    found: Findings = []
    for name, value in requests.items():
        if name not in limits:
            if not allows_overcommit(name):
                found.append(required(path.child("limits"), "Limit must be set for non overcommitable resources"))
            continue
        request, limit = quantity.parse(value), quantity.parse(limits[name])
        at = path.child("requests")
        if request != limit and not allows_overcommit(name):
            found.append(invalid(at, str(request), f"must be equal to {name} limit of {limit}"))
        elif request > limit:
            found.append(invalid(at, str(request), f"must be less than or equal to {name} limit of {limit}"))
    return found


def _claims(claims: Sequence[core_v1.ResourceClaim], known: Collection[str], path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        at = path.index(index)
        if not claim.name:
            found.append(required(at))
            continue
        key = f"{claim.name}/{claim.request}" if claim.request else claim.name
        if claim.request:
            found += each(at.child("request"), claim.request, names.dns_label(claim.request))
        overlaps = not claim.request and any(other.startswith(f"{claim.name}/") for other in seen)
        if claim.name in seen or key in seen or overlaps:
            found.append(duplicate(at, claim.name if claim.name in seen or overlaps else key))
        seen.add(key)
        if claim.name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            missing = not_found(at, claim.name)
            detail = f"{missing.body}: must be one of the names in pod.spec.resourceClaims{listed}"
            found.append(type(missing)(missing.type, missing.field, detail))
    return found
