"""Who may use the node agent's server: the API server by its certificate, others as the API server says.

Authentication and authorization are delegated, as upstream's webhook mode does: a bearer token is shown to the API
server in a TokenReview, and every identity is asked for in a SubjectAccessReview on the node's subresources. Answers
are kept for a while.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from podling import clock, log
from podling.api import authentication_v1, authorization_v1, meta_v1
from podling.api.errors import StatusError, unauthorized
from podling.api.request import User
from podling.client.base import Client

LOG = log.get(__name__)

#: Seconds for which answers are kept: upstream's defaults.
TOKEN_TTL = 120.0
ALLOWED_TTL = 300.0
DENIED_TTL = 30.0
_KEPT = 1024


def tls_context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS of the server: client certificates are asked for and, if there is one, verified against `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


class Open:
    """Everybody may do everything: for tests and simulations."""

    async def check(self, request: web.BaseRequest, verb: str, subresources: Sequence[str]) -> None:
        return None


class DelegatedAccess:
    """`trusted` users, known by certificate, need not be asked for: the API server itself.

    Without a client only they get in.
    """

    def __init__(self, node: str, client: Client | None, *, trusted: Collection[str]) -> None:
        self._node = node
        self._client = client
        self._trusted = frozenset(trusted)
        self._users: _Kept = _Kept()
        self._decisions: _Kept = _Kept()

    async def check(self, request: web.BaseRequest, verb: str, subresources: Sequence[str]) -> None:
        user = certificate_user(request) or await self._token_user(request)
        if user is None:
            raise unauthorized()
        if user.name in self._trusted:
            return
        for subresource in subresources:
            if await self._allowed(user, verb, subresource):
                return
        text = f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(subresources)}])"
        raise StatusError(meta_v1.Status(status="Failure", code=403, reason="Forbidden", message=text))

    async def _token_user(self, request: web.BaseRequest) -> User | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token or self._client is None:
            return None
        known = self._users.get(token)
        if known is not None:
            user: User = known
            return user
        review = authentication_v1.TokenReview(spec=authentication_v1.TokenReviewSpec(token=token.strip()))
        status = (await self._client.create(review)).status
        if not status.authenticated or status.user is None:
            return None
        info = status.user
        extra = {key: tuple(values) for key, values in (info.extra or {}).items()}
        user = User(info.username or "", tuple(info.groups or ()), info.uid or "", extra)
        self._users.put(token, user, TOKEN_TTL)
        return user

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        if self._client is None:
            return False
        key = (user.name, user.groups, verb, subresource)
        known = self._decisions.get(key)
        if known is not None:
            return bool(known)
        spec = authorization_v1.SubjectAccessReviewSpec(
            user=user.name,
            groups=list(user.groups),
            uid=user.uid or None,
            extra={name: list(values) for name, values in user.extra.items()} or None,
            resource_attributes=authorization_v1.ResourceAttributes(
                verb=verb, version="v1", resource="nodes", subresource=subresource, name=self._node
            ),
        )
        review = await self._client.create(authorization_v1.SubjectAccessReview(spec=spec))
        allowed = review.status.allowed
        self._decisions.put(key, allowed, ALLOWED_TTL if allowed else DENIED_TTL)
        return allowed


class _Kept:
    """Values with an end."""

    def __init__(self) -> None:
        self._values: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def get(self, key: Any) -> Any:
        found = self._values.get(key)
        if found is None or found[0] < clock.elapsed():
            return None
        return found[1]

    def put(self, key: Any, value: Any, seconds: float) -> None:
        self._values[key] = (clock.elapsed() + seconds, value)
        if len(self._values) > _KEPT:
            self._values.popitem(last=False)


def certificate_user(request: web.BaseRequest) -> User | None:
    """The user of the connection's certificate, which TLS has verified; None without one."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate = tls.getpeercert() if tls is not None else None
    if not certificate:
        return None
    if ssl.cert_time_to_seconds(certificate["notAfter"]) < clock.now().timestamp():
        return None
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    if not names:
        return None
    groups = tuple(value for key, value in subject if key == "organizationName")
    return User(names[0], (*groups, "system:authenticated"))
