"""Well-known users, groups and extra keys, and the names of service accounts."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import names

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE_UID = "authentication.kubernetes.io/node-uid"

_ACCOUNT = "system:serviceaccount:"


def account_user(namespace: str, name: str) -> str:
    """`system:serviceaccount:default:builder`"""
    return f"{_ACCOUNT}{namespace}:{name}"


def account_groups(namespace: str) -> tuple[str, ...]:
    """The groups that every service account of `namespace` is in."""
    return "system:serviceaccounts", f"system:serviceaccounts:{namespace}"


def split_account(user: str) -> tuple[str, str] | None:
    """(namespace, name) of a service account's user name; None if it is not one."""
    if not user.startswith(_ACCOUNT):
        return None
    namespace, separator, name = user[len(_ACCOUNT) :].partition(":")
    if not separator or names.dns_label(namespace) or names.dns_subdomain(name):
        return None
    return namespace, name


def wants_another(headers: Mapping[str, str]) -> bool:
    """Whether a request asks to be taken for somebody else's."""
    return any(key[:12].lower() == "impersonate-" for key in headers)


def values(headers: Mapping[str, str], name: str) -> list[str]:
    """Every value of a header, also of one that was sent several times."""
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, []))
    value = headers.get(name)
    return [] if value is None else [value]


def extra(headers: Mapping[str, str], prefix: str) -> dict[str, tuple[str, ...]]:
    """Extra attributes of a user from headers whose names begin with `prefix` (in lower case): keys are escaped."""
    from urllib.parse import unquote

    keys = dict.fromkeys(key.lower() for key in headers if key.lower().startswith(prefix))
    return {unquote(key[len(prefix) :]): tuple(values(headers, key)) for key in keys}
