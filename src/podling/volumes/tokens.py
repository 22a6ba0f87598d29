"""Service account tokens for pods: bound to the pod, kept until they are due for renewal (pkg/kubelet/token)."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import msgspec

from podling import clock, log
from podling.api import authentication_v1, core_v1, meta_v1, times
from podling.errors import PodlingError
from podling.volumes.base import Lookup, VolumeError

_log = log.get(__name__)

_MAX_AGE = timedelta(hours=24)
_MAX_JITTER = timedelta(seconds=10)
_DEFAULT_SECONDS = 3600


class Token(msgspec.Struct, frozen=True):
    text: str
    expires: datetime
    refresh_at: datetime


class _Key(msgspec.Struct, frozen=True):
    pod: str
    namespace: str
    account: str
    audience: str
    seconds: int


class TokenCache:
    """One for a node. A token that cannot be renewed is used until it expires."""

    def __init__(self) -> None:
        self._tokens: dict[_Key, Token] = {}

    async def get(self, lookup: Lookup, pod: core_v1.Pod, source: core_v1.ServiceAccountTokenProjection) -> Token:
        """Raises VolumeError."""
        account = pod.spec.service_account_name or "default"
        seconds = source.expiration_seconds or _DEFAULT_SECONDS
        uid, namespace = pod.metadata.uid or "", pod.metadata.namespace or "default"
        key = _Key(uid, namespace, account, source.audience or "", seconds)
        known, now = self._tokens.get(key), clock.now()
        if known is not None and now < known.refresh_at:
            return known
        try:
            fresh = await _request(lookup, pod, key)
        except PodlingError as error:
            if known is not None and now < known.expires:
                _log.error("couldn't update token %s/%s: %s", key.namespace, key.account, error)
                return msgspec.structs.replace(known, refresh_at=now + timedelta(minutes=1))
            raise VolumeError(f"failed to fetch token: {error}") from None
        self._tokens[key] = fresh
        return fresh

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._tokens if key.pod == uid]:
            del self._tokens[key]


async def _request(lookup: Lookup, pod: core_v1.Pod, key: _Key) -> Token:
    bound = authentication_v1.BoundObjectReference(api_version="v1", kind="Pod", name=pod.metadata.name, uid=key.pod)
    spec = authentication_v1.TokenRequestSpec(
        audiences=[key.audience] if key.audience else [], expiration_seconds=key.seconds, bound_object_ref=bound
    )
    asked = authentication_v1.TokenRequest(metadata=meta_v1.ObjectMeta(namespace=key.namespace), spec=spec)
    answer = await lookup.service_account_token(key.namespace, key.account, asked)
    if not answer.status.token or not answer.status.expiration_timestamp:
        raise VolumeError(f"the API server gave no token for service account {key.namespace}/{key.account}")
    expires = times.parse(answer.status.expiration_timestamp)
    seconds = answer.spec.expiration_seconds or key.seconds
    return Token(answer.status.token, expires, refresh_time(expires, seconds, random.random()))


def refresh_time(expires: datetime, seconds: int, chance: float) -> datetime:
    """When a token of `seconds` is due: at 80 % of its life, or after a day; `chance` (0 to 1) spreads a node's."""
    life = timedelta(seconds=seconds)
    return min(expires - life * 0.2, expires - life + _MAX_AGE) - _MAX_JITTER * chance
