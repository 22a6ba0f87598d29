"""Device claims: what ResourceClaims and their templates ask for, and configuration that classes give too.

CEL selectors are compiled by those who evaluate them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from podling.api import names
from podling.api import resource_v1 as v1
from podling.apiserver.resources.storage import drivers
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    label_name,
    not_supported,
    required,
    too_long,
    too_many,
)

_MAX = 32
_MAX_ALTERNATIVES = 8
_MAX_EXPRESSION = 10 * 1024
_MAX_PARAMETERS = 10 * 1024
_NO_SUCH = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_EFFECTS = ("NoSchedule", "NoExecute", "None")
Request = v1.ExactDeviceRequest | v1.DeviceSubRequest
#: Sub-requests by request.
RequestNames = dict[str, set[str]]


def default_spec(spec: v1.ResourceClaimSpec | None) -> None:
    devices = spec.devices if spec is not None else None
    for request in (devices.requests if devices is not None else None) or ():
        exact: tuple[Request, ...] = (request.exactly,) if request.exactly is not None else ()
        for one in (*exact, *(request.first_available or ())):
            one.allocation_mode = one.allocation_mode or "ExactCount"
            if one.allocation_mode == "ExactCount" and not one.count:
                one.count = 1
            for toleration in one.tolerations or ():
                toleration.operator = toleration.operator or "Equal"


def many(
    items: Sequence[Any], path: Path, check: Callable[[Any, Path], Findings], *, limit: int, key: Any = None
) -> Findings:
    """Each item, that there are not too many, and (by `key`) none twice."""
    found: Findings = [too_many(path, len(items), limit)] if len(items) > limit else []
    seen: set[Any] = set()
    for index, item in enumerate(items):
        at = path.index(index)
        found += check(item, at)
        if key is not None:
            if key(item) in seen:
                found.append(duplicate(at, key(item)))
            seen.add(key(item))
    return found


def request_names(spec: v1.ResourceClaimSpec | None) -> RequestNames:
    requests = (spec.devices.requests if spec is not None and spec.devices is not None else None) or ()
    return {r.name: {sub.name for sub in r.first_available or ()} for r in requests}


def claim_spec(spec: v1.ResourceClaimSpec | None, path: Path) -> Findings:
    devices = spec.devices if spec is not None else None
    if devices is None:
        return []
    known, path = request_names(spec), path.child("devices")

    def config(item: v1.DeviceClaimConfiguration, at: Path) -> Findings:
        return references(item.requests or [], known, at.child("requests")) + configuration(item, at)

    def constraint(item: v1.DeviceConstraint, at: Path) -> Findings:
        return references(item.requests or [], known, at.child("requests")) + _constraint(item, at)

    found = many(devices.requests or [], path.child("requests"), _request, limit=_MAX, key=lambda r: r.name)
    found += many(devices.constraints or [], path.child("constraints"), constraint, limit=_MAX)
    return found + many(devices.config or [], path.child("config"), config, limit=_MAX)


def _name(name: str, path: Path) -> Findings:
    return each(path, name, names.dns_label(name))


def _request(request: v1.DeviceRequest, path: Path) -> Findings:
    found = _name(request.name, path.child("name"))
    one = "exactly one of `exactly` or `firstAvailable` is required"
    if request.exactly is not None and request.first_available:
        return [*found, invalid(path, None, f"{one}, but multiple fields are set")]
    if request.exactly is not None:
        return found + _asked(request.exactly, path.child("exactly"))
    if not request.first_available:
        return [*found, required(path, one)]

    def alternative(item: v1.DeviceSubRequest, at: Path) -> Findings:
        return _name(item.name, at.child("name")) + _asked(item, at)

    at = path.child("firstAvailable")
    return found + many(request.first_available, at, alternative, limit=_MAX_ALTERNATIVES, key=lambda r: r.name)


def _asked(request: Request, path: Path) -> Findings:
    at = path.child("deviceClassName")
    name = request.device_class_name
    found = each(at, name, names.dns_subdomain(name)) if name else [required(at)]
    found += selectors(request.selectors or [], path.child("selectors"))
    mode, count = request.allocation_mode, request.count or 0
    if mode == "All":
        if count:
            found.append(invalid(path.child("count"), count, "must not be specified when allocationMode is 'All'"))
    elif mode == "ExactCount":
        if count <= 0:
            found.append(invalid(path.child("count"), count, "must be greater than zero"))
    else:
        found.append(not_supported(path.child("allocationMode"), mode or "", ("All", "ExactCount")))
    for index, toleration in enumerate(request.tolerations or ()):
        found += _toleration(toleration, path.child("tolerations").index(index))
    return found


def selectors(values: Sequence[v1.DeviceSelector], path: Path) -> Findings:
    return many(values, path, _selector, limit=_MAX)


def _selector(selector: v1.DeviceSelector, path: Path) -> Findings:
    if selector.cel is None:
        return [required(path.child("cel"))]
    if len(selector.cel.expression.encode()) > _MAX_EXPRESSION:
        return [too_long(path.child("cel", "expression"), _MAX_EXPRESSION)]
    return []


def _toleration(toleration: v1.DeviceToleration, path: Path) -> Findings:
    found = label_name(toleration.key, path.child("key")) if toleration.key else []
    value = toleration.value or ""
    if toleration.operator == "Exists":
        if value:
            found.append(invalid(path.child("value"), value, "must be empty for operator `Exists`"))
    elif toleration.operator == "Equal":
        found += each(path.child("value"), value, names.label_value(value))
    else:
        found.append(not_supported(path.child("operator"), toleration.operator or "", ("Equal", "Exists")))
    if toleration.effect and toleration.effect not in _EFFECTS:
        found.append(not_supported(path.child("effect"), toleration.effect, _EFFECTS))
    return found


def references(values: Sequence[str], known: RequestNames, path: Path) -> Findings:
    """Requests and sub-requests of the claim, by name."""
    return many(values, path, lambda name, at: reference(name, known, at), limit=_MAX, key=lambda name: name)


def reference(name: str, known: RequestNames, path: Path) -> Findings:
    parts = name.split("/")
    if len(parts) > 2:
        return [invalid(path, name, _NO_SUCH)]
    found: Findings = []
    for part in parts:
        found += _name(part, path)
    if parts[0] not in known or (len(parts) == 2 and parts[1] not in known[parts[0]]):
        found.append(invalid(path, name, _NO_SUCH))
    return found


def _constraint(constraint: v1.DeviceConstraint, path: Path) -> Findings:
    for name, value in (
        ("matchAttribute", constraint.match_attribute),
        ("distinctAttribute", constraint.distinct_attribute),
    ):
        if value is not None:
            return _full_name(value, path.child(name))
    detail = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [required(path, detail)]


def _full_name(name: str, path: Path) -> Findings:
    """`example.com/model`."""
    if not name:
        return [required(path, "name required")]
    if "/" not in name:
        return [invalid(path, name, "must include a domain")]
    domain, _, identifier = name.partition("/")
    found = (
        each(path, domain, names.dns_subdomain(domain)) if domain else [required(path, "the domain must not be empty")]
    )
    return found + (each(path, identifier, names.c_identifier(identifier)) if identifier else [])


def configuration(config: Any, path: Path) -> Findings:
    """Of a claim, a class or an allocation: parameters that only the driver understands."""
    opaque: v1.OpaqueDeviceConfiguration | None = config.opaque
    if opaque is None:
        return [required(path.child("opaque"))]
    found = drivers.driver_name(opaque.driver, path.child("opaque", "driver"))
    at = path.child("opaque", "parameters")
    if opaque.parameters is None:
        found.append(required(at))
    elif len(msgspec.json.encode(opaque.parameters)) > _MAX_PARAMETERS:
        found.append(too_long(at, _MAX_PARAMETERS))
    elif not isinstance(opaque.parameters, dict):
        found.append(invalid(at, "<value omitted>", "must be a valid JSON object"))
    return found


def status_update(new: v1.ResourceClaim, old: v1.ResourceClaim) -> Findings:
    """Allocated at once and for good; reserved only what is allocated."""
    path, status = Path("status"), new.status
    reserved = status.reserved_for or []
    at = path.child("reservedFor")
    found = many(reserved, at, _consumer, limit=256, key=lambda consumer: consumer.uid)
    if reserved and status.allocation is None:
        found.append(forbidden(at, "may not be specified when `allocated` is not set"))
    elif new.metadata.deletion_timestamp and any(c not in (old.status.reserved_for or ()) for c in reserved):
        detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        found.append(forbidden(at, detail))
    at = path.child("allocation")
    if status.allocation is None:
        return found
    if old.status.allocation is not None:
        if status.allocation != old.status.allocation:
            found.append(invalid(at, status.allocation, "field is immutable"))
        return found
    return found + _allocation(status.allocation, request_names(new.spec), at.child("devices"))


def _consumer(consumer: v1.ResourceClaimConsumerReference, path: Path) -> Findings:
    fields = (("resource", consumer.resource), ("name", consumer.name), ("uid", consumer.uid))
    return [required(path.child(name)) for name, value in fields if not value]


def _allocation(allocation: v1.AllocationResult, known: RequestNames, path: Path) -> Findings:
    def result(item: v1.DeviceRequestAllocationResult, at: Path) -> Findings:
        found = reference(item.request, known, at.child("request"))
        found += drivers.driver_name(item.driver, at.child("driver"))
        found += pool_name(item.pool, at.child("pool"))
        return found + _name(item.device, at.child("device"))

    def config(item: v1.DeviceAllocationConfiguration, at: Path) -> Findings:
        found: Findings = []
        if not item.source:
            found.append(required(at.child("source")))
        elif item.source not in ("FromClaim", "FromClass"):
            found.append(not_supported(at.child("source"), item.source, ("FromClaim", "FromClass")))
        return found + references(item.requests or [], known, at.child("requests")) + configuration(item, at)

    devices = allocation.devices or v1.DeviceAllocationResult()
    found = many(devices.results or [], path.child("results"), result, limit=_MAX)
    return found + many(devices.config or [], path.child("config"), config, limit=2 * _MAX)


def pool_name(name: str, path: Path) -> Findings:
    if not name:
        return [required(path)]
    found: Findings = [too_long(path, 253)] if len(name) > 253 else []
    for part in name.split("/"):
        found += each(path, part, names.dns_subdomain(part))
    return found
