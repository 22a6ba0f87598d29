"""Authorization by a webhook: a SubjectAccessReview posted to a server outside, answers kept for a while.

What is known is answered at once. Source: Kubernetes' "Webhook Mode", k8s.io/apiserver plugin/pkg/authorizer/webhook.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from podling import clock, log
from podling.api import selectors
from podling.apiserver.authz import metrics
from podling.apiserver.authz.attributes import NO_OPINION, Attributes, Decision, Verdict
from podling.apiserver.authz.authorization_config import Webhook, seconds
from podling.apiserver.expiring import Expiring
from podling.apiserver.remote_review import RemoteReview, ReviewFailure

if TYPE_CHECKING:
    from podling.machinery import cel

LOG = log.get(__name__)

#: So long may what a requester controls be for an answer to be kept.
MAX_KEPT = 10_000
_LABEL_OPERATORS = {
    "=": "In", "==": "In", "in": "In", "!=": "NotIn", "notin": "NotIn", "exists": "Exists", "!": "DoesNotExist",
}  # fmt: skip


class WebhookAuthorizer:
    """Asks `remote` as `config` says. `close` when done."""

    def __init__(self, config: Webhook, remote: RemoteReview, *, name: str = "webhook") -> None:
        self._config = config
        self._name = name
        self._remote = remote
        self._timeout = seconds(config.timeout)
        self._allowed = seconds(config.authorized_ttl) if config.cache_authorized_requests else 0.0
        self._refused = seconds(config.unauthorized_ttl) if config.cache_unauthorized_requests else 0.0
        self._known: Expiring[bytes, Decision] = Expiring(8192)
        self._asking: dict[bytes, asyncio.Task[Decision]] = {}
        self._conditions: list[cel.Program] = []
        if config.match_conditions:
            from podling.apiserver.authz import webhook_conditions

            self._conditions = [webhook_conditions.program(c.expression) for c in config.match_conditions]

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await self._remote.close()

    def authorize(self, attributes: Attributes) -> Verdict:
        spec = spec_of(attributes)
        if self._conditions:
            from podling.apiserver.authz import webhook_conditions

            try:
                with metrics.matching(self._name):
                    matches = webhook_conditions.match(self._conditions, conditions_view(spec))
                if not matches:
                    metrics.CONDITION_EXCLUSIONS.add(self._name, "Webhook")
                    return NO_OPINION
            except webhook_conditions.ConditionError as error:
                return self._failed(str(error))
        key = msgspec.json.encode(spec)
        known = self._known.get(key)
        return known if known is not None else self._wait(key, spec, attributes)

    async def _wait(self, key: bytes, spec: dict[str, Any], attributes: Attributes) -> Decision:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, spec, attributes))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, spec: dict[str, Any], attributes: Attributes) -> Decision:
        version = self._config.subject_access_review_version
        wire = dict(spec)
        if version == "v1beta1":
            # The field had another name then.
            wire["group"] = wire.pop("groups", None)
        review = {
            "kind": "SubjectAccessReview",
            "apiVersion": f"authorization.k8s.io/{version}",
            "metadata": {"creationTimestamp": None},
            "spec": {k: v for k, v in wire.items() if v is not None},
            "status": {"allowed": False},
        }
        began, open_ = clock.real_seconds(), self._config.failure_policy != "Deny"
        try:
            status = await self._remote.ask(review, self._timeout)
        except ReviewFailure as error:
            result = "timeout" if error.timed_out else "error"
            metrics.asked(self._name, result, clock.real_seconds() - began, open_=open_)
            LOG.error("Failed to make webhook authorizer request: %s", error)
            return self._failed(str(error))
        metrics.asked(self._name, "success", clock.real_seconds() - began, open_=False)
        decision = judged(status)
        if len(key) - _fixed(attributes) < MAX_KEPT:
            self._known.put(key, decision, self._allowed if status.get("allowed") is True else self._refused)
        return decision

    def _failed(self, why: str) -> Decision:
        return Decision(False, "", why, denied=self._config.failure_policy == "Deny")


def _fixed(attributes: Attributes) -> int:
    """The length of what its administrator, and not the requester, controls: who the user is."""
    user = attributes.user
    extra = sum(len(k) + sum(map(len, vs)) for k, vs in user.extra.items())
    return len(user.name) + len(user.uid) + sum(map(len, user.groups)) + extra


def judged(status: dict[str, Any]) -> Decision:
    """The decision that a SubjectAccessReview's status is."""
    allowed, denied = status.get("allowed") is True, status.get("denied") is True
    reason = str(status.get("reason") or "")
    if allowed and denied:
        why = "webhook subject access review returned both allow and deny response"
        return Decision(False, reason, why, denied=True)
    return Decision(allowed, reason, denied=denied)


def spec_of(attributes: Attributes) -> dict[str, Any]:
    """The spec of a SubjectAccessReview that asks the same; what is empty is left out."""
    user = attributes.user
    spec: dict[str, Any] = {}
    if attributes.resource:
        found = {
            "namespace": attributes.namespace, "verb": attributes.verb, "group": attributes.group,
            "version": attributes.version, "resource": attributes.resource, "subresource": attributes.subresource,
            "name": attributes.name,
        }  # fmt: skip
        resource: dict[str, Any] = {k: v for k, v in found.items() if v}
        if fields := _fields(attributes.field_selector):
            resource["fieldSelector"] = {"requirements": fields}
        if labels := _labels(attributes.label_selector):
            resource["labelSelector"] = {"requirements": labels}
        spec["resourceAttributes"] = resource
    else:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
    more = {
        "user": user.name, "groups": list(user.groups), "uid": user.uid,
        "extra": {k: list(v) for k, v in sorted(user.extra.items())},
    }  # fmt: skip
    return spec | {k: v for k, v in more.items() if v}


def conditions_view(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as match conditions see it: with every text, also empty ones."""
    view: dict[str, Any] = {"user": "", "groups": [], "uid": "", "extra": {}, **spec}
    if (resource := spec.get("resourceAttributes")) is not None:
        names = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
        view["resourceAttributes"] = {**dict.fromkeys(names, ""), **resource}
    return view


def _fields(text: str) -> list[dict[str, Any]]:
    """Requirements of a field selector; none of one that can't be read, since they only narrow."""
    if not text:
        return []
    try:
        found = selectors.parse_fields(text)
    except selectors.SelectorError:
        return []
    return [
        {"key": r.field, "operator": "NotIn" if r.negated else "In", "values": [r.value]} for r in found.requirements
    ]


def _labels(text: str) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        found = selectors.parse(text)
    except selectors.SelectorError:
        return []
    requirements: list[dict[str, Any]] = []
    for requirement in found.requirements:
        operator = _LABEL_OPERATORS.get(requirement.operator)
        if operator is None:
            continue
        item: dict[str, Any] = {"key": requirement.key, "operator": operator}
        if requirement.values:
            item["values"] = list(requirement.values)
        requirements.append(item)
    return requirements
