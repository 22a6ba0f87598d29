"""Distributed claims: a token that says where its groups are to be had, as another token, instead of having them.

Source: OpenID Connect Core 1.0, "Aggregated and Distributed Claims".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_NAMES, _SOURCES = "_claim_names", "_claim_sources"

#: The text at a URL, asked for with an access token. Raises OSError, TimeoutError, ValueError.
Fetch = Callable[[str, str], Awaitable[str]]
#: The claims of a token of any issuer, verified. Raises ValueError.
Verified = Callable[[str], Awaitable[Mapping[str, Any]]]


async def expanded(claims: dict[str, Any], claim: str, fetch: Fetch, verified: Verified) -> dict[str, Any]:
    """The claims with the one that is elsewhere; as they are if it is not. ValueError if it can't be had."""
    if claim in claims or _NAMES not in claims:
        return claims
    names, sources = claims[_NAMES], claims.get(_SOURCES)
    if not isinstance(names, dict):
        raise ValueError("oidc: error parsing distributed claim names: not an object")
    if sources is None:
        raise ValueError("oidc: no claim sources")
    if not isinstance(sources, dict):
        raise ValueError("oidc: could not parse claim sources: not an object")
    source = names.get(claim)
    if source is None:
        return claims
    place = sources.get(source) if isinstance(source, str) else None
    if not isinstance(place, dict):
        raise ValueError(f"id token _claim_names contained a source {source} missing in _claims_sources")
    url = place.get("endpoint")
    if not isinstance(url, str) or not url:
        return claims
    if not url.startswith("https://"):
        raise ValueError(f'while getting distributed claim "{claim}": {url} is not https')
    try:
        token = await fetch(url, str(place.get("access_token") or ""))
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f'while getting distributed claim "{claim}": {error}') from None
    found = await verified(token)
    if claim not in found:
        raise ValueError(f'jwt returned by distributed claim endpoint "{url}" did not contain claim: {claim}')
    return {**claims, claim: found[claim]}
