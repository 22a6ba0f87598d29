"""Type checking of validating policies: warnings in a policy's status about expressions that can't be right.

Expressions of a policy take the object as it comes; here they are checked against the schemas of the kinds that the
policy names. Source: k8s.io/apiserver pkg/admission/plugin/policy/validating/typechecking.go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from podling import log
from podling.api import admissionregistration_v1 as v1
from podling.api import registry, struct
from podling.api.errors import StatusError
from podling.api.request import Request
from podling.apiserver.served import Served

if TYPE_CHECKING:
    from podling.apiserver.core import Core
    from podling.machinery import cel

LOG = log.get(__name__)

#: Of how many kinds a policy is checked against.
MAX_KINDS = 10
_HEAD = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
#: Upstream's name of the controller that does this.
_MANAGER = "validatingadmissionpolicy-status"
_APPLY = {"content-type": "application/apply-patch+yaml"}
_PATH = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"


class TypeChecking:
    """Keeps the status of policies up to date. `close` when done."""

    def __init__(self, app: Core) -> None:
        self._app = app
        self._wanted: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def check(self, policy: v1.ValidatingAdmissionPolicy) -> None:
        """Look at a policy soon, unless its status speaks of it as it is."""
        if (policy.metadata.generation or 0) <= (policy.status.observed_generation or 0):
            return
        self._wanted.add(policy.metadata.name or "")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._wanted:
            name = self._wanted.pop()
            try:
                await self._app.hub.current()
                await self._update(name)
            except StatusError as error:
                if error.reason == "Conflict":
                    self._wanted.add(name)
                elif error.reason != "NotFound":
                    LOG.warning("status of validating admission policy %s: %s", name, error)
            except Exception:
                LOG.exception("status of validating admission policy %s", name)

    async def _update(self, name: str) -> None:
        found = self._app.cached("admissionregistration.k8s.io", "validatingadmissionpolicies", name)
        if found is None or (found.metadata.generation or 0) <= (found.status.observed_generation or 0):
            return
        found_warnings = [struct.to_dict(w) for w in warnings(self._app, found)]
        status = {
            "observedGeneration": found.metadata.generation,
            "typeChecking": {"expressionWarnings": found_warnings} if found_warnings else {},
        }
        intent = {**_HEAD, "metadata": {"name": name}, "status": status}
        query = {"fieldManager": _MANAGER, "force": "true"}
        await self._app.send(Request("PATCH", f"{_PATH}/{name}/status", query, headers=_APPLY, obj=intent))


def warnings(app: Core, policy: v1.ValidatingAdmissionPolicy) -> list[v1.ExpressionWarning]:
    """What can't be right about a policy's validations."""
    kinds = [(served, object_type(app, served)) for served in kinds_of(app, policy)]
    found: list[v1.ExpressionWarning] = []
    for index, validation in enumerate(policy.spec.validations or ()):
        for field, text in (
            ("expression", validation.expression), ("messageExpression", validation.message_expression)
        ):  # fmt: skip
            if not text:
                continue
            problems = [_problem(app, policy, served, type_, text) for served, type_ in kinds if type_ is not None]
            if any(problems):
                found.append(
                    v1.ExpressionWarning(
                        field_ref=f"spec.validations[{index}].{field}", warning="\n".join(p for p in problems if p)
                    )
                )
    return found


def _problem(app: Core, policy: Any, served: Served, type_: cel.Type, expression: str) -> str:
    """What is wrong with an expression if the object is of a type; "" if nothing is."""
    from podling.apiserver.admission.match_cel import POLICY_VARIABLES
    from podling.apiserver.admission.match_policy import compile_variables
    from podling.machinery import cel

    variables = {**POLICY_VARIABLES, "object": type_, "oldObject": type_}
    kind = policy.spec.param_kind
    if kind is None:
        del variables["params"]
    else:
        variables["params"] = _param_type(app, kind)
    known, _, _ = compile_variables(policy.spec, variables)
    try:
        cel.compile(expression, known)
    except cel.CompileError as error:
        resource = served.resource
        group_version = resource.group_version if resource.group else f"/{resource.version}"
        return f"{group_version}, Kind={resource.kind}: {error.problem}\n"
    return ""


def _param_type(app: Core, kind: v1.ParamKind) -> cel.Type:
    from podling.machinery.cel.types import DYN

    for served in app.served.values():
        if (served.resource.group_version, served.resource.kind) == (kind.api_version, kind.kind):
            return object_type(app, served) or DYN
    return DYN


def kinds_of(app: Core, policy: v1.ValidatingAdmissionPolicy) -> list[Served]:
    """The kinds that a policy's rules name without wildcards, by group, version and kind."""
    found: dict[tuple[str, str, str], Served] = {}
    constraints = policy.spec.match_constraints
    for rule in (constraints.resource_rules if constraints is not None else None) or ():
        groups, versions = rule.api_groups or [], rule.api_versions or []
        if any("*" in x for x in (*groups, *versions)):
            continue
        for group in groups:
            for version in versions:
                for name in rule.resources or ():
                    served = app.served.get((group, version, name))
                    if served is not None and len(found) < MAX_KINDS:
                        found[group, version, served.resource.kind] = served
    return [found[key] for key in sorted(found)]


def object_type(app: Core, served: Served) -> cel.Type | None:
    """The type of a resource's objects, of its schema; None if it has none."""
    from podling.machinery.cel import schema as cel_schema

    resource = served.resource
    if registry.by_name(resource.group, resource.version, resource.name) is None:
        schema = getattr(served.codec, "schema", None)
        return cel_schema.type_of(schema, name=resource.kind, root=True) if isinstance(schema, dict) else None
    return cel_schema.of_struct(resource.type)
