"""Tokens of an issuer outside the cluster (OpenID Connect): verified, and mapped to a user.

A token says itself who issued it; only then is it looked at more closely. What it says of algorithm and key is checked
against what the issuer's keys are. Source: k8s.io/apiserver plugin/pkg/authenticator/token/oidc.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from podling import clock
from podling.api.request import User
from podling.apiserver.authn import jwt_rules, metrics
from podling.apiserver.authn.authentication_config import Jwt
from podling.apiserver.authn.jwt_keys import Keys, KeysError
from podling.apiserver.authn.tokens import TokenError
from podling.apiserver.expiring import Expiring

ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")

#: Seconds: how far off the issuer's clock may be when a token begins, and how long a good token is not verified again.
LEEWAY = 300.0
KEPT = 10.0
#: Of how many issuers distributed claims are accepted.
MOST_OTHERS = 16


class JwtIssuer:
    """Judges the tokens of one issuer, for the API server's own `audiences`. `close` when done."""

    def __init__(
        self, config: Jwt, audiences: Sequence[str], *, algorithms: Sequence[str] = ALGORITHMS, keys: Keys | None = None
    ) -> None:
        self.config = config
        self._audiences = frozenset(audiences)
        self._algorithms = tuple(algorithms)
        issuer = config.issuer
        self._keys = keys or Keys(issuer.url, issuer.discovery_url, issuer.certificate_authority)
        #: Of the issuers of distributed claims.
        self._others: dict[str, Keys] = {}
        self._verified: Expiring[str, User] = Expiring(4096)
        self._hash = f"sha256:{hashlib.sha256(issuer.url.encode()).hexdigest()}"

    async def close(self) -> None:
        for keys in (self._keys, *self._others.values()):
            await keys.close()

    async def review(self, token: str, audiences: tuple[str, ...]) -> tuple[User, tuple[str, ...]] | None:
        """As `tokens.Later`. To the API server's clients such a token is good for the API server alone."""
        user = self._verified.get(token)
        if user is None:
            parsed = _parse(token)
            if parsed is None or parsed[1].get("iss") != self.config.issuer.url:
                return None
            with metrics.judging_jwt(self._hash):
                user = await self._judge(token, *parsed)
        shared = tuple(a for a in audiences if a in self._audiences)
        return (user, shared) if shared else None

    async def _judge(self, token: str, header: dict[str, Any], claims: dict[str, Any]) -> User:
        """The user, who is remembered for a while. Raises TokenError."""
        await self._verify(token, header, claims, self._keys)
        if self.config.claim_mappings.groups.claim and "_claim_names" in claims:
            claims = await self._expanded(claims)
        user = jwt_rules.user_of(self.config, claims)
        left = claims["exp"] - clock.now().timestamp()
        self._verified.put(token, user, min(KEPT, left))
        return user

    async def _expanded(self, claims: dict[str, Any]) -> dict[str, Any]:
        """With the groups, if the token says where they are. Raises TokenError."""
        from podling.apiserver.authn import jwt_distributed

        claim = self.config.claim_mappings.groups.claim
        try:
            return await jwt_distributed.expanded(claims, claim, self._keys.text, self._other)
        except ValueError as error:
            raise TokenError(f"oidc: could not expand distributed claims: {error}") from None

    async def _other(self, token: str) -> dict[str, Any]:
        """The claims of a token that brings a distributed claim. ValueError for one that is not good."""
        parsed = _parse(token)
        issuer = parsed[1].get("iss") if parsed is not None else None
        if parsed is None or not isinstance(issuer, str) or not issuer.startswith("https://"):
            raise ValueError("getting untrusted issuer from endpoint failed: no token of an https issuer")
        keys = self._others.get(issuer)
        if keys is None:
            if len(self._others) >= MOST_OTHERS:
                raise ValueError(f"verifying untrusted issuer {issuer} failed: too many issuers of distributed claims")
            keys = Keys(issuer, None, self.config.issuer.certificate_authority)
            self._others[issuer] = keys
        try:
            await self._verify(token, *parsed, keys)
        except TokenError as error:
            raise ValueError(f"verify distributed claim token: {error}") from None
        return parsed[1]

    async def _verify(self, token: str, header: dict[str, Any], claims: dict[str, Any], keys: Keys) -> None:
        """Raises TokenError."""
        wanted, said = self.config.issuer.audiences, _audiences(claims)
        if not set(wanted) & set(said):
            one = len(wanted) == 1
            expected = f'audience "{wanted[0]}"' if one else f"audience in {_go(sorted(wanted))}"
            raise TokenError(f"oidc: verify token: oidc: expected {expected} got {_go(said)}")
        now = clock.now().timestamp()
        ends, begins = _time(claims, "exp"), _time(claims, "nbf")
        if ends is None or ends < now:
            shown = _shown(ends or 0.0)
            raise TokenError(f"oidc: verify token: oidc: token is expired (Token Expiry: {shown})")
        if begins is not None and begins > now + LEEWAY:
            why = f"current time {_shown(now)} before the nbf (not before) time: {_shown(begins)}"
            raise TokenError(f"oidc: verify token: oidc: {why}")
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            why = f'id token signed with unsupported algorithm, expected {_go(self._algorithms)} got "{algorithm}"'
            raise TokenError(f"oidc: verify token: oidc: {why}")
        try:
            good = await keys.verify(token, key_id if isinstance(key_id, str) else "", algorithm)
        except KeysError as error:
            raise TokenError(str(error)) from None
        if not good:
            why = "failed to verify id token signature"
            raise TokenError(f"oidc: verify token: failed to verify signature: {why}")


def _parse(token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and claims, not verified; None for what is no JSON web token."""
    import base64
    import binascii

    parts = token.split(".")
    if len(parts) != 3:
        return None
    found = []
    for part in parts[:2]:
        try:
            value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (binascii.Error, ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        found.append(value)
    return found[0], found[1]


def _audiences(claims: dict[str, Any]) -> list[str]:
    said = claims.get("aud")
    values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    return [v for v in values if isinstance(v, str)]


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shown(seconds: float) -> str:
    """As Go prints a time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
    except (OverflowError, OSError, ValueError):
        return str(seconds)


def _go(values: Sequence[str]) -> str:
    return f"[{' '.join(json.dumps(v, ensure_ascii=False) for v in values)}]"
