"""NetworkPolicies."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import meta_v1, names, networking_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    each,
    forbidden,
    invalid,
    label_selector,
    not_supported,
    required,
)

_SPEC = Path("spec")
_PROTOCOLS = ("SCTP", "TCP", "UDP")


class NetworkPolicyStrategy(Strategy[networking_v1.NetworkPolicy]):
    columns = (printing.NAME, printing.text("Pod-Selector"), printing.AGE)

    def default(self, obj: networking_v1.NetworkPolicy) -> None:
        spec = obj.spec
        rules = [*(spec.ingress or ()), *(spec.egress or ())]
        for rule in rules:
            for port in rule.ports or ():
                port.protocol = port.protocol or "TCP"
        if spec.pod_selector is None:
            spec.pod_selector = meta_v1.LabelSelector()
        if not spec.policy_types:
            spec.policy_types = ["Ingress", *(["Egress"] if spec.egress else [])]

    def validate(self, obj: networking_v1.NetworkPolicy) -> Findings:
        spec = obj.spec
        found = label_selector(spec.pod_selector, _SPEC.child("podSelector"))
        for index, ingress in enumerate(spec.ingress or ()):
            at = _SPEC.child("ingress").index(index)
            found += _ports(ingress.ports, at.child("ports")) + _peers(ingress.from_, at.child("from"))
        for index, egress in enumerate(spec.egress or ()):
            at = _SPEC.child("egress").index(index)
            found += _ports(egress.ports, at.child("ports")) + _peers(egress.to, at.child("to"))
        types = spec.policy_types or []
        at = _SPEC.child("policyTypes")
        if len(types) > 2:
            found.append(invalid(at, types, "may not specify more than two policyTypes"))
        else:
            for index, kind in enumerate(types):
                if kind not in ("Ingress", "Egress"):
                    found.append(not_supported(at.index(index), kind, ("Ingress", "Egress")))
        return found

    def row(self, obj: networking_v1.NetworkPolicy, now: datetime) -> list[Any]:
        selector = printing.label_selector(obj.spec.pod_selector or meta_v1.LabelSelector())
        return [printing.name(obj.metadata), selector, printing.age(obj.metadata, now)]


def _ports(ports: Sequence[networking_v1.NetworkPolicyPort] | None, path: Path) -> Findings:
    found: Findings = []
    for index, port in enumerate(ports or ()):
        at = path.index(index)
        if port.protocol is not None and port.protocol not in _PROTOCOLS:
            found.append(not_supported(at.child("protocol"), port.protocol, _PROTOCOLS))
        value = port.port
        if isinstance(value, int):
            found += each(at.child("port"), value, names.port_number(value))
            if port.end_port is not None:
                if port.end_port < value:
                    detail = "must be greater than or equal to `port`"
                    found.append(invalid(at.child("endPort"), port.end_port, detail))
                found += each(at.child("endPort"), port.end_port, names.port_number(port.end_port))
        elif isinstance(value, str):
            found += each(at.child("port"), value, names.port_name(value))
            if port.end_port is not None:
                detail = "may not be specified when `port` is non-numeric"
                found.append(invalid(at.child("endPort"), port.end_port, detail))
        elif port.end_port is not None:
            detail = "may not be specified when `port` is not specified"
            found.append(invalid(at.child("endPort"), port.end_port, detail))
    return found


def _peers(peers: Sequence[networking_v1.NetworkPolicyPeer] | None, path: Path) -> Findings:
    found: Findings = []
    for index, peer in enumerate(peers or ()):
        at = path.index(index)
        found += label_selector(peer.pod_selector, at.child("podSelector"))
        found += label_selector(peer.namespace_selector, at.child("namespaceSelector"))
        selects = peer.pod_selector is not None or peer.namespace_selector is not None
        if peer.ip_block is not None:
            found += _ip_block(peer.ip_block, at.child("ipBlock"))
            if selects:
                found.append(forbidden(at, "may not specify both ipBlock and another peer"))
        elif not selects:
            found.append(required(at, "must specify a peer"))
    return found


def _ip_block(block: networking_v1.IPBlock, path: Path) -> Findings:
    if not block.cidr:
        return [required(path.child("cidr"))]
    if problems := names.cidr(block.cidr):
        return each(path.child("cidr"), block.cidr, problems)
    found: Findings = []
    outer = ipaddress.ip_network(block.cidr, strict=False)
    for index, value in enumerate(block.except_ or ()):
        at = path.child("except").index(index)
        if problems := names.cidr(value):
            found += each(at, value, problems)
            continue
        inner = ipaddress.ip_network(value, strict=False)
        inside = inner.version == outer.version and inner.network_address in outer
        if not inside or inner.prefixlen <= outer.prefixlen:
            found.append(invalid(at, value, "must be a strict subset of `cidr`"))
    return found
