"""IngressClasses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, networking_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    each,
    forbidden,
    immutable,
    invalid,
    not_supported,
    required,
    too_long,
)

_SPEC = Path("spec")


class IngressClassStrategy(Strategy[networking_v1.IngressClass]):
    columns = (printing.NAME, printing.text("Controller"), printing.text("Parameters"), printing.AGE)

    def default(self, obj: networking_v1.IngressClass) -> None:
        if obj.spec.parameters is not None:
            obj.spec.parameters.scope = obj.spec.parameters.scope or "Cluster"

    def validate(self, obj: networking_v1.IngressClass) -> Findings:
        controller = obj.spec.controller or ""
        at = _SPEC.child("controller")
        found: Findings = []
        if len(controller) > 250:
            found.append(too_long(at, 250))
        host, slash, rest = controller.partition("/")
        if not controller:
            found.append(required(at))
        elif not (host and slash and rest):
            found.append(invalid(at, controller, 'must be a domain-prefixed path (such as "acme.io/foo")'))
        else:
            found += each(at, host, names.dns_subdomain(host))
        return found + _parameters(obj.spec.parameters, _SPEC.child("parameters"))

    def validate_update(self, new: networking_v1.IngressClass, old: networking_v1.IngressClass) -> Findings:
        found = immutable(new.spec.controller, old.spec.controller, _SPEC.child("controller"))
        return found + _parameters(new.spec.parameters, _SPEC.child("parameters"))

    def row(self, obj: networking_v1.IngressClass, now: datetime) -> list[Any]:
        parameters = obj.spec.parameters
        shown = printing.NONE
        if parameters is not None:
            group = f".{parameters.api_group}" if parameters.api_group else ""
            shown = f"{parameters.kind}{group}/{parameters.name}"
        return [printing.name(obj.metadata), obj.spec.controller or "", shown, printing.age(obj.metadata, now)]


def _parameters(parameters: networking_v1.IngressClassParametersReference | None, path: Path) -> Findings:
    if parameters is None:
        return []
    found: Findings = []
    for name, value in (("kind", parameters.kind), ("name", parameters.name)):
        if not value:
            found.append(required(path.child(name), f"{name} is required"))
    scope = parameters.scope
    if scope not in ("Cluster", "Namespace"):
        found.append(not_supported(path.child("scope"), scope or "", ("Cluster", "Namespace")))
    if scope == "Namespace" and not parameters.namespace:
        found.append(required(path.child("namespace"), "`parameters.scope` is set to 'Namespace'"))
    if scope == "Cluster" and parameters.namespace is not None:
        found.append(forbidden(path.child("namespace"), "`parameters.scope` is set to 'Cluster'"))
    return found
