"""What authentication counts."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from apiserver.authn.provider import Provider, provider
from apiserver.authn.test_authenticator import Room as Door
from apiserver.authn.test_authenticator import bearer, certificate
from apiserver.authn.test_impersonation import Judge
from apiserver.authn.test_jwt_issuer import refused, user_of
from apiserver.authn.test_service_accounts import Room, pem, ref, virtual
from apiserver.authn.test_token_webhook import API, BOB, asking
from podling import clock
from podling.api.errors import StatusError
from podling.apiserver.app import ApiServer
from podling.apiserver.authn import metrics
from podling.apiserver.authn.service_accounts import WARN_ONLY_SECONDS, InvalidToken
from podling.store.memory import MemoryStore
from tests.unit.measured import count, grows


def test_attempts_by_result_and_kind_of_user() -> None:
    app = ApiServer(MemoryStore(), authenticator=Door().authenticator.authenticate)

    def authenticate(headers: dict[str, str], path: str = "/api", der: bytes | None = None) -> None:
        clock.run_virtual(app.authenticate(headers, der, path))

    with grows("authentication_attempts", result="success"), grows("authenticated_user_requests", username="admin"):
        authenticate(bearer("admin-token"))
    with grows("authenticated_user_requests", username="other"), grows("authentication_duration_seconds"):
        authenticate({}, "/healthz")
    with grows("authenticated_user_requests", username="email_id"):
        authenticate({}, der=certificate("ann@example.com"))
    with grows("authentication_attempts", result="failure"), pytest.raises(StatusError):
        authenticate({})
    with grows("authentication_attempts", result="error"), pytest.raises(StatusError):
        authenticate(bearer("unknown"))


def test_certificates_by_the_time_that_is_left() -> None:
    family, before = metrics.CERTIFICATES, metrics.CERTIFICATES.values[()]
    Door().who({}, certificate("ann", days=1))
    grown = [new - old for old, new in zip(before, family.values[()], strict=True)]
    assert grown[:-1].index(1) == family.buckets.index(86400) and grown[-1] == 86400


def test_tokens_of_accounts_by_age_and_kind() -> None:
    def check() -> None:
        room = Room()
        token = room.token(expiration_seconds=WARN_ONLY_SECONDS, bound_object_ref=ref("Pod", "web"))
        with (
            grows("serviceaccount_valid_tokens_total"),
            grows("authentication_token_cache_request_total", status="miss"),
            grows("authentication_token_cache_fetch_total", status="ok"),
        ):
            room.user(token)
        with grows("authentication_token_cache_request_total", status="hit"):
            room.user(token)
        legacy = room.issuer.sign_legacy(room.objects.by_key["serviceaccounts", "ns", "bot"], "s")
        room.objects.by_key["secrets", "ns", "s"].data = {"token": base64.b64encode(legacy.encode()).decode()}
        with grows("serviceaccount_legacy_tokens_total"), grows("serviceaccount_legacy_manual_token_uses_total"):
            room.user(legacy)
        with grows("authentication_token_cache_fetch_total", status="error"), pytest.raises(InvalidToken):
            room.user(Room(pem(ec.generate_private_key(ec.SECP256R1()))).token())

    virtual(check)


def test_tokens_that_should_have_been_renewed() -> None:
    async def check() -> None:
        import asyncio

        room = Room()
        token = room.token(expiration_seconds=WARN_ONLY_SECONDS, bound_object_ref=ref("Pod", "web"))
        await asyncio.sleep(WARN_ONLY_SECONDS + 1)
        with grows("serviceaccount_stale_tokens_total"), grows("serviceaccount_valid_tokens_total", by=0):
            room.user(token)

    clock.run_virtual(check())


async def test_the_answers_of_a_webhook_are_a_cache() -> None:
    async with asking(lambda token: BOB) as room:
        with grows("authentication_token_cache_request_total", status="miss"):
            await room.webhook.review("t", API)
        with grows("authentication_token_cache_request_total", status="hit"):
            await room.webhook.review("t", API)
    assert count("authentication_token_cache_active_fetch_count") == 0


async def test_tokens_of_issuers_by_result() -> None:
    idp: Provider
    async with provider() as idp:
        with grows("apiserver_authentication_jwt_authenticator_latency_seconds", result="success"):
            await user_of(idp, idp.token())
        with grows("apiserver_authentication_jwt_authenticator_latency_seconds", result="failure"):
            await refused(idp, idp.token(exp=1))


def test_impersonation_by_mode() -> None:
    headers = {"Impersonate-User": "bob"}
    with grows("apiserver_impersonation_attempts_total", mode="legacy", decision="allowed"):
        Judge().play(headers)
    with grows("apiserver_impersonation_attempts_duration_seconds", mode="user-info", decision="allowed"):
        Judge(lambda a: a.verb.startswith(("impersonate:", "impersonate-on:"))).play(headers)
    with grows("apiserver_impersonation_attempts_total", mode="", decision="denied"):
        Judge(lambda a: False).fails(headers)


def test_files_that_are_read_again() -> None:
    name = "apiserver_authentication_config_controller_automatic_reload"
    with grows(f"{name}s_total", status="failure"):
        metrics.reloaded(good=False)
    assert count(f"{name}_last_timestamp_seconds", status="failure") > 0
