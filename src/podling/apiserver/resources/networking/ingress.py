"""Ingresses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import names, networking_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.networking import references
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, each, invalid, not_supported, required

_SPEC = Path("spec")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_CLASS = "kubernetes.io/ingress.class"


class IngressStrategy(Strategy[networking_v1.Ingress]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Class"),
        printing.text("Hosts"),
        printing.text("Address"),
        printing.text("Ports"),
        printing.AGE,
    )

    def prepare_create(self, obj: networking_v1.Ingress, context: Context) -> None:
        obj.status = networking_v1.IngressStatus(load_balancer=networking_v1.IngressLoadBalancerStatus())

    def validate(self, obj: networking_v1.Ingress) -> Findings:
        found = self._spec(obj)
        annotation = (obj.metadata.annotations or {}).get(_CLASS)
        if annotation is not None and obj.spec.ingress_class_name not in (None, annotation):
            detail = "must match `ingressClassName` when both are specified"
            found.append(invalid(Path("annotations").child(_CLASS), annotation, detail))
        return found

    def validate_update(self, new: networking_v1.Ingress, old: networking_v1.Ingress) -> Findings:
        return self._spec(new)

    def _spec(self, obj: networking_v1.Ingress) -> Findings:
        spec = obj.spec
        found: Findings = []
        if not spec.rules and spec.default_backend is None:
            detail = "either `defaultBackend` or `rules` must be specified"
            found.append(invalid(_SPEC, spec.rules or None, detail))
        if spec.default_backend is not None:
            found += _backend(spec.default_backend, _SPEC.child("defaultBackend"))
        for index, rule in enumerate(spec.rules or ()):
            found += _rule(rule, _SPEC.child("rules").index(index))
        for index, tls in enumerate(spec.tls or ()):
            for position, host in enumerate(tls.hosts or ()):
                at = _SPEC.child("tls").index(index).child("hosts").index(position)
                rule_of = names.wildcard_subdomain if "*" in host else names.dns_subdomain
                found += each(at, host, rule_of(host))
            if tls.secret_name:
                at = _SPEC.child("tls").index(index).child("secretName")
                found += each(at, tls.secret_name, names.dns_subdomain(tls.secret_name))
        if spec.ingress_class_name is not None:
            at = _SPEC.child("ingressClassName")
            found += each(at, spec.ingress_class_name, names.dns_subdomain(spec.ingress_class_name))
        return found

    def validate_status_update(self, new: networking_v1.Ingress, old: networking_v1.Ingress) -> Findings:
        known = {point.ip for point in _points(old)}
        found: Findings = []
        for index, point in enumerate(_points(new)):
            at = Path("status").child("loadBalancer", "ingress").index(index)
            if point.ip and point.ip not in known:
                found += each(at.child("ip"), point.ip, names.ip(point.ip))
            if point.hostname:
                found += each(at.child("hostname"), point.hostname, names.dns_subdomain(point.hostname))
                if not names.ip(point.hostname):
                    detail = "must be a DNS name, not an IP address"
                    found.append(invalid(at.child("hostname"), point.hostname, detail))
        return found

    def warnings(self, new: networking_v1.Ingress, old: networking_v1.Ingress | None) -> list[str]:
        if old is None and _CLASS in (new.metadata.annotations or {}):
            return [f"annotation \"{_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"]
        return []

    def row(self, obj: networking_v1.Ingress, now: datetime) -> list[Any]:
        addresses = sorted({p.ip or p.hostname or "" for p in _points(obj)} - {""})
        return [
            printing.name(obj.metadata),
            obj.spec.ingress_class_name or printing.NONE,
            _hosts(obj.spec.rules or []),
            ",".join(addresses),
            "80, 443" if obj.spec.tls else "80",
            printing.age(obj.metadata, now),
        ]


def _points(obj: networking_v1.Ingress) -> Sequence[networking_v1.IngressLoadBalancerIngress]:
    balancer = obj.status.load_balancer
    return (balancer.ingress if balancer else None) or []


def _hosts(rules: list[networking_v1.IngressRule]) -> str:
    hosts = [r.host for r in rules if r.host]
    if not hosts:
        return "*"
    more = f" + {len(hosts) - 3} more..." if len(hosts) > 3 else ""
    return ",".join(hosts[:3]) + more


def _rule(rule: networking_v1.IngressRule, path: Path) -> Findings:
    found: Findings = []
    if rule.host:
        at = path.child("host")
        if not names.ip(rule.host):
            found.append(invalid(at, rule.host, "must be a DNS name, not an IP address"))
        rule_of = names.wildcard_subdomain if "*" in rule.host else names.dns_subdomain
        found += each(at, rule.host, rule_of(rule.host))
    if rule.http is None:
        return found
    paths = path.child("http", "paths")
    if not rule.http.paths:
        found.append(required(paths))
    for index, item in enumerate(rule.http.paths):
        found += _path(item, paths.index(index))
    return found


def _path(item: networking_v1.HTTPIngressPath, path: Path) -> Findings:
    found: Findings = []
    value = item.path or ""
    if not item.path_type:
        return [required(path.child("pathType"), "pathType must be specified")]
    elif item.path_type not in _PATH_TYPES:
        found.append(not_supported(path.child("pathType"), item.path_type, _PATH_TYPES))
    elif item.path_type != "ImplementationSpecific":
        if not value.startswith("/"):
            found.append(invalid(path.child("path"), value, "must be an absolute path"))
        for bad in ("//", "/./", "/../", "%2f", "%2F"):
            if bad in value:
                found.append(invalid(path.child("path"), value, f"must not contain '{bad}'"))
        for bad in ("/..", "/."):
            if value.endswith(bad):
                found.append(invalid(path.child("path"), value, f"cannot end with '{bad}'"))
    elif value and not value.startswith("/"):
        found.append(invalid(path.child("path"), value, "must be an absolute path"))
    return found + _backend(item.backend, path.child("backend"))


def _backend(backend: networking_v1.IngressBackend, path: Path) -> Findings:
    service, resource = backend.service, backend.resource
    if service is not None and resource is not None:
        return [invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return references.typed(resource, path.child("resource"))
    if service is None:
        return [invalid(path, "", "resource or service backend is required")]
    at = path.child("service")
    found: Findings = [] if service.name else [required(at.child("name"))]
    if service.name:
        found += each(at.child("name"), service.name, names.dns_1035_label(service.name))
    port = service.port or networking_v1.ServiceBackendPort()
    if port.name and port.number:
        found.append(invalid(path, "", "cannot set both port name & port number"))
    elif port.name:
        found += each(at.child("port", "name"), port.name, names.port_name(port.name))
    elif port.number:
        found += each(at.child("port", "number"), port.number, names.port_number(port.number))
    else:
        found.append(required(path, "port name or number is required"))
    return found
