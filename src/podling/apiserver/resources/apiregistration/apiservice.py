"""APIServices: who serves a group version, this server or another one behind a Service."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from podling.api import apiregistration_v1 as v1
from podling.api import names, times
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Column, Context, Strategy
from podling.machinery.validation import Findings, Path, each, invalid, not_supported, quote, required

_SPEC = Path("spec")
_STATUSES = ("True", "False", "Unknown")


class APIServiceStrategy(Strategy[v1.APIService]):
    has_status = True
    unconditional_update = False
    columns = (
        printing.NAME,
        Column("Service", description="The reference to the service that hosts this API endpoint."),
        Column("Available", description="Whether this service is available."),
        printing.AGE,
    )

    def default(self, obj: v1.APIService) -> None:
        if obj.spec.service is not None and obj.spec.service.port is None:
            obj.spec.service.port = 443

    def prepare_create(self, obj: v1.APIService, context: Context) -> None:
        status = v1.APIServiceStatus()
        if obj.spec.service is None:
            condition = v1.APIServiceCondition(
                type="Available",
                status="True",
                last_transition_time=times.format(context.now),
                reason="Local",
                message="Local APIServices are always available",
            )
            status.conditions = [condition]
        obj.status = status

    def validate(self, obj: v1.APIService) -> Findings:
        spec = obj.spec
        group, version = spec.group or "", spec.version or ""
        found = _name(obj.metadata.name or "", f"{version}.{group}")
        if not group and version != "v1":
            detail = "only v1 may have an empty group and it better be legacy kube"
            found.append(required(_SPEC.child("group"), detail))
        if group:
            found += each(_SPEC.child("group"), group, names.dns_subdomain(group))
        found += each(_SPEC.child("version"), version, names.dns_1035_label(version))
        for name, value, highest in (
            ("groupPriorityMinimum", spec.group_priority_minimum, 20000),
            ("versionPriority", spec.version_priority, 1000),
        ):
            if not 0 < value <= highest:
                found.append(invalid(_SPEC.child(name), value, f"must be positive and less than {highest}"))
        return found + (_local(spec) if spec.service is None else _remote(spec, spec.service))

    def validate_update(self, new: v1.APIService, old: v1.APIService) -> Findings:
        return self.validate(new)

    def prepare_status_update(self, new: v1.APIService, old: v1.APIService, context: Context) -> None:
        meta = old.metadata
        new.metadata.labels, new.metadata.annotations = meta.labels, meta.annotations
        new.metadata.finalizers, new.metadata.owner_references = meta.finalizers, meta.owner_references

    def validate_status_update(self, new: v1.APIService, old: v1.APIService) -> Findings:
        at = Path("status").child("conditions")
        return [
            not_supported(at.index(index).child("status"), condition.status, _STATUSES)
            for index, condition in enumerate(new.status.conditions or ())
            if condition.status not in _STATUSES
        ]

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def row(self, obj: v1.APIService, now: datetime) -> list[Any]:
        service = obj.spec.service
        available = next((c for c in obj.status.conditions or () if c.type == "Available"), None)
        state = "Unknown" if available is None else available.status
        if available is not None and state != "True":
            state = f"{state} ({available.reason})" if available.reason else state
        return [
            printing.name(obj.metadata),
            f"{service.namespace or ''}/{service.name or ''}" if service else "Local",
            state,
            printing.age(obj.metadata, now),
        ]


def _name(name: str, wanted: str) -> Findings:
    if name == wanted or names.path_segment(name):
        return []
    detail = f'must be `spec.version+"."+spec.group`: {quote(wanted)}'
    return [invalid(Path("metadata").child("name"), name, detail)]


def _local(spec: v1.APIServiceSpec) -> Findings:
    found: Findings = []
    if spec.ca_bundle:
        shown = f"{len(base64.b64decode(spec.ca_bundle))} bytes"
        found.append(invalid(_SPEC.child("caBundle"), shown, "local APIServices may not have a caBundle"))
    if spec.insecure_skip_tls_verify:
        detail = "local APIServices may not have insecureSkipTLSVerify"
        found.append(invalid(_SPEC.child("insecureSkipTLSVerify"), True, detail))
    return found


def _remote(spec: v1.APIServiceSpec, service: v1.ServiceReference) -> Findings:
    at = _SPEC.child("service")
    found: Findings = []
    for name, value in (("namespace", service.namespace), ("name", service.name)):
        if not value:
            found.append(required(at.child(name)))
    port = service.port or 0
    if problems := names.port_number(port):
        found.append(invalid(at.child("port"), port, f"port is not valid: {', '.join(problems)}"))
    if spec.insecure_skip_tls_verify and spec.ca_bundle:
        found.append(invalid(_SPEC.child("insecureSkipTLSVerify"), True, "may not be true if caBundle is present"))
    return found
