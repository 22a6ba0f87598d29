"""Whose a bearer token is: all kinds of tokens that the API server knows, asked in upstream's order.

Static tokens, ServiceAccounts' and bootstrap tokens are judged from memory. After them come `more`, which may wait:
issuers of JSON web tokens, and the webhook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from podling.api.request import User
from podling.apiserver.authn import bootstrap_tokens
from podling.apiserver.authn.certificates import with_authenticated
from podling.apiserver.authn.lookup import Lookup
from podling.apiserver.authn.service_accounts import InvalidToken, TokenValidator

#: The user (None if there is none), for which of the audiences in question the token is, and what is wrong.
Reviewed = tuple[User | None, tuple[str, ...], str]


class TokenError(Exception):
    """The token is one of ours, and not good; the text says why."""


class Later(Protocol):
    """A kind of tokens that takes time."""

    async def review(self, token: str, audiences: tuple[str, ...]) -> tuple[User, tuple[str, ...]] | None:
        """The user, and for which of `audiences` the token is; None if it is not of this kind. Raises TokenError."""


class Tokens:
    """`audiences` are the API server's own. `static` are users by token; `more` may be replaced at any time."""

    def __init__(
        self,
        lookup: Lookup,
        accounts: TokenValidator,
        *,
        audiences: tuple[str, ...],
        static: Mapping[str, User] | None = None,
    ) -> None:
        self._lookup = lookup
        self._accounts = accounts
        self.audiences = audiences
        self._static = {token.encode(): user for token, user in (static or {}).items()}
        self.more: Sequence[Later] = ()

    def at_once(self, token: str, audiences: tuple[str, ...] = ()) -> Reviewed | None:
        """What is known from memory; None if what takes time must be asked."""
        if not token.isascii():
            return _refused([])
        audiences = audiences or self.audiences
        if (user := self._static_user(token)) is not None:
            return _authenticated(user), self.shared(audiences), ""
        problem = ""
        try:
            found = self._accounts.validate(token, audiences)
            if found is not None:
                return found[0], found[1], ""
        except InvalidToken as error:
            problem = str(error)
        if bootstrap_tokens.looks_like(token):
            joining = bootstrap_tokens.authenticate(token, self._lookup)
            if joining is not None:
                return _authenticated(joining), self.shared(audiences), ""
        return None if self.more else _refused([problem] if problem else [])

    async def review(self, token: str, audiences: tuple[str, ...] = ()) -> Reviewed:
        """The user of a token, which of `audiences` (the API server's, if none) it is for, and what is wrong."""
        found = self.at_once(token, audiences)
        if found is not None:
            return found
        audiences = audiences or self.audiences
        problems = []
        try:
            self._accounts.validate(token, audiences)
        except InvalidToken as error:
            problems.append(str(error))
        for kind in self.more:
            try:
                later = await kind.review(token, audiences)
            except TokenError as error:
                problems.append(str(error))
                continue
            if later is not None:
                return _authenticated(later[0]), later[1], ""
        return _refused(problems)

    def shared(self, audiences: tuple[str, ...]) -> tuple[str, ...]:
        """Tokens that know nothing of audiences are for the API server."""
        return tuple(a for a in audiences if a in self.audiences)

    def _static_user(self, token: str) -> User | None:
        if not self._static:
            return None
        import hmac

        given, found = token.encode(), None
        for known, user in self._static.items():
            if hmac.compare_digest(known, given):
                found = user
        return found


def _refused(problems: list[str]) -> Reviewed:
    if not problems:
        return None, (), "invalid bearer token"
    return None, (), f"[{', '.join(['invalid bearer token', *dict.fromkeys(problems)])}]"


def _authenticated(user: User) -> User:
    return User(user.name, with_authenticated(user.groups), user.uid, user.extra)
