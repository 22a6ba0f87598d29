"""ServiceCIDRs."""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from podling.api import names, networking_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import IMMUTABLE, Findings, Path, each, invalid, required

_CIDRS = Path("spec").child("cidrs")


class ServiceCIDRStrategy(Strategy[networking_v1.ServiceCIDR]):
    has_status = True
    columns = (printing.NAME, printing.text("CIDRs"), printing.AGE)

    def prepare_create(self, obj: networking_v1.ServiceCIDR, context: Context) -> None:
        obj.status = networking_v1.ServiceCIDRStatus()

    def validate(self, obj: networking_v1.ServiceCIDR) -> Findings:
        return _cidrs(obj.spec)

    def validate_update(self, new: networking_v1.ServiceCIDR, old: networking_v1.ServiceCIDR) -> Findings:
        now, before = new.spec.cidrs or [], old.spec.cidrs or []
        if len(now) not in (len(before), len(before) + 1) or len(now) > 2:
            return [invalid(_CIDRS, now, IMMUTABLE)]
        found = [
            invalid(_CIDRS.index(index), now[index], IMMUTABLE)
            for index, cidr in enumerate(before)
            if now[index] != cidr
        ]
        # The second family may come later.
        return found + (_cidrs(new.spec) if len(now) > len(before) else [])

    def row(self, obj: networking_v1.ServiceCIDR, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), ",".join(obj.spec.cidrs or ()), printing.age(obj.metadata, now)]


def _cidrs(spec: networking_v1.ServiceCIDRSpec) -> Findings:
    cidrs = spec.cidrs or []
    if not cidrs:
        return [required(_CIDRS, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid(_CIDRS, spec, "may only hold up to 2 values")]
    found: Findings = []
    for index, cidr in enumerate(cidrs):
        found += each(_CIDRS.index(index), cidr, names.canonical_cidr(cidr))
    if not found and len({ipaddress.ip_network(c).version for c in cidrs}) < len(cidrs):
        detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        found.append(invalid(_CIDRS, cidrs, detail))
    return found
