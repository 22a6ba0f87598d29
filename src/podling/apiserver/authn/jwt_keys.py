"""The public keys of an issuer of tokens: found by OpenID Connect discovery over TLS, kept, and fetched again for a
token that none of them has signed.

Nothing is fetched before the first token of the issuer comes, so that an issuer may run in the cluster itself.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from podling import clock, log

if TYPE_CHECKING:
    import aiohttp

LOG = log.get(__name__)

WELL_KNOWN = "/.well-known/openid-configuration"
#: Seconds: of one request; between attempts at discovery; between fetches for keys that are not known.
TIMEOUT = 30.0
RETRY = 10.0
PAUSE = 1.0
MAX_ANSWER = 1024 * 1024

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}


class KeysError(Exception):
    """The keys can't be had; the text says why."""


class Keys:
    """Of one issuer. `close` when done."""

    def __init__(self, issuer: str, discovery_url: str | None, ca: str) -> None:
        self._issuer = issuer
        self._discovery_url = discovery_url or issuer.rstrip("/") + WELL_KNOWN
        self._ca = ca
        self._session: aiohttp.ClientSession | None = None
        self._jwks_uri = ""
        self._keys: list[tuple[str, Any]] = []
        self._failed_at: float | None = None
        self._fetched_at: float | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def verify(self, token: str, key_id: str, algorithm: str) -> bool:
        """Whether one of the issuer's keys has signed the token. Raises KeysError."""
        if not self._jwks_uri:
            await self._once(self._discover, lambda: not self._jwks_uri)
        if self._signed(token, key_id, algorithm):
            return True
        before = self._fetched_at
        if before is None or clock.elapsed() - before >= PAUSE:
            await self._once(self._fetch, lambda: self._fetched_at == before)
        return self._signed(token, key_id, algorithm)

    async def _once(self, action: Callable[[], Awaitable[None]], needed: Callable[[], bool]) -> None:
        """Whoever comes while it is under way waits for the same."""
        async with self._lock:
            if needed():
                await action()

    def _signed(self, token: str, key_id: str, algorithm: str) -> bool:
        import jwt

        for known, key in self._keys:
            if (key_id and known != key_id) or not _suits(key, algorithm):
                continue
            try:
                jwt.decode(token, key, [algorithm], options=_SIGNATURE_ONLY)
            except jwt.PyJWTError:
                continue
            return True
        return False

    async def _discover(self) -> None:
        now = clock.elapsed()
        if self._failed_at is not None and now - self._failed_at < RETRY:
            raise KeysError("oidc: authenticator not initialized")
        try:
            document = await self._get(self._discovery_url)
            said = document.get("issuer")
            if said != self._issuer:
                why = f'expected "{self._issuer}" got "{said or ""}"'
                raise ValueError(f"oidc: issuer did not match the issuer returned by provider, {why}")
            uri = document.get("jwks_uri")
            if not isinstance(uri, str) or not uri.startswith("https://"):
                raise ValueError("provider did not return JWKS URL")
        except (OSError, TimeoutError, ValueError) as error:
            self._failed_at = now
            LOG.error("oidc authenticator: initializing plugin: %s: %s", self._discovery_url, error)
            raise KeysError("oidc: authenticator not initialized") from None
        self._jwks_uri = uri

    async def _fetch(self) -> None:
        self._fetched_at = clock.elapsed()
        try:
            document = await self._get(self._jwks_uri)
            keys = document.get("keys")
            if not isinstance(keys, list):
                raise ValueError("oidc: failed to decode keys")
        except (OSError, TimeoutError, ValueError) as error:
            raise KeysError(f"oidc: verify token: failed to verify signature: fetching keys {error}") from None
        self._keys = [(str(k.get("kid") or ""), key) for k in keys if (key := public_key(k)) is not None]

    async def _get(self, url: str) -> dict[str, Any]:
        """A JSON document. Raises OSError, TimeoutError, ValueError."""
        document = json.loads(await self.text(url))
        if not isinstance(document, dict):
            raise ValueError(f"{url}: not a JSON object")
        return document

    async def text(self, url: str, token: str = "") -> str:
        """What is at a URL. Raises OSError, TimeoutError, ValueError."""
        import aiohttp

        if self._session is None:
            context = ssl.create_default_context(cadata=self._ca or None)
            connector = aiohttp.TCPConnector(ssl=context)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                data = b""
                while not answer.content.at_eof():
                    data += await answer.content.read(MAX_ANSWER)
                    if len(data) > MAX_ANSWER:
                        raise ValueError(f"{url}: the answer is too large")
                if answer.status != 200:
                    raise ValueError(f"{answer.status} {answer.reason}: {data[:200].decode('utf-8', 'replace')}")
        except aiohttp.ClientError as error:
            raise OSError(f'Get "{url}": {error}') from None
        return data.decode("utf-8", "replace").strip()


def public_key(jwk: Any) -> Any:
    """The key that a JSON Web Key describes; None for what is no public key to verify signatures with."""
    from jwt import InvalidKeyError
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm

    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    kind: Any = {"RSA": RSAAlgorithm, "EC": ECAlgorithm}.get(str(jwk.get("kty")))
    if kind is None:
        return None
    try:
        # Without what a private key has besides.
        return kind.from_jwk({k: v for k, v in jwk.items() if k in ("kty", "n", "e", "crv", "x", "y")})
    except (InvalidKeyError, ValueError, KeyError, TypeError):
        return None


def _suits(key: Any, algorithm: str) -> bool:
    """Whether it is a key for the algorithm: what a token says of itself must not decide how a key is used."""
    curve = getattr(key, "curve", None)
    if algorithm in _CURVES:
        return curve is not None and curve.name == _CURVES[algorithm]
    return curve is None and algorithm[:2] in ("RS", "PS")


_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    **{f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}
