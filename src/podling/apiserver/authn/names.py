"""Well-known users, groups and extra keys, and the names of service accounts."""

from __future__ import annotations

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
