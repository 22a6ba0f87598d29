"""IPAddresses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, networking_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, immutable, required


class IPAddressStrategy(Strategy[networking_v1.IPAddress]):
    columns = (printing.NAME, printing.text("ParentRef"), printing.AGE)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.canonical_ip(name)

    def validate(self, obj: networking_v1.IPAddress) -> Findings:
        reference = obj.spec.parent_ref
        at = Path("spec").child("parentRef")
        if reference == networking_v1.ParentReference():
            return [required(at)]
        found: Findings = []
        if reference.group:
            found += each(at.child("group"), reference.group, names.dns_subdomain(reference.group))
        for name, value in (("resource", reference.resource), ("name", reference.name)):
            where = at.child(name)
            found += each(where, value, names.path_segment(value)) if value else [required(where)]
        if reference.namespace:
            found += each(at.child("namespace"), reference.namespace, names.path_segment(reference.namespace))
        return found

    def validate_update(self, new: networking_v1.IPAddress, old: networking_v1.IPAddress) -> Findings:
        return immutable(new.spec.parent_ref, old.spec.parent_ref, Path("spec").child("parentRef"))

    def row(self, obj: networking_v1.IPAddress, now: datetime) -> list[Any]:
        reference = obj.spec.parent_ref
        resource = f"{reference.resource}.{reference.group}" if reference.group else reference.resource
        parts = [resource, *([reference.namespace] if reference.namespace else []), reference.name]
        return [printing.name(obj.metadata), "/".join(parts), printing.age(obj.metadata, now)]
