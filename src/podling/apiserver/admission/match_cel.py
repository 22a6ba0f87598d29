"""Expressions of webhooks and policies: the variables that they may use, and match conditions.

Source: k8s.io/apiserver pkg/admission/plugin/cel and webhook/matchconditions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.admission import metrics
from podling.apiserver.admission.match_request import Seen, admission_request
from podling.apiserver.admission.refusal import forbidden
from podling.apiserver.authn import names
from podling.apiserver.authz.attributes import Attributes as Access
from podling.apiserver.authz.attributes import Decision, Undecided
from podling.apiserver.core import Core
from podling.apiserver.served import Served
from podling.machinery import cel
from podling.machinery.cel.library.authorizer import Answer, Authorizer, Decide, Question, ResourceCheck
from podling.machinery.cel.types import DYN, INT, STRING, ObjectType, Type, list_of, map_of, message

_KIND = message("kubernetes.GroupVersionKind", {"group": STRING, "version": STRING, "kind": STRING})
_RESOURCE = message("kubernetes.GroupVersionResource", {"group": STRING, "version": STRING, "resource": STRING})
_USER = message(
    "kubernetes.UserInfo",
    {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))},
)
REQUEST = message(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND, "resource": _RESOURCE, "subResource": STRING, "requestKind": _KIND, "requestResource": _RESOURCE,
        "requestSubResource": STRING, "name": STRING, "namespace": STRING, "operation": STRING, "userInfo": _USER,
        "dryRun": cel.BOOL, "options": DYN,
    },
)  # fmt: skip
_METADATA = message(
    "kubernetes.NamespaceMetadata",
    {
        "name": STRING, "generateName": STRING, "namespace": STRING, "labels": map_of(STRING, STRING),
        "annotations": map_of(STRING, STRING), "UID": STRING, "creationTimestamp": cel.TIMESTAMP,
        "deletionGracePeriodSeconds": INT, "deletionTimestamp": cel.TIMESTAMP, "generation": INT,
        "resourceVersion": STRING, "finalizers": list_of(STRING),
    },
)  # fmt: skip
_CONDITION = message(
    "kubernetes.NamespaceCondition",
    {"status": STRING, "type": STRING, "lastTransitionTime": cel.TIMESTAMP, "message": STRING, "reason": STRING},
)
NAMESPACE: ObjectType = message(
    "kubernetes.Namespace",
    {
        "metadata": _METADATA,
        "spec": message("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}),
        "status": message("kubernetes.NamespaceStatus", {"conditions": list_of(_CONDITION), "phase": STRING}),
    },
)
#: What match conditions may use; policies have more.
VARIABLES: dict[str, Type] = {
    "object": DYN,
    "oldObject": DYN,
    "request": REQUEST,
    "authorizer": Authorizer.TYPE,
    "authorizer.requestResource": ResourceCheck.TYPE,
}


@lru_cache(512)
def condition(expression: str, *, params: bool = False) -> cel.Program:
    """A match condition of a webhook, or of a policy, which may have parameters. Raises cel.CompileError."""
    variables = {k: v for k, v in POLICY_VARIABLES.items() if k != "params" or params}
    return cel.compile(expression, variables, result=cel.BOOL)


POLICY_VARIABLES: dict[str, Type] = {**VARIABLES, "namespaceObject": NAMESPACE, "params": DYN}


def bindings(seen: Seen, served: Served, *, params: Any = None) -> dict[str, Any]:
    """The values of the variables for a request."""
    app, attributes = seen.app, seen.attributes
    decide = decider(app, attributes.user, attributes.notes.setdefault("authorizer", {}))
    resource = attributes.resource
    question = Question(
        group=resource.group, resource=resource.name, subresource=attributes.subresource,
        namespace=attributes.namespace, name=attributes.name,
    )  # fmt: skip
    return {
        "object": seen.object(served),
        "oldObject": seen.old(served),
        "request": admission_request(seen, served),
        "authorizer": Authorizer(decide),
        "authorizer.requestResource": ResourceCheck(decide, question),
        "namespaceObject": _namespace(app, seen),
        "params": params,
    }


def _namespace(app: Core, seen: Seen) -> Any:
    """The namespace of a namespaced object."""
    attributes = seen.attributes
    if not attributes.namespace or attributes.resource.qualified == "namespaces":
        return None
    served = app.lookup("", "namespaces")
    found = served.cache.get(attributes.namespace) if served is not None else None
    return served.codec.to_dict(found.object) if served is not None and found is not None else None


def decider(app: Core, user: User, answers: dict[Question, Answer]) -> Decide:
    """Answers what `authorizer` is asked, by the server's own authorizer.

    Raises Undecided if that has to wait; then `answers` will have the answer.
    """

    async def later(question: Question, pending: Awaitable[Decision]) -> None:
        decision = await pending
        answers[question] = decision.allowed, decision.reason, decision.error

    def decide(question: Question) -> Answer:
        if app.authorizer is None:
            return True, "", ""
        if answers and question in answers:
            return answers[question]
        who = user
        if question.account is not None:
            namespace, name = question.account
            groups = (*names.account_groups(namespace), names.AUTHENTICATED)
            who = User(names.account_user(namespace, name), groups)
        if question.path:
            asked = Access(who, question.verb, path=question.path)
        else:
            asked = Access(
                who, question.verb, question.group, "*", question.resource, question.subresource, question.namespace,
                question.name, "", question.field_selector, question.label_selector,
            )  # fmt: skip
        decision = app.authorizer(asked)
        if not isinstance(decision, Decision):
            raise Undecided(later(question, decision))
        return decision.allowed, decision.reason, decision.error

    return decide


def matches_conditions(
    seen: Seen,
    served: Served,
    conditions: Sequence[Any],
    failure_policy: str,
    owner: tuple[str, str, str],
    *,
    variables: Mapping[str, Any] | None = None,
    has_params: bool = False,
) -> bool:
    """Whether all conditions hold. One that does not decides; one that fails counts as the failure policy says.

    `owner` is whose they are: kind, name and phase, as metrics have it. StatusError 403 if one failed and the policy is
    Fail.
    """
    values = variables if variables is not None else bindings(seen, served)
    kind, name, step = owner
    operation = seen.attributes.operation
    failures: list[str] = []
    with metrics.matching(kind, name, operation, step):
        if not _all_hold(conditions, values, has_params, failures):
            return False
    if failures:
        metrics.CONDITION_ERRORS.add(kind, name, operation, step, by=len(failures))
    else:
        return True
    if failure_policy == "Ignore":
        return False
    raise match_failure(seen, failures)


def _all_hold(conditions: Sequence[Any], values: Mapping[str, Any], has_params: bool, failures: list[str]) -> bool:
    """Whether none is false; what can't be evaluated is added to `failures`."""
    budget = cel.MATCH_CONDITIONS_BUDGET
    for item in conditions:
        try:
            program = condition(item.expression, params=has_params)
            value, cost = program.measure(values, limit=min(budget, cel.PER_CALL_LIMIT))
            budget -= cost
            if value is False:
                return False
        except cel.CompileError as error:
            failures.append(f"compilation error: {error}")
        except cel.EvaluationError as error:
            failures.append(f"expression '{item.expression}' resulted in error: {error}")
    return True


def match_failure(seen: Seen, failures: Sequence[str]) -> StatusError:
    text = failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]"
    return forbidden(seen.attributes, text)
