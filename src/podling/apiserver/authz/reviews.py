"""The virtual resources that answer who somebody is and what they may do: reviews, created and never stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from podling.api import authentication_v1, authorization_v1, errors
from podling.api.errors import FieldError
from podling.api.request import User
from podling.api.struct import clone, encode
from podling.apiserver.authz import selector_attributes
from podling.apiserver.authz.attributes import Attributes, settled
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.rbac import RulesOfUser, aggregate
from podling.machinery.validation import Path

GROUP = "authorization.k8s.io"

AccessReview = (
    authorization_v1.SubjectAccessReview
    | authorization_v1.SelfSubjectAccessReview
    | authorization_v1.LocalSubjectAccessReview
)


class TokenAuthenticator(Protocol):
    """How a TokenReview is answered: the user and the audiences that the token is good for, or why it is not."""

    async def review(self, token: str, audiences: tuple[str, ...]) -> tuple[User | None, tuple[str, ...], str]: ...


class Reviews:
    """Answers by the authenticator and authorizer that judge requests."""

    def __init__(self, authorizer: Authorizer, tokens: TokenAuthenticator) -> None:
        self._authorizer = authorizer
        self._tokens = tokens

    async def handle_review(self, resource: str, obj: Any, user: User, namespace: str = "") -> Any:
        """`obj` with its status. `resource` is the plural (`subjectaccessreviews`); `namespace` is the request's."""
        obj = clone(obj)
        match obj:
            case authorization_v1.SelfSubjectAccessReview():
                return await self._access(obj, user)
            case authorization_v1.LocalSubjectAccessReview():
                return await self._access(obj, _subject(_local(obj, namespace).spec))
            case authorization_v1.SubjectAccessReview():
                return await self._access(obj, _subject(obj.spec))
            case authorization_v1.SelfSubjectRulesReview():
                return self._rules(obj, user)
            case authentication_v1.SelfSubjectReview():
                obj.status = authentication_v1.SelfSubjectReviewStatus(user_info=user_info(user))
                return obj
            case authentication_v1.TokenReview():
                return await self._token(obj)
        raise errors.bad_request(f"not a {resource}: {type(obj).__name__}")

    async def _access(self, obj: AccessReview, user: User) -> AccessReview:
        findings = _findings(obj)
        if findings:
            raise errors.invalid(obj.kind, GROUP, "", findings)
        decision = await settled(self._authorizer.authorize(attributes_of(obj.spec, user)))
        obj.status = authorization_v1.SubjectAccessReviewStatus(
            allowed=decision.allowed,
            denied=decision.denied or None,
            reason=decision.reason or None,
            evaluation_error=decision.error or None,
        )
        return obj

    def _rules(
        self, obj: authorization_v1.SelfSubjectRulesReview, user: User
    ) -> authorization_v1.SelfSubjectRulesReview:
        if not obj.spec.namespace:
            raise errors.bad_request("no namespace on request")
        obj.status = _rules_status(self._authorizer.rules_for(user, obj.spec.namespace))
        return obj

    async def _token(self, obj: authentication_v1.TokenReview) -> authentication_v1.TokenReview:
        if not obj.spec.token:
            raise errors.bad_request("token is required for TokenReview in authentication")
        user, audiences, error = await self._tokens.review(obj.spec.token, tuple(obj.spec.audiences or ()))
        obj.status = authentication_v1.TokenReviewStatus(
            authenticated=True if user else None,
            user=user_info(user) if user else authentication_v1.UserInfo(),
            audiences=list(audiences) or None,
            error=error or None,
        )
        return obj


def user_info(user: User) -> authentication_v1.UserInfo:
    """`user` as the API shows it."""
    extra = {key: list(values) for key, values in user.extra.items()}
    return authentication_v1.UserInfo(
        username=user.name, uid=user.uid or None, groups=list(user.groups) or None, extra=extra or None
    )


def _rules_status(found: RulesOfUser) -> authorization_v1.SubjectRulesReviewStatus:
    status = authorization_v1.SubjectRulesReviewStatus(
        incomplete=found.incomplete,
        evaluation_error=aggregate(found.errors) if found.errors else None,
    )
    for rule in found.rules:
        if rule.resources:
            status.resource_rules.append(
                authorization_v1.ResourceRule(
                    verbs=rule.verbs,
                    api_groups=rule.api_groups,
                    resources=rule.resources,
                    resource_names=rule.resource_names,
                )
            )
        if rule.non_resource_urls:
            status.non_resource_rules.append(
                authorization_v1.NonResourceRule(verbs=rule.verbs, non_resource_urls=rule.non_resource_urls)
            )
    return status


def attributes_of(
    spec: authorization_v1.SubjectAccessReviewSpec | authorization_v1.SelfSubjectAccessReviewSpec, user: User
) -> Attributes:
    """The question that a review asks."""
    wanted = spec.resource_attributes
    if wanted is None:
        path = spec.non_resource_attributes or authorization_v1.NonResourceAttributes()
        return Attributes(user, path.verb or "", path=path.path or "")
    return Attributes(
        user,
        wanted.verb or "",
        group=wanted.group or "",
        version=wanted.version or "*",
        resource=wanted.resource or "",
        subresource=wanted.subresource or "",
        namespace=wanted.namespace or "",
        name=wanted.name or "",
        field_selector=selector_attributes.text(wanted.field_selector),
        label_selector=selector_attributes.text(wanted.label_selector),
    )


def _subject(spec: authorization_v1.SubjectAccessReviewSpec) -> User:
    extra: Mapping[str, tuple[str, ...]] = {k: tuple(v) for k, v in (spec.extra or {}).items()}
    return User(spec.user or "", tuple(spec.groups or ()), spec.uid or "", extra)


def _local(obj: authorization_v1.LocalSubjectAccessReview, namespace: str) -> authorization_v1.LocalSubjectAccessReview:
    """Check that review and question are about the namespace of the request; the object's is filled in."""
    namespace = namespace or obj.metadata.namespace or ""
    asked = obj.spec.resource_attributes
    if asked is not None and (asked.namespace or "") != namespace:
        field = "spec.resourceAttributes.namespace"
        body = f"Invalid value: {json.dumps(asked.namespace or '')}: must match metadata.namespace"
        raise errors.invalid(obj.kind, GROUP, "", [FieldError("FieldValueInvalid", field, body)])
    obj.metadata.namespace = namespace
    return obj


def _findings(obj: AccessReview) -> list[FieldError]:
    spec = obj.spec
    findings = []
    if spec.resource_attributes is not None and spec.non_resource_attributes is not None:
        value = encode(spec.non_resource_attributes).decode()
        body = f"Invalid value: {value}: cannot be specified in combination with resourceAttributes"
        findings.append(FieldError("FieldValueInvalid", "spec.nonResourceAttributes", body))
    if spec.resource_attributes is None and spec.non_resource_attributes is None:
        body = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        findings.append(FieldError("FieldValueInvalid", "spec.resourceAttributes", body))
    findings += selector_attributes.findings(spec.resource_attributes, Path("spec").child("resourceAttributes"))
    if isinstance(spec, authorization_v1.SubjectAccessReviewSpec) and not spec.user and not spec.groups:
        findings.append(
            FieldError(
                "FieldValueInvalid", "spec.user", 'Invalid value: "": at least one of user or group must be specified'
            )
        )
    return findings
