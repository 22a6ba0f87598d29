"""IngressClasses."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, networking_v1
from podling.apiserver.resources import printing
from podling.apiserver.resources.batch.job import domain_prefixed_path
from podling.apiserver.resources.networking import references
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    each,
    forbidden,
    immutable,
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
        controller, at = obj.spec.controller or "", _SPEC.child("controller")
        found: Findings = [too_long(at, 250)] if len(controller) > 250 else []
        found += domain_prefixed_path(controller, at)
        return found + _parameters(obj.spec.parameters, _SPEC.child("parameters"))

    def validate_update(self, new: networking_v1.IngressClass, old: networking_v1.IngressClass) -> Findings:
        found = immutable(new.spec.controller, old.spec.controller, _SPEC.child("controller"))
        return found + self.validate(new)

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
    found = references.typed(parameters, path)
    scope, namespace, at = parameters.scope, parameters.namespace, path.child("namespace")
    if scope is None:
        found.append(required(path.child("scope")))
    elif scope not in ("Cluster", "Namespace"):
        found.append(not_supported(path.child("scope"), scope, ("Cluster", "Namespace")))
    elif scope == "Cluster":
        if namespace is not None:
            found.append(forbidden(at, "`parameters.scope` is set to 'Cluster'"))
    elif namespace is None:
        found.append(required(at, "`parameters.scope` is set to 'Namespace'"))
    else:
        found += each(at, namespace, names.dns_label(namespace))
    return found
