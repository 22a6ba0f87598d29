"""Who sends a request: certificates, tokens, nobody, and somebody in another's name."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from apiserver.authn.test_service_accounts import KEY, Objects
from podling import clock
from podling.api import authentication_v1, core_v1, meta_v1
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.authn.authenticator import ANONYMOUS, Anonymous, Authenticator, bearer_token
from podling.apiserver.authn.service_accounts import DEFAULT_ISSUER, TokenIssuer, TokenValidator
from podling.apiserver.authn.tokens import Tokens


def certificate(common_name: str, *groups: str, days: int = 1) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    name = x509.Name(attributes)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(clock.EPOCH - timedelta(days=1))
    signed = builder.not_valid_after(clock.EPOCH + timedelta(days=days)).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


class Room:
    def __init__(self) -> None:
        self.objects = Objects()
        self.issuer = TokenIssuer(KEY, self.objects)
        tokens = Tokens(
            self.objects,
            TokenValidator(self.issuer.keys, self.objects),
            audiences=(DEFAULT_ISSUER,),
            static={"admin-token": User("admin", ("system:masters",))},
        )
        self.authenticator = Authenticator(tokens)

    def who(self, headers: Mapping[str, str], der: bytes | None = None, path: str = "/api") -> User | None:
        return clock.run_virtual(self.authenticator.authenticate(headers, der, path))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def code(main: Coroutine[Any, Any, Any]) -> int:
    with pytest.raises(StatusError) as caught:
        clock.run_virtual(main)
    return caught.value.code


def test_a_client_certificate_names_user_and_groups() -> None:
    der = certificate("alice", "devs", "ops")
    user = Room().who({}, der)
    assert user == User(
        "alice",
        ("devs", "ops", "system:authenticated"),
        "",
        {"authentication.kubernetes.io/credential-id": (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)},
    )


@pytest.mark.parametrize("der", [certificate(""), certificate("old", days=0)], ids=["nameless", "expired"])
def test_a_certificate_without_a_name_or_beyond_its_end_is_refused(der: bytes) -> None:
    async def main() -> None:
        import asyncio

        await asyncio.sleep(1)
        await Room().authenticator.authenticate({}, der, "/api")

    assert code(main()) == 401


@pytest.mark.parametrize(
    ("path", "user"),
    [(p, ANONYMOUS) for p in ("/healthz", "/livez", "/readyz", "/version", "/version/")]
    + [(p, None) for p in ("/", "/api", "/healthz/etcd", "/metrics", "/apis/version")],
)
def test_nobody_sees_only_what_is_public(path: str, user: User | None) -> None:
    assert Room().who({}, None, path) == user


def test_a_static_token() -> None:
    assert Room().who(bearer("admin-token")) == User("admin", ("system:masters", "system:authenticated"))


@pytest.mark.parametrize(
    "token", ["nonsense", "admin-tokens", "a.b.c", "abcdef.0123456789abcdef", "\udcff\udcfe", "a" * 7000]
)
def test_a_bad_token_is_refused_even_where_none_is_needed(token: str) -> None:
    assert code(Room().authenticator.authenticate(bearer(token), None, "/healthz")) == 401


def test_a_service_account_token() -> None:
    room = Room()

    async def main() -> User | None:
        token = room.issuer.issue("ns", "bot", authentication_v1.TokenRequest()).status.token
        return await room.authenticator.authenticate(bearer(token or ""), None, "/api")

    user = clock.run_virtual(main())
    assert user is not None and user.name == "system:serviceaccount:ns:bot"


def encoded(**values: str) -> dict[str, str]:
    return {k.replace("_", "-"): base64.b64encode(v.encode()).decode() for k, v in values.items()}


BOOTSTRAP = {
    "token_id": "abcdef",
    "token_secret": "0123456789abcdef",
    "usage_bootstrap_authentication": "true",
    "auth_extra_groups": "system:bootstrappers:workers",
}


@pytest.mark.parametrize(
    ("change", "kind", "good"),
    [
        ({}, "bootstrap.kubernetes.io/token", True),
        ({"expiration": "2026-01-01T00:00:01Z"}, "bootstrap.kubernetes.io/token", True),
        ({"expiration": "2025-12-31T23:59:59Z"}, "bootstrap.kubernetes.io/token", False),
        ({"expiration": "nonsense"}, "bootstrap.kubernetes.io/token", False),
        ({"usage_bootstrap_authentication": "false"}, "bootstrap.kubernetes.io/token", False),
        ({"token_secret": "fedcba9876543210"}, "bootstrap.kubernetes.io/token", False),
        ({"auth_extra_groups": "system:masters"}, "bootstrap.kubernetes.io/token", False),
        ({}, "Opaque", False),
    ],
    ids=str,
)
def test_bootstrap_tokens(change: dict[str, str], kind: str, good: bool) -> None:
    room = Room()
    room.objects.by_key["secrets", "kube-system", "bootstrap-token-abcdef"] = core_v1.Secret(
        metadata=meta_v1.ObjectMeta(name="bootstrap-token-abcdef", namespace="kube-system"),
        type=kind,
        data=encoded(**{**BOOTSTRAP, **change}),
    )
    headers = bearer("abcdef.0123456789abcdef")
    if good:
        groups = ("system:bootstrappers", "system:bootstrappers:workers", "system:authenticated")
        assert room.who(headers) == User("system:bootstrap:abcdef", groups)
    else:
        assert code(room.authenticator.authenticate(headers, None, "/api")) == 401


def test_browsers_send_the_token_as_a_subprotocol() -> None:
    token = base64.urlsafe_b64encode(b"admin-token").rstrip(b"=").decode()
    offered = f"v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.{token}"
    assert bearer_token({"sec-websocket-protocol": offered}) == "admin-token"
    assert bearer_token({"sec-websocket-protocol": "v5.channel.k8s.io"}) is None
    assert bearer_token({"authorization": "Basic eDp5"}) is None


@pytest.mark.parametrize(
    ("anonymous", "path", "user"),
    [
        (Anonymous(False), "/healthz", None),
        (Anonymous(paths=frozenset()), "/api/v1/pods", ANONYMOUS),
        (Anonymous(paths=frozenset({"/livez"})), "/livez", ANONYMOUS),
        (Anonymous(paths=frozenset({"/livez"})), "/healthz", None),
    ],
)
def test_where_nobody_is_anonymous_can_be_configured(anonymous: Anonymous, path: str, user: User | None) -> None:
    room = Room()
    room.authenticator.anonymous = anonymous
    assert room.who({}, None, path) == user
