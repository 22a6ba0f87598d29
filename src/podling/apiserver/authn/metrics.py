"""Metrics of authentication, under upstream's names.

Users are counted in upstream's few categories, so that no name becomes a label. The token caches are that of verified
signatures of ServiceAccounts' tokens and that of a webhook's answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from podling import clock
from podling.apiserver.identity import IDENTITY
from podling.metrics import PROCESS, exponential

USERS = PROCESS.counter(
    "authenticated_user_requests", "[ALPHA] Counter of authenticated requests broken out by username.", ("username",)
)
ATTEMPTS = PROCESS.counter("authentication_attempts", "[ALPHA] Counter of authenticated attempts.", ("result",))
DURATIONS = PROCESS.histogram(
    "authentication_duration_seconds",
    "[ALPHA] Authentication duration in seconds broken out by result.",
    ("result",),
    exponential(0.001, 2, 15),
)
CERTIFICATES = PROCESS.histogram(
    "apiserver_client_certificate_expiration_seconds",
    "[ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a request.",
    (),
    (
        0, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 345600, 604800, 2592000, 7776000, 15552000, 31104000,
    ),
)  # fmt: skip
CACHE_REQUESTS = PROCESS.counter("authentication_token_cache_request_total", "[ALPHA] ", ("status",))
CACHE_FETCHES = PROCESS.counter("authentication_token_cache_fetch_total", "[ALPHA] ", ("status",))
CACHE_ACTIVE = PROCESS.gauge("authentication_token_cache_active_fetch_count", "[ALPHA] ", ("status",))
VALID_TOKENS = PROCESS.counter(
    "serviceaccount_valid_tokens_total", "[ALPHA] Cumulative valid projected service account tokens used"
)
STALE_TOKENS = PROCESS.counter(
    "serviceaccount_stale_tokens_total", "[ALPHA] Cumulative stale projected service account tokens used"
)
LEGACY_TOKENS = PROCESS.counter(
    "serviceaccount_legacy_tokens_total", "[ALPHA] Cumulative legacy service account tokens used"
)
#: Legacy tokens that somebody made; this cluster makes none by itself.
MANUAL_TOKENS = PROCESS.counter(
    "serviceaccount_legacy_manual_token_uses_total", "[ALPHA] Cumulative manually created legacy tokens used"
)
AUTO_TOKENS = PROCESS.counter(
    "serviceaccount_legacy_auto_token_uses_total", "[ALPHA] Cumulative auto-generated legacy tokens used"
)
INVALID_AUTO_TOKENS = PROCESS.counter(
    "serviceaccount_invalid_legacy_auto_token_uses_total",
    "[ALPHA] Cumulative invalid auto-generated legacy tokens used",
)
RELOADS = PROCESS.counter(
    "apiserver_authentication_config_controller_automatic_reloads_total",
    "[BETA] Total number of automatic reloads of authentication configuration split by status and apiserver identity.",
    ("apiserver_id_hash", "status"),
)
LAST_RELOAD = PROCESS.gauge(
    "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
    "[BETA] Timestamp of the last automatic reload of authentication configuration split by status and apiserver "
    "identity.",
    ("apiserver_id_hash", "status"),
)

JWT_DURATIONS = PROCESS.histogram(
    "apiserver_authentication_jwt_authenticator_latency_seconds",
    "[ALPHA] Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for "
    "cache miss only (i.e. when the token is not found in the cache).",
    ("jwt_issuer_hash", "result"),
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
IMPERSONATIONS = PROCESS.counter(
    "apiserver_impersonation_attempts_total",
    "[ALPHA] Total number of impersonation attempts split by mode and decision.",
    ("decision", "mode"),
)
IMPERSONATION_DURATIONS = PROCESS.histogram(
    "apiserver_impersonation_attempts_duration_seconds",
    "[ALPHA] Latency of impersonation attempts in seconds split by mode and decision.",
    ("decision", "mode"),
    exponential(0.001, 2, 15),
)

SUCCESS, FAILURE, ERROR = "success", "failure", "error"
_RESULTS = {result: (ATTEMPTS.of(result), DURATIONS.of(result)) for result in (SUCCESS, FAILURE, ERROR)}
_KNOWN_NAMES = ("admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default")
_KNOWN = {name: USERS.of(name) for name in _KNOWN_NAMES}
_MAIL, _OTHER = USERS.of("email_id"), USERS.of("other")
_EXPIRATIONS = CERTIFICATES.of()


def attempted(result: str, seconds: float, user: str = "") -> None:
    """It was tried to tell who sent a request; `user` is the name of whom it was."""
    attempts, durations = _RESULTS[result]
    attempts.value += 1
    durations.observe(seconds)
    if result is SUCCESS:
        cell = _KNOWN.get(user) or (_MAIL if "@" in user else _OTHER)
        cell.value += 1


def certificate(left: float) -> None:
    """A client certificate was used that is good for so many seconds."""
    _EXPIRATIONS.observe(left)


@contextmanager
def judging_jwt(issuer_hash: str) -> Iterator[None]:
    """In the block a token of an issuer is judged that was not known."""
    began, result = clock.real_seconds(), FAILURE
    try:
        yield
        result = SUCCESS
    finally:
        JWT_DURATIONS.of(issuer_hash, result).observe(clock.real_seconds() - began)


def impersonated(mode: str, seconds: float) -> None:
    """A user was taken for another one by a mode; "" if by none."""
    labels = "allowed" if mode else "denied", mode
    IMPERSONATIONS.add(*labels)
    IMPERSONATION_DURATIONS.observe(labels, seconds)


def reloaded(*, good: bool) -> None:
    """The AuthenticationConfiguration was read again."""
    status = SUCCESS if good else FAILURE
    RELOADS.add(IDENTITY, status)
    LAST_RELOAD.set(clock.now().timestamp(), IDENTITY, status)


class TokenCache:
    """What a cache of judged tokens counts."""

    def __init__(self) -> None:
        self._hits, self._misses = CACHE_REQUESTS.of("hit"), CACHE_REQUESTS.of("miss")
        self._good, self._bad = CACHE_FETCHES.of("ok"), CACHE_FETCHES.of("error")
        self.fetching = CACHE_ACTIVE.of("in_flight")
        self.blocked = CACHE_ACTIVE.of("blocked")

    def hit(self) -> None:
        self._hits.value += 1

    def missed(self) -> None:
        self._misses.value += 1

    def fetched(self, *, good: bool) -> None:
        """A token was judged: `good` if that could be done."""
        (self._good if good else self._bad).value += 1


CACHE = TokenCache()
