"""What validating and mutating admission policies share: policies with their bindings, parameters, variables.

Source: k8s.io/apiserver pkg/admission/plugin/policy/generic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from podling.api import errors, selectors
from podling.apiserver.admission import match
from podling.apiserver.admission.base import CONNECT, CREATE, DELETE, UPDATE, Attributes, Plugin
from podling.apiserver.served import Served

if TYPE_CHECKING:
    from podling.apiserver.core import Core
    from podling.machinery import cel

C = TypeVar("C")


class ConfigurationError(Exception):
    """A policy or binding can't be used as it is; the failure policy says what that means."""


class Variables(dict[str, Any]):
    """`variables`: each is computed when it is first asked for."""

    __slots__ = ("_bindings", "_failed", "_programs", "_spend")

    def __init__(self, programs: Mapping[str, cel.Program], bindings: dict[str, Any], spend: Budget) -> None:
        super().__init__()
        self._programs = programs
        self._bindings = bindings
        self._failed: dict[str, Exception] = {}
        self._spend = spend

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._failed:
            raise self._failed[key]
        if dict.__contains__(self, key):
            return self[key]
        program = self._programs.get(key)
        if program is None:
            return default
        from podling.machinery.cel import EvaluationError

        try:
            value = self[key] = self._spend.run(program, self._bindings)
        except EvaluationError as error:
            # The program stands for the variable's own expression: who uses it fails with it.
            self._failed[key] = failure = EvaluationError(f'composited variable "{key}" fails to evaluate: {error}')
            raise failure from None
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._programs


class Budget:
    """What all expressions of a policy may cost together for one request."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def run(self, program: cel.Program, bindings: Mapping[str, Any]) -> Any:
        """The value. EvaluationError."""
        from podling.machinery import cel

        if self.left < 0:
            raise OutOfBudget
        try:
            value, cost = program.measure(bindings, limit=min(self.left, cel.PER_CALL_LIMIT))
        except cel.EvaluationError as error:
            self.left -= getattr(error, "cost", 0)
            if isinstance(error, cel.CostExceeded) and self.left <= 0:
                raise OutOfBudget from None
            raise
        self.left -= cost
        return value


class OutOfBudget(Exception):
    """Nothing more is evaluated."""

    def __init__(self) -> None:
        super().__init__("validation failed due to running out of cost budget, no further validation rules will be run")


class Invocation(NamedTuple):
    """A policy that is to be evaluated for a request, with one of its parameters (a wire-form dict, or None)."""

    policy: Any
    binding: Any
    compiled: Any
    served: Served
    param: dict[str, Any] | None


class PolicyPlugin(Plugin, Generic[C]):
    """Knows the policies and bindings; subclasses compile and evaluate."""

    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))
    subresources = None
    active = False
    policy_kind: type[Any]
    binding_kind: type[Any]

    def __init__(self, app: Core) -> None:
        super().__init__(app)
        self._policies: dict[str, Any] = {}
        self._bindings: dict[str, Any] = {}
        self._compiled: dict[str, C] = {}
        self._hooks: list[tuple[Any, list[Any]]] | None = []
        app.observe(self.policy_kind, self._observe_policy)
        app.observe(self.binding_kind, self._observe_binding)

    def _observe_policy(self, event: str, policy: Any) -> None:
        name = policy.metadata.name
        old = self._policies.pop(name, None)
        if old is None or old.spec != policy.spec:
            self._compiled.pop(name, None)
        if event == "DELETED":
            self._compiled.pop(name, None)
        else:
            self._policies[name] = policy
        self._changed()

    def _observe_binding(self, event: str, binding: Any) -> None:
        self._bindings.pop(binding.metadata.name, None)
        if event != "DELETED":
            self._bindings[binding.metadata.name] = binding
        self._changed()

    def _changed(self) -> None:
        # A policy without a binding does nothing.
        self.active = bool(self._policies) and bool(self._bindings)
        self._hooks = None

    def hooks(self) -> list[tuple[Any, list[Any]]]:
        """Policies that have bindings, with these, both in the order of their names."""
        if self._hooks is None:
            found: dict[str, list[Any]] = {}
            for name in sorted(self._bindings):
                binding = self._bindings[name]
                found.setdefault(binding.spec.policy_name or "", []).append(binding)
            self._hooks = [(self._policies[p], found[p]) for p in sorted(found) if p in self._policies]
        return self._hooks

    def compiled(self, policy: Any) -> C:
        name = policy.metadata.name
        if name not in self._compiled:
            self._compiled[name] = self.compile(policy)
        return self._compiled[name]

    def compile(self, policy: Any) -> C:
        """The policy's expressions; what does not compile is an error of each evaluation."""
        raise NotImplementedError

    def matching(self, policy: Any, attributes: Attributes) -> Served | None:
        """The resource as which a policy matches. ConfigurationError."""
        try:
            return match.matches_resources(self.app, policy.spec.match_constraints, attributes)
        except (errors.StatusError, selectors.SelectorError) as error:
            raise ConfigurationError(f"failed to configure policy: {error}") from None

    def bound(self, policy: Any, binding: Any, attributes: Attributes) -> list[dict[str, Any] | None]:
        """The parameters with which a binding wants the policy evaluated; none if it does not match.

        ConfigurationError.
        """
        try:
            if match.matches_resources(self.app, binding.spec.match_resources, attributes) is None:
                return []
            return self._params(policy.spec.param_kind, binding.spec.param_ref, attributes.namespace)
        except (errors.StatusError, selectors.SelectorError, LookupError) as error:
            why = error.args[0] if isinstance(error, LookupError) else error
            raise ConfigurationError(f"failed to configure binding: {why}") from None

    def param_resource(self, kind: Any) -> Served:
        """The resource of a policy's parameters. ConfigurationError if there is none."""
        for served in self.app.served.values():
            resource = served.resource
            if resource.kind == kind.kind and resource.group_version == kind.api_version and not resource.virtual:
                return served
        shown = (
            f"{kind.api_version}, Kind={kind.kind}"
            if "/" in (kind.api_version or "")
            else (f"/{kind.api_version}, Kind={kind.kind}")
        )
        raise ConfigurationError(
            f"failed to configure policy: failed to find resource referenced by paramKind: '{shown}'"
        )

    def _params(self, kind: Any, reference: Any, namespace: str) -> list[dict[str, Any] | None]:
        """LookupError with upstream's text."""
        if kind is None or reference is None:
            return [None]
        served = self.param_resource(kind)
        where = ""
        if served.resource.namespaced:
            where = reference.namespace or namespace
            if not where:
                raise LookupError(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif reference.namespace:
            raise LookupError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        found = list(self._found(served, reference, where))
        if not found and reference.parameter_not_found_action == "Deny":
            raise LookupError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return [served.codec.to_dict(obj) for obj in found]

    def _found(self, served: Served, reference: Any, namespace: str) -> Iterable[Any]:
        if reference.name:
            entry = served.cache.get(served.key(namespace, reference.name))
            entries = [entry] if entry is not None else []
        else:
            wanted = selectors.from_label_selector(reference.selector)
            entries = served.cache.in_namespace(namespace) if namespace else served.cache.all()
            entries = [e for e in entries if wanted.matches(e.object.metadata.labels or {})]
        return [entry.shown(served.view)[0] for entry in entries]


def compile_variables(
    spec: Any, base: Mapping[str, Any], **options: Any
) -> tuple[dict[str, Any], dict[str, cel.Program], list[tuple[int, cel.CompileError]]]:
    """A policy's variables: what expressions may mention, with `variables`; the programs; what does not compile."""
    from podling.machinery import cel

    types: dict[str, cel.Type] = {}
    programs: dict[str, cel.Program] = {}
    failures: list[tuple[int, cel.CompileError]] = []
    known = {**base, "variables": cel.message("kubernetes.variables", types)}
    for index, variable in enumerate(spec.variables or ()):
        try:
            program = cel.compile(variable.expression, known, **options)
        except cel.CompileError as error:
            failures.append((index, error))
            types[variable.name] = cel.DYN
            continue
        programs[variable.name] = program
        types[variable.name] = program.type
    return known, programs, failures
