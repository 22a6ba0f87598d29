"""MutatingAdmissionPolicy: expressions that change writes, by apply configurations or JSON patches.

Source: k8s.io/apiserver pkg/admission/plugin/policy/mutating.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from podling import clock
from podling.api import admissionregistration_v1 as v1
from podling.api import meta_v1, registry
from podling.api.errors import StatusError
from podling.apiserver.admission import match, metrics, policy_metrics
from podling.apiserver.admission.base import CONNECT, CREATE, UPDATE, Attributes
from podling.apiserver.admission.match_policy import (
    Budget,
    ConfigurationError,
    Invocation,
    OutOfBudget,
    PolicyPlugin,
    Variables,
    compile_variables,
)
from podling.apiserver.admission.match_request import Seen, Wire
from podling.apiserver.admission.refusal import forbidden
from podling.apiserver.admission.validating_policy import Problem
from podling.apiserver.authz.attributes import decided
from podling.apiserver.served import Served
from podling.machinery import apply, json_patch, merge_schema, schema

if TYPE_CHECKING:
    from podling.machinery import cel
    from podling.machinery.cel.types import ObjectType


class Compiled(NamedTuple):
    """The programs of a policy's mutations, in their order. `error` is set if one does not compile."""

    variables: dict[str, cel.Program]
    mutations: list[cel.Program]
    error: str = ""


class MutationFailed(Exception):
    """A mutation can't be computed or applied. `kind` says why, to metrics."""

    def __init__(self, text: str, kind: str = policy_metrics.INVALID) -> None:
        super().__init__(text)
        self.kind = kind


def structs(name: str) -> ObjectType | None:
    """What mutations may construct: `Object`, `Object.spec` and so on with any fields, and `JSONPatch`."""
    from podling.machinery.cel.types import DYN, STRING, ObjectType, message

    if name == "JSONPatch":
        return message("JSONPatch", {"op": STRING, "path": STRING, "from": STRING, "value": DYN})
    if name == "Object" or name.startswith("Object."):
        return ObjectType(name, lambda field: DYN)
    return None


def compile_policy(spec: v1.MutatingAdmissionPolicySpec) -> tuple[Compiled, list[Problem]]:
    """All expressions of a policy."""
    from podling.apiserver.admission.match_cel import POLICY_VARIABLES
    from podling.machinery import cel
    from podling.machinery.cel import library as cel_library

    functions = cel_library.MUTATION_FUNCTIONS
    problems: list[Problem] = []
    base = {k: v for k, v in POLICY_VARIABLES.items() if k != "params" or spec.param_kind is not None}
    known, variables, failures = compile_variables(spec, base, structs=structs, functions=functions)
    for index, error in failures:
        expression = (spec.variables or [])[index].expression
        problems.append(Problem(("variables", index, "expression"), expression, str(error)))
    mutations: list[Any] = []
    for index, mutation in enumerate(spec.mutations or ()):
        field, text, result = _expression(mutation)
        program = None
        try:
            program = cel.compile(text, known, result=result, structs=structs, functions=functions)
        except cel.CompileError as error:
            problems.append(Problem(("mutations", index, field, "expression"), text, str(error)))
        mutations.append(program)
    return Compiled(variables, mutations, ", ".join(p.why for p in problems)), problems


def _expression(mutation: v1.Mutation) -> tuple[str, str, cel.Type]:
    """Which field has the expression, its text, and what it must give."""
    from podling.machinery import cel

    if mutation.patch_type == "JSONPatch":
        patch = structs("JSONPatch")
        assert patch is not None
        return "jsonPatch", (mutation.json_patch.expression if mutation.json_patch else None) or "", cel.list_of(patch)
    configuration = mutation.apply_configuration
    kind = structs("Object")
    assert kind is not None
    return "applyConfiguration", (configuration.expression if configuration else None) or "", kind


class MutatingAdmissionPolicy(PolicyPlugin[Compiled]):
    name = "MutatingAdmissionPolicy"
    operations = frozenset((CREATE, UPDATE, CONNECT))
    mutates = True
    policy_kind = v1.MutatingAdmissionPolicy
    binding_kind = v1.MutatingAdmissionPolicyBinding

    def compile(self, policy: Any) -> Compiled:
        return compile_policy(policy.spec)[0]

    async def mutate(self, attributes: Attributes) -> None:
        if match.exempt(attributes) or attributes.obj is None:
            return
        seen = Seen(self.app, attributes)
        notes: dict[str, Any] = attributes.notes.setdefault(
            self.name, {"again": set(), "called": set(), "output": None}
        )
        if attributes.again and notes["output"] is not None and notes["output"] != _fingerprint(seen):
            notes["again"] |= notes["called"]
        failures: list[tuple[Any, Any, str]] = []
        invocations = self._invocations(attributes, failures)
        for invocation in invocations:
            await self._invoke(invocation, seen, notes, failures)
        if invocations:
            notes["output"] = _fingerprint(seen)
        failures = [f for f in failures if (f[0].spec.failure_policy or "Fail") == "Fail"]
        if failures:
            raise _denial(attributes, failures)

    def _invocations(self, attributes: Attributes, failures: list[tuple[Any, Any, str]]) -> list[Invocation]:
        found = []
        for policy, bindings in self.hooks():
            try:
                served = self.matching(policy, attributes)
                if served is None:
                    continue
                if policy.spec.param_kind is not None:
                    self.param_resource(policy.spec.param_kind)
            except ConfigurationError as error:
                failures.append((policy, None, str(error)))
                continue
            for binding in bindings:
                try:
                    params = self.bound(policy, binding, attributes)
                except ConfigurationError as error:
                    failures.append((policy, binding, str(error)))
                    continue
                found += [Invocation(policy, binding, self.compiled(policy), served, p) for p in params]
        return found

    async def _invoke(
        self, invocation: Invocation, seen: Seen, notes: dict[str, Any], failures: list[tuple[Any, Any, str]]
    ) -> None:
        from podling.apiserver.admission.match_cel import bindings, matches_conditions

        policy, binding = invocation.policy, invocation.binding
        spec: v1.MutatingAdmissionPolicySpec = policy.spec
        values = bindings(seen, invocation.served, params=invocation.param)
        try:
            conditions = spec.match_conditions or ()
            policy_name = spec.failure_policy or "Fail"
            matches = partial(
                matches_conditions, seen, invocation.served, conditions, policy_name,
                ("policy", policy.metadata.name, metrics.VALIDATE),
                variables=values, has_params=spec.param_kind is not None,
            )  # fmt: skip
            if conditions and not await decided(matches):
                return
        except StatusError as error:
            failures.append((policy, binding, str(error)))
            return
        meta = (invocation.param or {}).get("metadata") or {}
        key = (policy.metadata.name, binding.metadata.name, meta.get("namespace"), meta.get("name"))
        if seen.attributes.again and key not in notes["again"]:
            return
        before = seen.object(invocation.served)
        if invocation.compiled.error:
            policy_metrics.mutated(policy_metrics.COMPILE, policy.metadata.name, binding.metadata.name, 0.0)
            failures.append((policy, binding, invocation.compiled.error))
            return
        for index, mutation in enumerate(spec.mutations or ()):
            began, kind = clock.real_seconds(), policy_metrics.NO_ERROR
            try:
                await decided(partial(self._mutate, index, mutation, invocation, seen))
            except MutationFailed as error:
                kind = error.kind
                failures.append((policy, binding, str(error)))
            seconds = clock.real_seconds() - began
            policy_metrics.mutated(kind, policy.metadata.name, binding.metadata.name, seconds)
        if seen.object(invocation.served) != before:
            notes["again"] |= notes["called"]
            notes["called"] = set()
            seen.attributes.reinvoke = True
        if spec.reinvocation_policy == "IfNeeded":
            notes["called"].add(key)

    def _mutate(self, index: int, mutation: v1.Mutation, invocation: Invocation, seen: Seen) -> None:
        """Compute and apply one mutation of the object as it is now."""
        from podling.apiserver.admission.match_cel import bindings
        from podling.machinery import cel

        budget = Budget(cel.TOTAL_BUDGET)
        values = bindings(seen, invocation.served, params=invocation.param)
        values["variables"] = Variables(invocation.compiled.variables, values, budget)
        program = invocation.compiled.mutations[index]
        try:
            value = budget.run(program, values)
        except cel.EvaluationError as error:
            raise MutationFailed(f"expression '{program.expression}' resulted in error: {error}") from None
        except OutOfBudget as error:
            raise MutationFailed(str(error), policy_metrics.OUT_OF_BUDGET) from None
        before = seen.object(invocation.served)
        assert before is not None
        if mutation.patch_type == "JSONPatch":
            after = patched(before, value)
        else:
            after = configured(before, value, invocation.served)
        if after is None or after == before:
            return
        try:
            seen.update(invocation.served, after)
        except (schema.DecodeError, msgspec.ValidationError) as error:
            raise MutationFailed(str(error)) from None


def _fingerprint(seen: Seen) -> bytes | None:
    obj = seen.object(seen.own)
    return msgspec.json.encode(obj) if obj is not None else None


def _denial(attributes: Attributes, failures: list[tuple[Any, Any, str]]) -> StatusError:
    messages = []
    for policy, binding, why in failures:
        if binding is None:
            messages.append(f'policy "{policy.metadata.name}" denied request: {why}')
        else:
            names = f"policy '{policy.metadata.name}' with binding '{binding.metadata.name}'"
            messages.append(f"{names} denied request: {why}")
    error = forbidden(attributes, "admission request denied by policy")
    status = error.status
    status.message = messages[0]
    if failures[0][1] is not None and not failures[0][2].startswith("failed to configure"):
        status.reason = "Invalid"
    status.details = status.details or meta_v1.StatusDetails()
    status.details.causes = [meta_v1.StatusCause(message=m) for m in messages]
    return StatusError(status)


# -- patches ----------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value of an expression as JSON has it. MutationFailed if JSON has no such thing."""
    from podling.machinery.cel import types as t

    if isinstance(value, t.Duration | t.Timestamp):
        return str(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    if isinstance(value, t.UInt):
        return int(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise MutationFailed("JSONPath valueExpression evaluated to a type that could not marshal to JSON")


def misnamed(value: Any, path: str) -> list[str]:
    """Objects whose types are not named after the place where they stand."""
    from podling.machinery.cel.types import Object

    found = []
    if isinstance(value, Object):
        if value.type_name != path:
            found.append(
                f'unexpected type name "{value.type_name}", expected "{path}", which matches field name path from root '
                "Object type"
            )
        for name, inner in value.items():
            found += misnamed(inner, f"{path}.{name}")
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            found += misnamed(inner, path)
    return found


def _check_names(value: Any, root: str) -> None:
    if found := misnamed(value, root):
        raise MutationFailed("type mismatch: " + "\n".join(found))


def patched(before: Wire, operations: list[Any]) -> Wire | None:
    """The object after a JSON patch; None if one of its tests says that it is not for this object."""
    from podling.machinery.cel.types import Object

    patch = []
    for operation in operations:
        value = operation.get("value")
        if isinstance(value, Object):
            _check_names(value, value.type_name)
        patch.append(plain(operation))
    document = msgspec.json.decode(msgspec.json.encode(before))
    try:
        found: Wire = json_patch.apply(document, patch)
    except json_patch.PatchError as error:
        if re.search(r"testing|test", str(error)) and any(o.get("op") == "test" for o in patch):
            return None
        raise MutationFailed(f"JSON Patch: {error}") from None
    return found


def configured(before: Wire, value: Any, served: Served) -> Wire:
    """The object with all that an apply configuration says."""
    _check_names(value, "Object")
    node = node_of(served)
    intent = plain(value)
    intent["apiVersion"], intent["kind"] = before.get("apiVersion"), before.get("kind")
    if found := atomics(intent, node, ""):
        why = f"invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {', '.join(found)}"
        raise MutationFailed(f"error applying patch: {why}")
    try:
        merged: Wire = apply.merge(before, intent, node)
    except Exception as error:
        if not isinstance(error, apply.SchemaMismatch):
            raise
        raise MutationFailed(f"error applying patch: failed to convert patch object to typed object: {error}") from None
    return merged


def node_of(served: Served) -> merge_schema.Node:
    """How objects of a resource merge."""
    if registry.by_name(served.resource.group, served.resource.version, served.resource.name) is not None:
        return merge_schema.of_type(served.resource.type)
    node: merge_schema.Node = getattr(served.codec, "merge_schema", merge_schema.DEDUCED)
    return node


def atomics(value: Any, node: merge_schema.Node, path: str) -> list[str]:
    """Where a value is replaced as a whole: what it does not say would be lost."""
    node = node.resolve(value)
    if not isinstance(value, dict | list):
        return []
    if node.shape == "atomic":
        return [path or "."]
    if isinstance(value, dict):
        return [p for name, inner in value.items() for p in atomics(inner, node.child(name), f"{path}.{name}")]
    return [p for i, inner in enumerate(value) for p in atomics(inner, node.item(), f"{path}[{i}]")]
