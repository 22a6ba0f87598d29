"""From a token's claims to a user, as an issuer's configuration says: claims by name, or CEL over all of them.

Expressions see `claims` (or, in rules about the result, `user`). A name with characters that CEL's identifiers lack
is written escaped (`claims.foo__dot__bar`). Numbers are doubles, as JSON has no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from podling.api.request import User
from podling.apiserver.authn.authentication_config import Jwt, PrefixedClaim
from podling.apiserver.authn.names import CREDENTIAL_ID
from podling.apiserver.authn.tokens import TokenError
from podling.machinery import cel

CONDITION: tuple[cel.Type, ...] = (cel.BOOL,)
TEXT: tuple[cel.Type, ...] = (cel.STRING,)
TEXTS: tuple[cel.Type, ...] = (cel.STRING, cel.list_of(cel.STRING), cel.DYN, cel.NULL)

_CLAIMS = {"claims": cel.map_of(cel.STRING, cel.DYN)}
_USER = {
    "user": cel.message(
        "kubernetes.UserInfo",
        {
            "username": cel.STRING,
            "uid": cel.STRING,
            "groups": cel.list_of(cel.STRING),
            "extra": cel.map_of(cel.STRING, cel.list_of(cel.STRING)),
        },
    )
}
_ESCAPES = (("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__"))


@lru_cache(1024)
def claims_program(expression: str, result: tuple[cel.Type, ...]) -> cel.Program:
    """An expression over claims that gives one of `result`. Raises cel.CompileError."""
    return cel.compile(expression, _CLAIMS, result=result or None)


@lru_cache(256)
def user_program(expression: str) -> cel.Program:
    """A condition on the user. Raises cel.CompileError."""
    return cel.compile(expression, _USER, result=cel.BOOL)


class _Escaped(dict[str, Any]):
    """A JSON object whose names may be asked for escaped."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_unescaped(key), default)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_unescaped(key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(_unescaped(key))


def _unescaped(name: Any) -> Any:
    if isinstance(name, str) and "__" in name:
        for escape, meant in _ESCAPES:
            name = name.replace(escape, meant)
    return name


def _seen(value: Any) -> Any:
    """A JSON value as expressions see it."""
    if isinstance(value, dict):
        return _Escaped({k: _seen(v) for k, v in value.items()})
    if isinstance(value, list):
        return [_seen(v) for v in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Claims:
    """The claims of one token."""

    def __init__(self, claims: Mapping[str, Any]) -> None:
        self.raw = claims
        self._seen: dict[str, Any] | None = None

    def evaluate(self, expression: str, result: tuple[cel.Type, ...], what: str) -> Any:
        """What an expression gives. Raises TokenError."""
        if self._seen is None:
            self._seen = {"claims": _seen(dict(self.raw))}
        try:
            return claims_program(expression, result).evaluate(self._seen)
        except cel.EvaluationError as error:
            text = f"expression '{expression}' resulted in error: {error}"
            raise TokenError(f"oidc: error evaluating {what}: {text}") from None

    def text(self, name: str) -> str:
        """A claim that is a text. Raises ValueError."""
        if name not in self.raw:
            raise ValueError("claim not present")
        value = self.raw[name]
        if not isinstance(value, str):
            raise ValueError(f"json: cannot unmarshal {_kind(value)} into Go value of type string")
        return value


def user_of(jwt: Jwt, raw: Mapping[str, Any]) -> User:
    """The user of a token whose signature, audience and time are good. Raises TokenError."""
    claims = Claims(raw)
    mappings = jwt.claim_mappings
    user = User(
        _username(mappings.username, claims), _groups(mappings.groups, claims), _uid(jwt, claims), _extra(jwt, claims)
    )
    _check_claims(jwt, claims)
    _check_user(jwt, user)
    return user


def _username(mapping: PrefixedClaim, claims: Claims) -> str:
    if mapping.expression:
        what = "username claim expression"
        name = claims.evaluate(mapping.expression, TEXT, what)
        if not isinstance(name, str):
            raise TokenError(f"oidc: error evaluating {what}: {what} must return a string")
        if not name:
            raise TokenError("oidc: empty username via CEL expression is not allowed")
        return name
    try:
        name = claims.text(mapping.claim)
    except ValueError as error:
        raise TokenError(f'oidc: parse username claims "{mapping.claim}": {error}') from None
    if mapping.claim == "email" and "email_verified" in claims.raw:
        verified = claims.raw["email_verified"]
        if not isinstance(verified, bool):
            why = f"json: cannot unmarshal {_kind(verified)} into Go value of type bool"
            raise TokenError(f"oidc: parse 'email_verified' claim: {why}")
        if not verified:
            raise TokenError("oidc: email not verified")
    return (mapping.prefix or "") + name


def _groups(mapping: PrefixedClaim, claims: Claims) -> tuple[str, ...]:
    if mapping.claim:
        if mapping.claim not in claims.raw:
            return ()
        value = claims.raw[mapping.claim]
        groups = [value] if isinstance(value, str) else value if isinstance(value, list) else None
        if value is None:
            return ()
        if groups is None or not all(isinstance(g, str) for g in groups):
            why = f"json: cannot unmarshal {_kind(value)} into Go value of type string"
            raise TokenError(f'oidc: parse groups claim "{mapping.claim}": {why}')
        return tuple((mapping.prefix or "") + g for g in groups)
    if not mapping.expression:
        return ()
    what = "group claim expression"
    try:
        return _texts(claims.evaluate(mapping.expression, TEXTS, what))
    except ValueError as error:
        raise TokenError(f"oidc: error evaluating {what}: {error}") from None


def _uid(jwt: Jwt, claims: Claims) -> str:
    mapping = jwt.claim_mappings.uid
    if mapping.claim:
        try:
            return claims.text(mapping.claim)
        except ValueError as error:
            raise TokenError(f'oidc: parse uid claim "{mapping.claim}": {error}') from None
    if not mapping.expression:
        return ""
    uid = claims.evaluate(mapping.expression, TEXT, "uid claim expression")
    if not isinstance(uid, str):
        raise TokenError("oidc: error evaluating uid claim expression: uid claim expression must return a string")
    return uid


def _extra(jwt: Jwt, claims: Claims) -> dict[str, tuple[str, ...]]:
    extra: dict[str, tuple[str, ...]] = {}
    jti = claims.raw.get("jti")
    if isinstance(jti, str) and jti:
        extra[CREDENTIAL_ID] = (f"JTI={jti}",)
    for mapping in jwt.claim_mappings.extra:
        expression = mapping.value_expression
        try:
            values = _texts(claims.evaluate(expression, TEXTS, "extra claim expression"))
        except ValueError as error:
            raise TokenError(f"oidc: error evaluating extra claim expression: {expression}: {error}") from None
        if values:
            extra[mapping.key] = values
    return extra


def _check_claims(jwt: Jwt, claims: Claims) -> None:
    for rule in jwt.claim_validation_rules:
        if rule.claim:
            if rule.claim not in claims.raw:
                raise TokenError(f"oidc: required claim {rule.claim} not present in ID token")
            try:
                value = claims.text(rule.claim)
            except ValueError as error:
                raise TokenError(f"oidc: parse claim {rule.claim}: {error}") from None
            if value != rule.required_value:
                why = f"value does not match. Got = {value}, want = {rule.required_value}"
                raise TokenError(f"oidc: required claim {rule.claim} {why}")
    what = "claim validation expression"
    for rule in jwt.claim_validation_rules:
        if rule.expression:
            _demand(claims.evaluate(rule.expression, CONDITION, what), rule.expression, rule.message, what)


def _check_user(jwt: Jwt, user: User) -> None:
    if not jwt.user_validation_rules:
        return
    shown = {
        "username": user.name, "uid": user.uid, "groups": list(user.groups),
        "extra": _Escaped({k: list(v) for k, v in user.extra.items()}),
    }  # fmt: skip
    what = "user info validation rule"
    for rule in jwt.user_validation_rules:
        try:
            holds = user_program(rule.expression).evaluate({"user": shown})
        except cel.EvaluationError as error:
            text = f"expression '{rule.expression}' resulted in error: {error}"
            raise TokenError(f"oidc: error evaluating {what}: {text}") from None
        _demand(holds, rule.expression, rule.message, what)


def _demand(holds: Any, expression: str, message: str, what: str) -> None:
    if holds is True:
        return
    why = f"validation expression '{expression}' failed: {message}"
    if holds is not False:
        why = "validation expression must return a boolean"
    raise TokenError(f"oidc: error evaluating {what}: {why}")


def _texts(value: Any) -> tuple[str, ...]:
    """A text, or a list of texts; empty ones count as not being there. ValueError for anything else."""
    values: Sequence[Any] = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ValueError("expression must return a string or a list of strings")
    return tuple(v for v in values if v)


def _kind(value: Any) -> str:
    """How Go names a JSON value."""
    if isinstance(value, bool):
        return "bool"
    names = {dict: "object", list: "array", str: "string", type(None): "null"}
    return names.get(type(value), "number")
