"""Who sends a request: the front proxy in somebody's name, a client certificate, a bearer token, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from podling.api import errors
from podling.api.request import User
from podling.apiserver.authn import certificates, names
from podling.apiserver.authn.tokens import Tokens

if TYPE_CHECKING:
    from podling.apiserver.authn.request_header import FrontProxy

#: Served to everybody.
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})

ANONYMOUS = User(names.ANONYMOUS, (names.UNAUTHENTICATED,))

#: A bearer token in the list of WebSocket subprotocols, for browsers, which can't set headers.
_WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."


class Anonymous(msgspec.Struct, frozen=True):
    """Whether, and where, a request without credentials is `system:anonymous`'s. No paths are all paths."""

    enabled: bool = True
    paths: frozenset[str] = PUBLIC_PATHS

    def allows(self, path: str) -> bool:
        return self.enabled and (not self.paths or path in self.paths or path.rstrip("/") in self.paths)


class Authenticator:
    """Asks in turn. `anonymous` may be replaced at any time."""

    def __init__(
        self, tokens: Tokens, *, anonymous: Anonymous | None = None, front_proxy: FrontProxy | None = None
    ) -> None:
        self.tokens = tokens
        self.anonymous = anonymous or Anonymous()
        self._front_proxy = front_proxy

    async def authenticate(self, headers: Mapping[str, str], peer_cert_der: bytes | None, path: str) -> User | None:
        """Who sends a request; None if it brings no credentials and `path` needs some.

        `headers` has lower-case names (a multidict gives repeated headers their due). `peer_cert_der` is a certificate
        that TLS has verified. StatusError 401 for a bad credential.
        """
        user = None
        certificate = peer_cert_der
        if certificate and self._front_proxy is not None:
            user = self._front_proxy.user_of(certificate, headers)
            if user is None and not self._front_proxy.is_client(certificate):
                certificate = None
        if user is None and certificate:
            user = certificates.user_of(certificate)
        if user is not None:
            return user
        token = bearer_token(headers)
        if token is not None:
            found = self.tokens.at_once(token)
            user = (found or await self.tokens.review(token))[0]
            if user is None:
                raise errors.unauthorized()
            return user
        if peer_cert_der:
            raise errors.unauthorized()
        return ANONYMOUS if self.anonymous.allows(path) else None


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token of the Authorization header, or of the WebSocket subprotocols; None if there is none."""
    parts = headers.get("authorization", "").split(" ")
    if len(parts) >= 2 and parts[0].lower() == "bearer" and parts[1]:
        return parts[1]
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        protocol = protocol.strip()
        if protocol.startswith(_WEBSOCKET_BEARER):
            return _decoded(protocol[len(_WEBSOCKET_BEARER) :])
    return None


def _decoded(text: str) -> str | None:
    import base64
    import binascii

    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
