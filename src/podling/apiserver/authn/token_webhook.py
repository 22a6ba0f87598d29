"""Tokens that a webhook knows (`--authentication-token-webhook-config-file`): asked by TokenReview, kept for a while.

Source: Kubernetes' "Webhook Token Authentication".
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from podling import log
from podling.api.request import User
from podling.apiserver.authn.metrics import CACHE
from podling.apiserver.authn.tokens import TokenError
from podling.apiserver.expiring import Expiring
from podling.apiserver.remote_review import RemoteReview, ReviewFailure

LOG = log.get(__name__)

#: A user and audiences, or why there is none ("" without a reason).
_Known = tuple[User, tuple[str, ...]] | str


class TokenWebhook:
    """`version` is that of authentication.k8s.io; answers are kept for `seconds`. `close` when done."""

    def __init__(self, remote: RemoteReview, audiences: tuple[str, ...], *, version: str, seconds: float) -> None:
        self._remote = remote
        self._audiences = audiences
        self._version = version
        self._seconds = seconds
        self._known: Expiring[bytes, _Known] = Expiring(4096)
        self._asking: dict[bytes, asyncio.Task[_Known]] = {}

    async def close(self) -> None:
        for task in list(self._asking.values()):
            task.cancel()
        await self._remote.close()

    async def review(self, token: str, audiences: tuple[str, ...]) -> tuple[User, tuple[str, ...]] | None:
        """As `tokens.Later`."""
        # Tokens are not kept themselves: what is in memory must not be worth stealing.
        key = hashlib.sha256("\0".join((token, *audiences)).encode()).digest()
        known = self._known.get(key)
        if known is not None:
            CACHE.hit()
        else:
            CACHE.missed()
            task = self._asking.get(key)
            if task is None:
                task = self._asking[key] = asyncio.create_task(self._ask(key, token, audiences))
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            CACHE.blocked.value += 1
            try:
                # Whoever goes away in between leaves the answer to the others.
                known = await asyncio.shield(task)
            finally:
                CACHE.blocked.value -= 1
        if not isinstance(known, str):
            return known
        if known:
            raise TokenError(known)
        return None

    async def _ask(self, key: bytes, token: str, audiences: tuple[str, ...]) -> _Known:
        review = {
            "kind": "TokenReview",
            "apiVersion": f"authentication.k8s.io/{self._version}",
            "metadata": {"creationTimestamp": None},
            "spec": {"token": token, "audiences": list(audiences)},
            "status": {"user": {}},
        }
        CACHE.fetching.value += 1
        try:
            status = await self._remote.ask(review)
        except ReviewFailure as error:
            CACHE.fetched(good=False)
            LOG.error("Failed to make webhook authenticator request: %s", error)
            return str(error)
        finally:
            CACHE.fetching.value -= 1
        CACHE.fetched(good=True)
        known = self._judge(status, audiences)
        if not isinstance(known, str) or not known:
            self._known.put(key, known, self._seconds)
        return known

    def _judge(self, status: dict[str, Any], audiences: tuple[str, ...]) -> _Known:
        good = status.get("audiences") or self._audiences
        shared = tuple(a for a in audiences if a in good)
        if not shared:
            return ""
        if status.get("authenticated") is not True:
            return str(status.get("error") or "")
        user = status.get("user") or {}
        try:
            extra = {str(k): tuple(str(v) for v in vs) for k, vs in (user.get("extra") or {}).items()}
            groups = tuple(str(g) for g in user.get("groups") or ())
            return User(str(user.get("username") or ""), groups, str(user.get("uid") or ""), extra), shared
        except (AttributeError, TypeError):
            return "the webhook's answer has no user of the form of a UserInfo"
