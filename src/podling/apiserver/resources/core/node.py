"""Nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import core_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import requirements, scheduling
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    label_name,
    required,
)

_ROLE = "node-role.kubernetes.io/"
_SPEC = Path("spec")
_TAINTS = Path("metadata").child("taints")


class NodeStrategy(Strategy[core_v1.Node]):
    has_status = True
    selectable_fields = ("spec.unschedulable",)
    columns = (
        printing.NAME,
        printing.text("Status"),
        printing.text("Roles"),
        printing.AGE,
        printing.text("Version"),
        printing.text("Internal-IP", wide=True),
        printing.text("External-IP", wide=True),
        printing.text("OS-Image", wide=True),
        printing.text("Kernel-Version", wide=True),
        printing.text("Container-Runtime", wide=True),
    )

    def default(self, obj: core_v1.Node) -> None:
        if obj.status.allocatable is None and obj.status.capacity is not None:
            obj.status.allocatable = dict(obj.status.capacity)
        # One address range and the list of them are kept alike.
        if obj.spec.pod_cidr and not obj.spec.pod_cidrs:
            obj.spec.pod_cidrs = [obj.spec.pod_cidr]
        elif obj.spec.pod_cidrs and not obj.spec.pod_cidr:
            obj.spec.pod_cidr = obj.spec.pod_cidrs[0]

    def validate(self, obj: core_v1.Node) -> Findings:
        found = _taints(obj.spec.taints or [], _TAINTS) + _resources(obj.status)
        cidrs = obj.spec.pod_cidrs or []
        at = _SPEC.child("podCIDRs")
        problems: Findings = []
        for index, cidr in enumerate(cidrs):
            problems += each(at.index(index), cidr, names.cidr(cidr))
        if len(cidrs) > 1 and not problems:
            families = {ipaddress.ip_network(c, strict=False).version for c in cidrs}
            if len(families) < 2 or len(cidrs) > 2:
                found.append(invalid(at, cidrs, "may specify no more than one CIDR for each IP family"))
            for index, cidr in enumerate(cidrs):
                if cidr in cidrs[:index]:
                    found.append(duplicate(at.index(index), cidr))
        return found + problems

    def validate_update(self, new: core_v1.Node, old: core_v1.Node) -> Findings:
        found = _resources(new.status)
        if old.spec.pod_cidrs and new.spec.pod_cidrs != old.spec.pod_cidrs:
            detail = 'node updates may not change podCIDR except from "" to valid'
            found.append(forbidden(_SPEC.child("podCIDRs"), detail))
        if old.spec.provider_id and new.spec.provider_id != old.spec.provider_id:
            detail = 'node updates may not change providerID except from "" to valid'
            found.append(forbidden(_SPEC.child("providerID"), detail))
        found += _taints(new.spec.taints or [], _TAINTS)
        if (new.spec.external_id or "") != (old.spec.external_id or ""):
            found.append(forbidden(_SPEC.child("externalID"), "may not be updated"))
        return found

    def validate_status_update(self, new: core_v1.Node, old: core_v1.Node) -> Findings:
        found = _resources(new.status)
        seen: list[core_v1.NodeAddress] = []
        for index, address in enumerate(new.status.addresses or ()):
            if address in seen:
                found.append(duplicate(Path("status").child("addresses").index(index), address))
            seen.append(address)
        return found

    def fields(self, obj: core_v1.Node) -> dict[str, str]:
        return {"spec.unschedulable": printing.go_bool(obj.spec.unschedulable)}

    def row(self, obj: core_v1.Node, now: datetime) -> list[Any]:
        info = obj.status.node_info or core_v1.NodeSystemInfo()
        return [
            printing.name(obj.metadata),
            _status(obj),
            printing.joined(_roles(obj)),
            printing.age(obj.metadata, now),
            info.kubelet_version,
            _address(obj, "InternalIP"),
            _address(obj, "ExternalIP"),
            info.os_image or printing.UNKNOWN,
            info.kernel_version or printing.UNKNOWN,
            info.container_runtime_version or printing.UNKNOWN,
        ]


def _status(node: core_v1.Node) -> str:
    ready = next((c for c in node.status.conditions or () if c.type == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"]
    if node.spec.unschedulable:
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(node: core_v1.Node) -> list[str]:
    found: set[str] = set()
    for key, value in (node.metadata.labels or {}).items():
        if key.startswith(_ROLE):
            found.add(key.removeprefix(_ROLE))
        elif key == "kubernetes.io/role":
            found.add(value)
    return sorted(found - {""})


def _address(node: core_v1.Node, kind: str) -> str:
    return next((a.address for a in node.status.addresses or () if a.type == kind), printing.NONE)


def _resources(status: core_v1.NodeStatus) -> Findings:
    found: Findings = []
    for name, amounts in (("capacity", status.capacity), ("allocatable", status.allocatable)):
        for resource, value in (amounts or {}).items():
            found += requirements.amount(resource, value, Path("status").child(name, resource))
    return found


def _taints(taints: Sequence[core_v1.Taint], path: Path) -> Findings:
    found: Findings = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        at = path.index(index)
        found += label_name(taint.key, at.child("key"))
        if problems := names.label_value(taint.value or ""):
            found.append(invalid(at.child("value"), taint.value, ";".join(problems)))
        if not taint.effect:
            found.append(required(at.child("effect")))
        else:
            found += scheduling.taint_effect(taint.effect, at.child("effect"))
        if (taint.key, taint.effect) in seen:
            shown = {
                "Key": taint.key,
                "Value": taint.value or "",
                "Effect": taint.effect,
                "TimeAdded": taint.time_added,
            }
            finding = duplicate(at, shown)
            body = f"{finding.body}: taints must be unique by key and effect pair"
            found.append(type(finding)(finding.type, finding.field, body))
        seen.add((taint.key, taint.effect))
    return found
