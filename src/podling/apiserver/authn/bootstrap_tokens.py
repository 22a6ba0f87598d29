"""Bootstrap tokens: `<id>.<secret>`, kept as Secrets of kube-system, with which a node joins.

Source: Kubernetes' "Authenticating with Bootstrap Tokens".
"""

from __future__ import annotations

import base64
import hmac
import re

from podling import clock
from podling.api import core_v1
from podling.api.request import User
from podling.apiserver.authn.lookup import Lookup

NAMESPACE = "kube-system"
GROUP = "system:bootstrappers"
SECRET_TYPE = "bootstrap.kubernetes.io/token"

_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


def looks_like(token: str) -> bool:
    """Whether `token` has the form of a bootstrap token."""
    return _TOKEN.fullmatch(token) is not None


def authenticate(token: str, lookup: Lookup) -> User | None:
    """The user `system:bootstrap:<id>`, if the token's Secret exists, matches, is meant for it and has not expired."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    token_id, token_secret = match.groups()
    secret = lookup.get("secrets", NAMESPACE, f"bootstrap-token-{token_id}")
    if not isinstance(secret, core_v1.Secret) or secret.metadata.deletion_timestamp is not None:
        return None
    if secret.type != SECRET_TYPE:
        return None
    data = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (secret.data or {}).items()}
    if not hmac.compare_digest(data.get("token-secret", "").encode(), token_secret.encode()):
        return None
    if data.get("token-id") != token_id or data.get("usage-bootstrap-authentication") != "true":
        return None
    if _expired(data.get("expiration", "")):
        return None
    extra = [group for group in data.get("auth-extra-groups", "").split(",") if group]
    if not all(_GROUP.fullmatch(group) for group in extra):
        return None
    return User(f"system:bootstrap:{token_id}", (GROUP, *sorted(set(extra))))


def _expired(expiration: str) -> bool:
    if not expiration:
        return False
    from podling.api import times

    try:
        return bool(times.parse(expiration) <= clock.now())
    except ValueError:
        return True
