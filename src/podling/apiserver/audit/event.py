"""audit.k8s.io/v1 Event, as JSON and as the line of the legacy format (pkg/apis/audit/v1, pkg/audit/format.go)."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api.request import User
from podling.api.struct import ApiStruct, encode, to_dict
from podling.apiserver.audit.policy import API_VERSION
from podling.machinery.validation import quote

#: A User-Agent is recorded up to here.
MAX_USER_AGENT = 1024


class ObjectReference(ApiStruct):
    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_group: str = msgspec.field(name="apiGroup", default="")
    api_version: str = msgspec.field(name="apiVersion", default="")
    resource_version: str = ""
    subresource: str = ""


class UserInfo(ApiStruct):
    """authentication.k8s.io/v1 UserInfo, in upstream's order."""

    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class AuthenticationMetadata(ApiStruct):
    """How the user was found."""

    impersonation_constraint: str = ""


def _empty() -> dict[str, Any]:
    """Written though it is empty: a plain `dict` would be left out."""
    return {}


class ResponseStatus(ApiStruct):
    """metav1.Status as it stands in an event: in upstream's order, without kind and version."""

    metadata: dict[str, Any] = msgspec.field(default_factory=_empty)
    status: str = ""
    message: str = ""
    reason: str = ""
    details: Any = None
    code: int = 0


class Event(msgspec.Struct, omit_defaults=True, kw_only=True, rename="camel"):
    """What happened to one request, at one stage. Objects are JSON already, and are copied in as they are."""

    kind: str = msgspec.field(default_factory=lambda: "Event")
    api_version: str = msgspec.field(default_factory=lambda: API_VERSION)
    level: str = msgspec.field(default_factory=str)
    audit_id: str = msgspec.field(name="auditID", default_factory=str)
    stage: str = msgspec.field(default_factory=str)
    request_uri: str = msgspec.field(name="requestURI", default_factory=str)
    verb: str = msgspec.field(default_factory=str)
    user: UserInfo = msgspec.field(default_factory=lambda: UserInfo())
    impersonated_user: UserInfo | None = None
    authentication_metadata: AuthenticationMetadata | None = None
    source_ips: list[str] = msgspec.field(name="sourceIPs", default_factory=list)
    user_agent: str = ""
    object_ref: ObjectReference | None = None
    response_status: ResponseStatus | None = None
    request_object: msgspec.Raw | None = None
    response_object: msgspec.Raw | None = None
    request_received_timestamp: str = msgspec.field(default_factory=str)
    stage_timestamp: str = msgspec.field(default_factory=str)
    annotations: dict[str, str] = {}


def user_info(user: User) -> UserInfo:
    extra = {key: list(values) for key, values in user.extra.items()}
    return UserInfo(username=user.name, uid=user.uid, groups=list(user.groups), extra=extra)


def shortened_agent(agent: str) -> str:
    return agent if len(agent) <= MAX_USER_AGENT else agent[:MAX_USER_AGENT] + "...TRUNCATED"


def as_json(obj: Any) -> bytes:
    """An event, or an object, as JSON. What a client sent that is no UTF-8 is replaced, as Go does, not refused."""
    try:
        return encode(obj)
    except UnicodeEncodeError:
        return encode(_replaced(to_dict(obj)))


def _replaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


def event_list(events: list[Event]) -> bytes:
    """An EventList, as webhooks get it."""
    head = f'{{"kind":"EventList","apiVersion":"{API_VERSION}","metadata":{{}},"items":['.encode()
    return head + b",".join(as_json(e) for e in events) + b"]}"


def line(event: Event) -> str:
    """An event in the legacy format."""
    user, other, ref, status = event.user, event.impersonated_user, event.object_ref, event.response_status
    groups = _listed(user.groups) if user.username and user.groups else "<none>"
    shown = {
        "id": event.audit_id,
        "stage": event.stage,
        "ip": event.source_ips[0] if event.source_ips else "<unknown>",
        "method": event.verb,
        "user": user.username or "<none>",
        "groups": groups,
        "as": other.username if other is not None else "<self>",
        "asgroups": _listed(other.groups) if other is not None and other.groups else "<lookup>",
        "user-agent": event.user_agent,
        "namespace": ref.namespace if ref is not None and ref.namespace else "<none>",
        "uri": event.request_uri,
        "response": str(status.code) if status is not None else "<deferred>",
    }
    return f"{_nanoseconds(event.request_received_timestamp)} AUDIT: " + " ".join(
        f"{name}={quote(text)}" for name, text in shown.items()
    )


def _listed(groups: list[str]) -> str:
    return ",".join(quote(g) for g in groups)


def _nanoseconds(stamp: str) -> str:
    """RFC3339Nano leaves out zeros at the end of the fraction."""
    whole, dot, fraction = stamp.removesuffix("Z").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}{dot if fraction else ''}{fraction}Z"
