"""What is asked of an authorizer, and what it answers: upstream's authorizer.Attributes and Decision."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from podling.api import errors
from podling.api.request import User

T = TypeVar("T")


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
    """`reason` says why (in upstream's words); `error` what could not be evaluated on the way.

    Neither allowed nor `denied` is no opinion: the next authorizer is asked.
    """

    allowed: bool
    reason: str = ""
    error: str = ""
    denied: bool = False


#: Decisions from memory are there at once; one that is asked of a webhook must be waited for.
Verdict = Decision | Awaitable[Decision]
Authorize = Callable[[Attributes], Verdict]


class Undecided(Exception):
    """Raised where nothing can wait: try again when `settled` is, with what it has given."""

    def __init__(self, settled: Awaitable[object]) -> None:
        super().__init__("the authorizer must be waited for")
        self.settled = settled


async def decided(evaluate: Callable[[], T]) -> T:
    """What a function gives that may raise Undecided: it is called again after each answer that it had to wait for."""
    while True:
        try:
            return evaluate()
        except Undecided as pending:
            await pending.settled


async def settled(verdict: Verdict) -> Decision:
    """The decision, waited for if need be."""
    return verdict if isinstance(verdict, Decision) else await verdict


NO_OPINION = Decision(False)


def quoted(text: str) -> str:
    """`text` in double quotes, escaped as Go's %q does for what appears in names."""
    return json.dumps(text, ensure_ascii=False)


def refusal(attributes: Attributes, decision: Decision) -> errors.StatusError:
    """What answers a request that is not allowed: 403, or 500 if an authorizer could not say."""
    if decision.error:
        return errors.internal(decision.error)
    return forbidden(attributes, decision.reason)


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
