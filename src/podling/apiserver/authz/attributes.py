"""What is asked of an authorizer, and what it answers: upstream's authorizer.Attributes and Decision."""

from __future__ import annotations

import json
from typing import NamedTuple

from podling.api import errors
from podling.api.request import User


class Attributes(NamedTuple):
    """A request in the authorizer's words. `resource` is empty for a non-resource request, which has a `path`.

    `verb` is get, list, watch, create, update, patch, delete, deletecollection, or one that is only ever asked
    (impersonate, bind, escalate, approve, sign, ...); for a path it is the HTTP method in lower case. The selectors are
    the raw query parameters. A list, watch or deletecollection whose field selector pins metadata.name has that `name`.
    """

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""


class Decision(NamedTuple):
    """`reason` says why (in upstream's words); `error` what could not be evaluated on the way."""

    allowed: bool
    reason: str = ""
    error: str = ""


NO_OPINION = Decision(False)


def quoted(text: str) -> str:
    """`text` in double quotes, escaped as Go's %q does for what appears in names."""
    return json.dumps(text, ensure_ascii=False)


def forbidden(attributes: Attributes, reason: str = "") -> errors.StatusError:
    """The 403 that answers a denied request, in upstream's words."""
    message = _message(attributes).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if reason:
        message = f"{message}: {reason}"
    if not attributes.resource:
        status = errors.forbidden("", "", "", message).status
        status.message = f"forbidden: {message}"
        return errors.StatusError(status)
    return errors.forbidden(attributes.resource, attributes.group, attributes.name, message)


def _message(a: Attributes) -> str:
    if not a.resource:
        return f"User {quoted(a.user.name)} cannot {a.verb} path {quoted(a.path)}"
    resource = f"{a.resource}/{a.subresource}" if a.subresource else a.resource
    scope = f"in the namespace {quoted(a.namespace)}" if a.namespace else "at the cluster scope"
    return (
        f"User {quoted(a.user.name)} cannot {a.verb} resource {quoted(resource)} in API group {quoted(a.group)} {scope}"
    )
