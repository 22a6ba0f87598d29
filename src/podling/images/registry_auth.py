"""Authorization towards a registry: Basic, and tokens by Docker's Bearer challenge (distribution-spec, RFC 6750)."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from podling.images.base import Credentials, PullFailed

if TYPE_CHECKING:
    import aiohttp

_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


class Challenge(msgspec.Struct, frozen=True):
    """One WWW-Authenticate header: `scheme` in lower case and its parameters."""

    scheme: str
    parameters: dict[str, str]


class _Token(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None


def parse_challenges(headers: list[str]) -> list[Challenge]:
    """The challenges of a response, Bearer first."""
    found = []
    for header in headers:
        scheme, _, rest = header.strip().partition(" ")
        parameters = {m[1].lower(): re.sub(r"\\(.)", r"\1", m[2] or m[3] or "") for m in _PARAMETER.finditer(rest)}
        found.append(Challenge(scheme.lower(), parameters))
    return sorted(found, key=lambda challenge: challenge.scheme != "bearer")


def basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def denied(server_message: str) -> PullFailed:
    """The registry knows us and says no; or nobody gave it a name."""
    return PullFailed(
        f"pull access denied, repository does not exist or may require authorization: {server_message}", "Unknown"
    )


async def authorize(
    session: aiohttp.ClientSession, challenges: list[Challenge], credentials: Credentials, scope: str, ssl: Any
) -> str:
    """The Authorization header that answers the challenge. Raises PullFailed in containerd's words."""
    for challenge in challenges:
        if challenge.scheme == "bearer":
            if credentials.registry_token:
                return f"Bearer {credentials.registry_token}"
            return f"Bearer {await _fetch_token(session, challenge, credentials, scope, ssl)}"
        if challenge.scheme == "basic":
            if not credentials.username:
                raise denied("authorization failed: no basic auth credentials")
            return basic(credentials)
    raise denied("authorization failed")


async def _fetch_token(
    session: aiohttp.ClientSession, challenge: Challenge, credentials: Credentials, scope: str, ssl: Any
) -> str:
    realm = challenge.parameters.get("realm", "")
    if urlsplit(realm).scheme not in ("http", "https"):
        raise PullFailed("failed to authorize: no token server in the registry's challenge")
    scope = challenge.parameters.get("scope") or scope
    service = challenge.parameters.get("service", "")
    if credentials.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials.identity_token,
            "service": service,
            "scope": scope,
            "client_id": "podling",
        }
        return await _ask(session, "POST", realm, "oauth", ssl, data=form)
    query = {key: value for key, value in (("service", service), ("scope", scope)) if value}
    if credentials.username:
        query["account"] = credentials.username
        return await _ask(
            session, "GET", realm, "oauth", ssl, params=query, headers={"Authorization": basic(credentials)}
        )
    return await _ask(session, "GET", realm, "anonymous", ssl, params=query)


async def _ask(session: aiohttp.ClientSession, method: str, realm: str, kind: str, ssl: Any, **request: Any) -> str:
    import aiohttp

    what = f"failed to authorize: failed to fetch {kind} token"
    try:
        async with session.request(method, realm, ssl=ssl, **request) as response:
            if response.status >= 400:
                raise PullFailed(
                    f"{what}: unexpected status from {method} request to {response.url}: "
                    f"{response.status} {response.reason}"
                )
            answer = msgspec.json.decode(await response.read(), type=_Token)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise PullFailed(f"{what}: {error}") from None
    except msgspec.DecodeError:
        raise PullFailed(f"{what}: the token server's answer is no valid JSON") from None
    token = answer.token or answer.access_token
    if not token:
        raise PullFailed("failed to authorize: authorization server did not include a token in the response")
    return token
