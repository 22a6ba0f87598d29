"""The union of authenticators that the API server asks, and impersonation on top of it."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from podling.api import errors
from podling.api.request import User
from podling.apiserver.audit.trail import current as audit_trail
from podling.apiserver.authn import bootstrap_tokens, certificates, names
from podling.apiserver.authn.certificates import with_authenticated
from podling.apiserver.authn.lookup import Lookup
from podling.apiserver.authn.service_accounts import InvalidToken, TokenValidator
from podling.apiserver.authz.attributes import Attributes, Decision, forbidden

#: Served to everybody.
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version"})

ANONYMOUS = User(names.ANONYMOUS, (names.UNAUTHENTICATED,))

#: A bearer token in the list of WebSocket subprotocols, for browsers, which can't set headers.
_WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."


class Authenticator:
    """`static_tokens` are users by token; `authorize` judges impersonation. `audiences` are the API server's own."""

    def __init__(
        self,
        lookup: Lookup,
        accounts: TokenValidator,
        *,
        audiences: tuple[str, ...],
        authorize: Callable[[Attributes], Decision],
        static_tokens: Mapping[str, User] | None = None,
    ) -> None:
        self._lookup = lookup
        self._accounts = accounts
        self._audiences = audiences
        self._authorize = authorize
        self._static = {token.encode(): user for token, user in (static_tokens or {}).items()}

    async def authenticate(self, headers: Mapping[str, str], peer_cert_der: bytes | None, path: str) -> User | None:
        """Who sends a request; None if it brings no credentials and `path` needs some.

        `headers` has lower-case names (a multidict gives repeated impersonation headers their due). `peer_cert_der` is
        a certificate that TLS has verified. StatusError: 401 for a bad credential, 400 and 403 for an impersonation
        that makes no sense or is not allowed.
        """
        user = certificates.user_of(peer_cert_der) if peer_cert_der else None
        if user is None:
            token = bearer_token(headers)
            if token is not None:
                user, _, _ = self.review(token)
                if user is None:
                    raise errors.unauthorized()
            elif peer_cert_der:
                raise errors.unauthorized()
            elif path.rstrip("/") in PUBLIC_PATHS:
                user = ANONYMOUS
            else:
                return None
        if not any(key.lower().startswith("impersonate-") for key in headers):
            return user
        trail = audit_trail()
        if trail is not None:
            await trail.identified(user)
        other = self._impersonated(user, headers)
        if trail is not None and other is not user:
            trail.impersonates(other)
        return other

    def review(self, token: str, audiences: tuple[str, ...] = ()) -> tuple[User | None, tuple[str, ...], str]:
        """The user of a bearer token, which of `audiences` (the API server's, if none) it is for, and what is wrong."""
        audiences = audiences or self._audiences
        for known, user in self._static.items():
            if hmac.compare_digest(known, token.encode()):
                return _authenticated(user), self._shared(audiences), ""
        if bootstrap_tokens.looks_like(token):
            joining = bootstrap_tokens.authenticate(token, self._lookup)
            if joining is not None:
                return _authenticated(joining), self._shared(audiences), ""
        try:
            found = self._accounts.validate(token, audiences)
        except InvalidToken as error:
            return None, (), f"[invalid bearer token, {error}]"
        if found is None:
            return None, (), "invalid bearer token"
        return found[0], found[1], ""

    def _shared(self, audiences: tuple[str, ...]) -> tuple[str, ...]:
        """Tokens that know nothing of audiences are for the API server."""
        return tuple(a for a in audiences if a in self._audiences)

    def _impersonated(self, user: User, headers: Mapping[str, str]) -> User:
        wanted = _all(headers, "impersonate-user")
        name = wanted[0] if wanted else ""
        groups = _all(headers, "impersonate-group")
        uid = (_all(headers, "impersonate-uid") or [""])[0]
        extra = _extra(headers)
        if not name:
            if groups or uid or extra:
                raise errors.bad_request(f"requested {_shown(groups, extra, uid)} without impersonating a user")
            return user
        account = names.split_account(name)
        if account is not None:
            self._demand(Attributes(user, "impersonate", "", "v1", "serviceaccounts", "", *account))
        else:
            self._demand(Attributes(user, "impersonate", resource="users", name=name))
        for group in groups:
            self._demand(Attributes(user, "impersonate", resource="groups", name=group))
        more = {"group": "authentication.k8s.io", "version": "v1"}
        for key, values in extra.items():
            for value in values:
                self._demand(
                    Attributes(user, "impersonate", **more, resource="userextras", subresource=key, name=value)
                )
        if uid:
            self._demand(Attributes(user, "impersonate", **more, resource="uids", name=uid))
        if account is not None and not groups:
            groups = list(names.account_groups(account[0]))
        return User(name, _with_default_group(name, groups), uid, {k: tuple(v) for k, v in extra.items()})

    def _demand(self, attributes: Attributes) -> None:
        decision = self._authorize(attributes)
        if not decision.allowed:
            raise forbidden(attributes, decision.reason)


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


def _authenticated(user: User) -> User:
    return User(user.name, with_authenticated(user.groups), user.uid, user.extra)


def _with_default_group(name: str, groups: list[str]) -> tuple[str, ...]:
    if name == names.ANONYMOUS:
        default = names.UNAUTHENTICATED
        return tuple(groups) if default in groups else (*groups, default)
    if names.AUTHENTICATED in groups or names.UNAUTHENTICATED in groups:
        return tuple(groups)
    return (*groups, names.AUTHENTICATED)


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    """Every value of a header, also of one that was sent several times."""
    getall = getattr(headers, "getall", None)
    if getall is not None:
        return list(getall(name, []))
    value = headers.get(name)
    return [] if value is None else [value]


def _extra(headers: Mapping[str, str]) -> dict[str, list[str]]:
    prefix = "impersonate-extra-"
    keys = dict.fromkeys(key.lower() for key in headers if key.lower().startswith(prefix))
    return {unquote(key[len(prefix) :]): _all(headers, key) for key in keys}


def _shown(groups: list[str], extra: dict[str, list[str]], uid: str) -> str:
    parts = [f"Group {g}" for g in groups]
    parts += [f"UserExtra {key}={value}" for key, values in extra.items() for value in values]
    parts += [f"UID {uid}"] if uid else []
    return f"[{', '.join(parts)}]"
