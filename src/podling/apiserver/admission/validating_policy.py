"""ValidatingAdmissionPolicy: expressions that judge writes; bindings say where, with which parameters, to what effect.

Source: k8s.io/apiserver pkg/admission/plugin/policy/validating.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from podling import clock
from podling.api import admissionregistration_v1 as v1
from podling.api import meta_v1
from podling.api.errors import StatusError
from podling.apiserver.admission import match, metrics, policy_metrics
from podling.apiserver.admission.base import Attributes
from podling.apiserver.admission.match_policy import (
    Budget,
    ConfigurationError,
    Invocation,
    OutOfBudget,
    PolicyPlugin,
    Variables,
    compile_variables,
)
from podling.apiserver.admission.match_request import Seen
from podling.apiserver.admission.refusal import forbidden
from podling.apiserver.admission.validating_policy_status import TypeChecking
from podling.apiserver.authz.attributes import decided

if TYPE_CHECKING:
    from podling.apiserver.core import Core
    from podling.machinery import cel

#: Of a message that an expression made, and of an audit annotation's value, in bytes.
MAX_MESSAGE = 5 * 1024
MAX_ANNOTATION = 10 * 1024
#: How many failures go into the audit annotation.
MAX_FAILURES = 50
_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}


class Compiled(NamedTuple):
    """The programs of a policy, in the order of its spec. `error` is set if one does not compile."""

    variables: dict[str, cel.Program]
    validations: list[cel.Program]
    messages: list[cel.Program | None]
    annotations: list[cel.Program]
    error: str = ""


class Problem(NamedTuple):
    """An expression that does not compile: where it stands below spec, what it says, and why not."""

    path: tuple[str | int, ...]
    expression: str
    why: str


def compile_policy(spec: v1.ValidatingAdmissionPolicySpec) -> tuple[Compiled, list[Problem]]:
    """All expressions of a policy."""
    from podling.apiserver.admission.match_cel import POLICY_VARIABLES
    from podling.machinery import cel

    problems: list[Problem] = []
    base = {k: v for k, v in POLICY_VARIABLES.items() if k != "params" or spec.param_kind is not None}
    known, variables, failures = compile_variables(spec, base)
    for index, error in failures:
        expression = (spec.variables or [])[index].expression
        problems.append(Problem(("variables", index, "expression"), expression, str(error)))
    # Messages may not ask the authorizer.
    plain = {k: v for k, v in known.items() if not k.startswith("authorizer")}

    def attempt(path: tuple[str | int, ...], text: str, names: dict[str, Any], *result: cel.Type) -> Any:
        try:
            return cel.compile(text, names, result=result)
        except cel.CompileError as error:
            problems.append(Problem(path, text, str(error)))
            return None

    validations, messages = [], []
    for index, validation in enumerate(spec.validations or ()):
        at = ("validations", index)
        validations.append(attempt((*at, "expression"), validation.expression, known, cel.BOOL))
        text = validation.message_expression
        messages.append(attempt((*at, "messageExpression"), text, plain, cel.STRING) if text else None)
    annotations = [
        attempt(("auditAnnotations", i, "valueExpression"), a.value_expression, known, cel.STRING, cel.NULL)
        for i, a in enumerate(spec.audit_annotations or ())
    ]
    text = ", ".join(p.why for p in problems)
    return Compiled(variables, validations, messages, annotations, text), problems


class Decision(NamedTuple):
    """A validation's outcome that denies: why, with which reason, and which validation it was."""

    message: str
    reason: str = ""
    position: int = 0
    #: For metrics: what kind of error it is, and how long it took.
    error: str = policy_metrics.NO_ERROR
    seconds: float = 0.0


class Evaluation:
    """One policy with one parameter, for one request."""

    def __init__(self, invocation: Invocation, seen: Seen) -> None:
        from podling.apiserver.admission.match_cel import bindings
        from podling.machinery import cel

        self._spec: v1.ValidatingAdmissionPolicySpec = invocation.policy.spec
        self._name: str = invocation.policy.metadata.name
        self._compiled: Compiled = invocation.compiled
        #: Errors that the failure policy lets pass, and after how many seconds.
        self.ignored: list[tuple[str, float]] = []
        self._seen = seen
        self._served = invocation.served
        self._budget = Budget(cel.TOTAL_BUDGET)
        self._values = bindings(seen, invocation.served, params=invocation.param)
        self._values["variables"] = Variables(self._compiled.variables, self._values, self._budget)
        self._fails = (self._spec.failure_policy or "Fail") == "Fail"

    def matches(self) -> bool:
        """Whether the match conditions hold. StatusError if that can't be said and the failure policy is Fail."""
        from podling.apiserver.admission.match_cel import matches_conditions

        conditions = self._spec.match_conditions
        if not conditions:
            return True
        policy = self._spec.failure_policy or "Fail"
        return matches_conditions(
            self._seen,
            self._served,
            conditions,
            policy,
            ("policy", self._name, metrics.VALIDATE),
            variables=self._values,
            has_params=self._spec.param_kind is not None,
        )

    def decisions(self) -> list[Decision]:
        """What denies the request."""
        if self._compiled.error:
            decision = self._failed(Decision(self._compiled.error, error=policy_metrics.COMPILE))
            return [decision] if decision is not None else []
        found = []
        for index, validation in enumerate(self._spec.validations or ()):
            decision = self._decide(index, validation)
            if decision is not None:
                found.append(decision)
        return found

    def _decide(self, index: int, validation: v1.Validation) -> Decision | None:
        from podling.machinery.cel import EvaluationError

        began = clock.real_seconds()
        try:
            if self._budget.run(self._compiled.validations[index], self._values) is True:
                return None
        except EvaluationError as error:
            text = f"expression '{validation.expression}' resulted in error: {error}"
            seconds = clock.real_seconds() - began
            return self._failed(Decision(text, position=index, error=policy_metrics.INVALID, seconds=seconds))
        except OutOfBudget as error:
            seconds = clock.real_seconds() - began
            return self._failed(
                Decision(str(error), position=index, error=policy_metrics.OUT_OF_BUDGET, seconds=seconds)
            )
        seconds = clock.real_seconds() - began
        message = self._message(index) or (validation.message or "").strip()
        message = message or f"failed expression: {validation.expression.strip()}"
        return Decision(message, validation.reason or "Invalid", index, seconds=seconds)

    def _failed(self, decision: Decision) -> Decision | None:
        """What an expression's error decides, which is nothing unless the failure policy is Fail."""
        if self._fails:
            return decision
        self.ignored.append((decision.error, decision.seconds))
        return None

    def _message(self, index: int) -> str:
        """What the message expression says; "" if it fails or says nothing that could be shown."""
        from podling.machinery.cel import EvaluationError

        program = self._compiled.messages[index]
        if program is None:
            return ""
        try:
            text = self._budget.run(program, self._values)
        except (EvaluationError, OutOfBudget):
            return ""
        if not isinstance(text, str):
            return ""
        text = text.strip()
        return "" if "\n" in text or len(text.encode()) > MAX_MESSAGE else text

    def annotations(self) -> tuple[list[tuple[str, str]], list[Decision]]:
        """Audit annotations, and denials by those that fail."""
        from podling.machinery.cel import EvaluationError

        found: list[tuple[str, str]] = []
        failures: list[Decision] = []
        if self._compiled.error:
            return found, failures
        for index, annotation in enumerate(self._spec.audit_annotations or ()):
            try:
                value = self._budget.run(self._compiled.annotations[index], self._values)
            except (EvaluationError, OutOfBudget) as error:
                if self._fails:
                    text = f"expression '{annotation.value_expression}' resulted in error: {error}"
                    kind = policy_metrics.OUT_OF_BUDGET if isinstance(error, OutOfBudget) else policy_metrics.INVALID
                    failures.append(Decision(text, error=kind))
                continue
            if isinstance(value, str) and value.strip():
                found.append((annotation.key, value.strip()[:MAX_ANNOTATION]))
        return found, failures


class ValidatingAdmissionPolicy(PolicyPlugin[Compiled]):
    name = "ValidatingAdmissionPolicy"
    validates = True
    policy_kind = v1.ValidatingAdmissionPolicy
    binding_kind = v1.ValidatingAdmissionPolicyBinding

    def __init__(self, app: Core) -> None:
        super().__init__(app)
        self._checking = TypeChecking(app)

    async def close(self) -> None:
        await self._checking.close()

    def _observe_policy(self, event: str, policy: Any) -> None:
        super()._observe_policy(event, policy)
        if event != "DELETED":
            self._checking.check(policy)

    def compile(self, policy: Any) -> Compiled:
        return compile_policy(policy.spec)[0]

    async def validate(self, attributes: Attributes) -> None:
        if match.exempt(attributes):
            return
        seen = Seen(self.app, attributes)
        round_ = _Round(attributes)
        for policy, bindings in self.hooks():
            await self._validate(policy, bindings, seen, round_)
        round_.publish()
        if round_.denied:
            raise round_.denial()

    async def _validate(self, policy: Any, bindings: list[Any], seen: Seen, round_: _Round) -> None:
        try:
            served = self.matching(policy, seen.attributes)
            if served is None:
                return
            if policy.spec.param_kind is not None:
                self.param_resource(policy.spec.param_kind)
        except ConfigurationError as error:
            round_.misconfigured(policy, None, str(error))
            return
        for binding in bindings:
            try:
                params = self.bound(policy, binding, seen.attributes)
            except ConfigurationError as error:
                round_.misconfigured(policy, binding, str(error))
                continue
            for param in params:
                invocation = Invocation(policy, binding, self.compiled(policy), served, param)
                await decided(partial(round_.evaluate, invocation, seen))


class _Round:
    """What all policies together say about a request."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self.denied: list[tuple[str, str | None, Decision]] = []
        self._failures: list[dict[str, Any]] = []
        self._annotations: dict[str, list[str]] = {}

    def misconfigured(self, policy: Any, binding: Any, why: str) -> None:
        if (policy.spec.failure_policy or "Fail") == "Fail":
            self.denied.append((policy.metadata.name, binding.metadata.name if binding else None, Decision(why)))

    def evaluate(self, invocation: Invocation, seen: Seen) -> None:
        evaluation = Evaluation(invocation, seen)
        policy, binding = invocation.policy.metadata.name, invocation.binding
        try:
            if not evaluation.matches():
                return
        except StatusError as error:
            self._deny(policy, binding, Decision(str(error)))
            return
        # Both before anything is noted: an evaluation that has to wait for the authorizer is made anew.
        decisions = evaluation.decisions()
        published, failures = evaluation.annotations()
        name = binding.metadata.name or ""
        for kind, seconds in evaluation.ignored:
            policy_metrics.validated("allow", kind, policy, name, seconds)
        for decision in decisions:
            self._deny(policy, binding, decision)
        for failure in failures:
            policy_metrics.validated("deny", failure.error, policy, name, failure.seconds)
            self.denied.append((policy, name, failure))
        for key, value in published:
            values = self._annotations.setdefault(f"{policy}/{key}", [])
            if value not in values:
                values.append(value)

    def _deny(self, policy: str, binding: v1.ValidatingAdmissionPolicyBinding, decision: Decision) -> None:
        """As the binding's actions say."""
        name = binding.metadata.name or ""
        for action in binding.spec.validation_actions:
            policy_metrics.validated(action.lower(), decision.error, policy, name, decision.seconds)
            if action == "Deny":
                self.denied.append((policy, name, decision))
            elif action == "Warn":
                text = f"Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{name}': "
                if text + decision.message not in self._attributes.warnings:
                    self._attributes.warnings.append(text + decision.message)
            elif action == "Audit":
                self._failures.append(
                    {
                        "message": decision.message, "policy": policy, "binding": name,
                        "expressionIndex": decision.position, "validationActions": binding.spec.validation_actions,
                    }
                )  # fmt: skip

    def publish(self) -> None:
        """Note what the audit log is to hold."""
        for key, values in self._annotations.items():
            self._attributes.annotations[key] = ", ".join(values)
        if self._failures:
            text = json.dumps(self._failures[:MAX_FAILURES], separators=(",", ":"))
            self._attributes.annotations["validation.policy.admission.k8s.io/validation_failure"] = text

    def denial(self) -> StatusError:
        policy, binding, decision = self.denied[0]
        bound = f" with binding '{binding}'" if binding is not None else ""
        message = f"ValidatingAdmissionPolicy '{policy}'{bound} denied request: {decision.message}"
        error = forbidden(self._attributes, message)
        status = error.status
        status.reason = decision.reason or "Invalid"
        status.code = _CODES.get(status.reason, 422)
        status.details = status.details or meta_v1.StatusDetails()
        status.details.causes = [meta_v1.StatusCause(message=message)]
        return StatusError(status)
