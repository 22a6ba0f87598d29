"""ResourceSlices: the devices that a driver offers, on a node or in a pool."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, resource_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import scheduling
from podling.apiserver.resources.resource import claims
from podling.apiserver.resources.storage import drivers
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, immutable, invalid, required, too_many

_SPEC = Path("spec")
_MAX_DEVICES = 128
_MAX_RICH_DEVICES = 64
_MAX_ATTRIBUTES = 32
_MAX_COUNTER_SETS = 8
_ONE = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"


class ResourceSliceStrategy(Strategy[resource_v1.ResourceSlice]):
    selectable_fields = ("spec.nodeName", "spec.driver")
    columns = (printing.NAME, printing.text("Node"), printing.text("Driver"), printing.text("Pool"), printing.AGE)

    def validate(self, obj: resource_v1.ResourceSlice) -> Findings:
        spec = obj.spec
        found = drivers.driver_name(spec.driver, _SPEC.child("driver"))
        found += _pool(spec.pool, _SPEC.child("pool"))
        found += _where(spec)
        if spec.shared_counters is not None and spec.devices is not None:
            found.append(invalid(_SPEC, "", "only one of `sharedCounters` or `devices` is allowed"))
        rich = any(d.taints or d.consumes_counters for d in spec.devices or ())
        limit = _MAX_RICH_DEVICES if rich else _MAX_DEVICES
        found += claims.many(spec.devices or [], _SPEC.child("devices"), _device, limit=limit, key=lambda d: d.name)
        at = _SPEC.child("sharedCounters")
        return found + claims.many(
            spec.shared_counters or [], at, _counter_set, limit=_MAX_COUNTER_SETS, key=lambda s: s.name
        )

    def validate_update(self, new: resource_v1.ResourceSlice, old: resource_v1.ResourceSlice) -> Findings:
        found = self.validate(new)
        found += immutable(new.spec.pool.name, old.spec.pool.name, _SPEC.child("pool", "name"))
        found += immutable(new.spec.driver, old.spec.driver, _SPEC.child("driver"))
        return found + immutable(new.spec.node_name, old.spec.node_name, _SPEC.child("nodeName"))

    def fields(self, obj: resource_v1.ResourceSlice) -> dict[str, str]:
        return {"spec.nodeName": obj.spec.node_name or "", "spec.driver": obj.spec.driver}

    def row(self, obj: resource_v1.ResourceSlice, now: datetime) -> list[Any]:
        spec = obj.spec
        return [
            printing.name(obj.metadata),
            spec.node_name or printing.UNSET,
            spec.driver,
            spec.pool.name,
            printing.age(obj.metadata, now),
        ]


def _pool(pool: resource_v1.ResourcePool, path: Path) -> Findings:
    found = claims.pool_name(pool.name, path.child("name"))
    if pool.resource_slice_count <= 0:
        at = path.child("resourceSliceCount")
        found.append(invalid(at, pool.resource_slice_count, "must be greater than zero"))
    if pool.generation < 0:
        found.append(invalid(path.child("generation"), pool.generation, "must be greater than or equal to zero"))
    return found


def _where(spec: resource_v1.ResourceSliceSpec) -> Findings:
    """From which nodes the devices can be used: exactly one way to say it."""
    found: Findings = []
    said: list[str] = []
    at = _SPEC.child("nodeName")
    if spec.node_name == "":
        found.append(invalid(at, "", "must be either unset or set to a non-empty string"))
    elif spec.node_name is not None:
        said.append("`nodeName`")
        found += each(at, spec.node_name, names.dns_subdomain(spec.node_name))
    if spec.node_selector is not None:
        said.append("`nodeSelector`")
        at = _SPEC.child("nodeSelector")
        found += scheduling.node_selector(spec.node_selector, at)
        if len(spec.node_selector.node_selector_terms) != 1:
            terms = spec.node_selector.node_selector_terms
            found.append(invalid(at.child("nodeSelectorTerms"), terms, "must have exactly one node selector term"))
    for name, value in (("allNodes", spec.all_nodes), ("perDeviceNodeSelection", spec.per_device_node_selection)):
        if value:
            said.append(f"`{name}`")
        elif value is False:
            found.append(invalid(_SPEC.child(name), False, "must be either unset or set to true"))
    if not said:
        found.append(required(_SPEC, _ONE))
    elif len(said) > 1:
        found.append(invalid(_SPEC, f"{{{', '.join(said)}}}", f"{_ONE}, but multiple fields are set"))
    return found


def _device(device: resource_v1.Device, path: Path) -> Findings:
    found = each(path.child("name"), device.name, names.dns_label(device.name))
    attributes = device.attributes or {}
    count = len(attributes) + len(device.capacity or {})
    if count > _MAX_ATTRIBUTES:
        found.append(too_many(path, count, _MAX_ATTRIBUTES))
    for name, attribute in attributes.items():
        at = path.child("attributes").key(name)
        values = sum(getattr(attribute, field) is not None for field in attribute.__struct_fields__)
        if values == 0:
            found.append(required(at, "exactly one value must be specified"))
        elif values > 1:
            found.append(invalid(at, attribute, "exactly one value must be specified"))
    return found


def _counter_set(counters: resource_v1.CounterSet, path: Path) -> Findings:
    at = path.child("name")
    found = each(at, counters.name, names.dns_label(counters.name)) if counters.name else [required(at)]
    if not counters.counters:
        found.append(required(path.child("counters")))
    for name in counters.counters:
        found += each(path.child("counters"), name, names.dns_label(name))
    return found
