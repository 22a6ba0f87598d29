"""ServiceAccount tokens: what they say, whom they name, when they end."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from podling import clock
from podling.api import authentication_v1, core_v1, meta_v1
from podling.api.errors import StatusError
from podling.apiserver import exchange
from podling.apiserver.authn import metrics, service_accounts
from podling.apiserver.authn.service_accounts import (
    DEFAULT_ISSUER,
    EXTENDED_SECONDS,
    WARN_ONLY_SECONDS,
    InvalidToken,
    TokenIssuer,
    TokenValidator,
)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


KEY = pem(ec.generate_private_key(ec.SECP256R1()))


def meta(name: str, uid: str, namespace: str | None = "ns") -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(name=name, namespace=namespace, uid=uid)


class Objects:
    """A watch cache."""

    def __init__(self) -> None:
        spec = core_v1.PodSpec(service_account_name="bot", node_name="n1")
        self.by_key: dict[tuple[str, str, str], Any] = {
            ("serviceaccounts", "ns", "bot"): core_v1.ServiceAccount(metadata=meta("bot", "sa-uid")),
            ("pods", "ns", "web"): core_v1.Pod(metadata=meta("web", "pod-uid"), spec=spec),
            ("secrets", "ns", "s"): core_v1.Secret(metadata=meta("s", "secret-uid")),
            ("nodes", "", "n1"): core_v1.Node(metadata=meta("n1", "node-uid", None)),
        }

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        return self.by_key.get((resource, namespace, name))


def ref(
    kind: str, name: str, uid: str | None = None, api_version: str = "v1"
) -> authentication_v1.BoundObjectReference:
    return authentication_v1.BoundObjectReference(kind=kind, name=name, uid=uid, api_version=api_version)


class Room:
    """An issuer and a validator over the same objects."""

    def __init__(self, key: bytes = KEY) -> None:
        self.objects = Objects()
        self.issuer = TokenIssuer(key, self.objects)
        self.validator = TokenValidator(self.issuer.keys, self.objects)

    def request(self, **spec: Any) -> authentication_v1.TokenRequest:
        request = authentication_v1.TokenRequest(spec=authentication_v1.TokenRequestSpec(**spec))
        return self.issuer.issue("ns", "bot", request)

    def token(self, **spec: Any) -> str:
        return self.request(**spec).status.token or ""

    def user(self, token: str) -> Any:
        found = self.validator.validate(token, (DEFAULT_ISSUER,))
        assert found is not None
        return found[0]


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return decoded


def virtual(check: Any) -> None:
    async def main() -> None:
        result = check()
        if asyncio.iscoroutine(result):
            await result

    clock.run_virtual(main())


def test_claims_are_upstreams() -> None:
    def check() -> None:
        request = Room().request(bound_object_ref=ref("Pod", "web", "pod-uid"))
        claims = claims_of(request.status.token or "")
        now = int(clock.EPOCH.timestamp())
        jti = claims.pop("jti")
        assert len(jti) == 36
        assert claims == {
            "aud": [DEFAULT_ISSUER],
            "exp": now + 3600,
            "iat": now,
            "iss": DEFAULT_ISSUER,
            "kubernetes.io": {
                "namespace": "ns",
                "node": {"name": "n1", "uid": "node-uid"},
                "pod": {"name": "web", "uid": "pod-uid"},
                "serviceaccount": {"name": "bot", "uid": "sa-uid"},
            },
            "nbf": now,
            "sub": "system:serviceaccount:ns:bot",
        }
        assert request.status.expiration_timestamp == "2026-01-01T01:00:00Z"
        assert request.spec.expiration_seconds == 3600
        assert request.spec.audiences == [DEFAULT_ISSUER]

    virtual(check)


def test_the_user_has_groups_and_extra() -> None:
    def check() -> None:
        room = Room()
        token = room.token(bound_object_ref=ref("Pod", "web"))
        user = room.user(token)
        assert (user.name, user.uid) == ("system:serviceaccount:ns:bot", "sa-uid")
        assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
        assert user.extra == {
            "authentication.kubernetes.io/credential-id": (f"JTI={claims_of(token)['jti']}",),
            "authentication.kubernetes.io/node-name": ("n1",),
            "authentication.kubernetes.io/node-uid": ("node-uid",),
            "authentication.kubernetes.io/pod-name": ("web",),
            "authentication.kubernetes.io/pod-uid": ("pod-uid",),
        }

    virtual(check)


def test_tokens_end() -> None:
    async def check() -> None:
        room = Room()
        token = room.token(expiration_seconds=600)
        await asyncio.sleep(600 + 59)
        assert room.user(token)
        await asyncio.sleep(2)
        with pytest.raises(InvalidToken, match=r"^service account token has expired$"):
            room.user(token)

    virtual(check)


@pytest.mark.parametrize(
    ("bound", "gone", "message"),
    [
        (None, ("serviceaccounts", "ns", "bot"), 'serviceaccounts "bot" not found'),
        (ref("Pod", "web"), ("pods", "ns", "web"), "service account token has been invalidated"),
        (ref("Secret", "s"), ("secrets", "ns", "s"), "service account token has been invalidated"),
        (ref("Node", "n1"), ("nodes", "", "n1"), "service account token has been invalidated"),
    ],
)
def test_tokens_die_with_what_they_are_bound_to(bound: Any, gone: tuple[str, str, str], message: str) -> None:
    def check() -> None:
        room = Room()
        token = room.token(bound_object_ref=bound)
        assert room.user(token)
        del room.objects.by_key[gone]
        with pytest.raises(InvalidToken, match=f"^{message}$"):
            room.user(token)

    virtual(check)


@pytest.mark.parametrize(
    ("bound", "remade", "message"),
    [
        (None, ("serviceaccounts", "ns", "bot"), r"service account UID \(new\) does not match claim \(sa-uid\)"),
        (
            ref("Pod", "web"),
            ("pods", "ns", "web"),
            r"pod UID \(new\) does not match service account pod ref claim \(pod-uid\)",
        ),
    ],
)
def test_a_successor_of_the_same_name_does_not_count(bound: Any, remade: tuple[str, str, str], message: str) -> None:
    def check() -> None:
        room = Room()
        token = room.token(bound_object_ref=bound)
        room.objects.by_key[remade].metadata.uid = "new"
        with pytest.raises(InvalidToken, match=message):
            room.user(token)

    virtual(check)


def test_a_deleted_pod_keeps_its_token_for_its_grace_period_and_a_minute() -> None:
    async def check() -> None:
        room = Room()
        token = room.token(bound_object_ref=ref("Pod", "web"))
        room.objects.by_key["pods", "ns", "web"].metadata.deletion_timestamp = "2026-01-01T00:00:30Z"
        await asyncio.sleep(89)
        assert room.user(token)
        await asyncio.sleep(2)
        with pytest.raises(InvalidToken, match="invalidated"):
            room.user(token)

    virtual(check)


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        (
            {"expiration_seconds": 599},
            422,
            'TokenRequest.authentication.k8s.io "bot" is invalid: spec.expirationSeconds: Invalid value: 599: '
            "may not specify a duration less than 10 minutes",
        ),
        ({"expiration_seconds": (1 << 32) + 1}, 422, "may not specify a duration larger than 2^32 seconds"),
        ({"bound_object_ref": ref("Pod", "none")}, 404, 'pods "none" not found'),
        ({"bound_object_ref": ref("Pod", "web", "other")}, 409, "does not match the UID in record"),
        ({"bound_object_ref": ref("ConfigMap", "x")}, 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        ({"bound_object_ref": ref("Pod", "web", None, "apps/v1")}, 400, "apps/v1, Kind=Pod"),
    ],
    ids=str,
)
def test_requests_that_make_no_sense_are_refused(spec: dict[str, Any], code: int, message: str) -> None:
    def check() -> None:
        with pytest.raises(StatusError) as caught:
            Room().request(**spec)
        assert caught.value.code == code
        assert message in str(caught.value)

    virtual(check)


def test_a_pod_of_another_account_can_not_be_bound() -> None:
    def check() -> None:
        room = Room()
        room.objects.by_key["pods", "ns", "web"].spec.service_account_name = "other"
        with pytest.raises(StatusError, match='cannot bind token for serviceaccount "bot" to pod running with'):
            room.request(bound_object_ref=ref("Pod", "web"))

    virtual(check)


def test_audiences_are_kept_apart() -> None:
    def check() -> None:
        room = Room()
        token = room.token(audiences=["vault"])
        with pytest.raises(InvalidToken, match='token audiences \\["vault"\\] is invalid for the target audiences'):
            room.user(token)
        found = room.validator.validate(token, ("vault", "x"))
        assert found is not None and found[1] == ("vault",)

    virtual(check)


def test_the_token_of_the_admission_plugin_outlives_clients_that_do_not_reload() -> None:
    def check() -> None:
        room = Room()
        request = room.request(expiration_seconds=WARN_ONLY_SECONDS, bound_object_ref=ref("Pod", "web"))
        claims = claims_of(request.status.token or "")
        assert claims["exp"] - claims["iat"] == EXTENDED_SECONDS
        assert claims["kubernetes.io"]["warnafter"] - claims["iat"] == WARN_ONLY_SECONDS
        assert request.status.expiration_timestamp == "2026-01-01T01:00:07Z"
        unbound = claims_of(room.token(expiration_seconds=WARN_ONLY_SECONDS))
        assert unbound["exp"] - unbound["iat"] == WARN_ONLY_SECONDS

    virtual(check)


def test_forged_and_foreign_tokens() -> None:
    def check() -> None:
        room, stranger = Room(), Room(pem(ec.generate_private_key(ec.SECP256R1())))
        with pytest.raises(InvalidToken, match="invalid signature"):
            room.user(stranger.token())
        head, payload, signature = room.token().split(".")
        changed = payload[:-4] + ("AAAA" if payload[-4:] != "AAAA" else "BBBB")
        assert not _accepts(room, f"{head}.{changed}.{signature}")
        none = jwt.encode(claims_of(room.token()), None, algorithm="none")
        assert not _accepts(room, none)
        assert room.validator.validate("not.a.token", ()) is None
        foreign = jwt.encode({"iss": "https://elsewhere"}, "k" * 32, algorithm="HS256")
        assert room.validator.validate(foreign, ()) is None

    virtual(check)


def _accepts(room: Room, token: str) -> bool:
    try:
        return room.validator.validate(token, (DEFAULT_ISSUER,)) is not None
    except InvalidToken:
        return False


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_others_verify_tokens_with_the_published_keys(kind: str) -> None:
    """As a workload does that trusts the cluster's issuer: OpenID Connect discovery, then the key set."""

    def check() -> None:
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        room = Room(pem(key))
        token = room.token(audiences=["vault"])
        published = jwt.PyJWKSet.from_json(room.issuer.jwks().decode())
        signing = published[jwt.get_unverified_header(token)["kid"]]
        verified = jwt.decode(
            token,
            signing.key,
            algorithms=[signing.algorithm_name],
            audience="vault",
            issuer=DEFAULT_ISSUER,
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        assert verified["sub"] == "system:serviceaccount:ns:bot"
        document = json.loads(room.issuer.discovery("https://10.0.0.1:6443/openid/v1/jwks"))
        assert document == {
            "issuer": DEFAULT_ISSUER,
            "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256" if kind == "rsa" else "ES256"],
        }
        assert room.user(room.token())

    virtual(check)


def test_a_retired_key_still_verifies() -> None:
    def check() -> None:
        old = Room()
        token = old.token()
        new_key = pem(ec.generate_private_key(ec.SECP256R1()))
        issuer = TokenIssuer(new_key, old.objects, retired_keys=[KEY])
        assert TokenValidator(issuer.keys, old.objects).validate(token, (DEFAULT_ISSUER,)) is not None

    virtual(check)


def test_tokens_kept_in_secrets_live_as_long_as_the_secret() -> None:
    def check() -> None:
        room = Room()
        account = room.objects.by_key["serviceaccounts", "ns", "bot"]
        token = room.issuer.sign_legacy(account, "s")
        secret = room.objects.by_key["secrets", "ns", "s"]
        secret.data = {"token": base64.b64encode(token.encode()).decode()}
        assert room.user(token).name == "system:serviceaccount:ns:bot"
        secret.metadata.labels = {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}
        with pytest.raises(InvalidToken, match=r"has been marked invalid. Use tokens from the TokenRequest API"):
            room.user(token)
        secret.metadata.labels = None
        secret.data = {"token": base64.b64encode(b"another").decode()}
        with pytest.raises(InvalidToken, match="invalidated"):
            room.user(token)

    virtual(check)


def test_uses_of_tokens_kept_in_secrets_stand_in_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: dict[str, str] = {}

    class Audited:
        def annotate(self, annotations: dict[str, str]) -> None:
            noted.update(annotations)

    monkeypatch.setattr(service_accounts, "audit_trail", Audited)

    def check() -> None:
        room = Room()
        account = room.objects.by_key["serviceaccounts", "ns", "bot"]
        token = room.issuer.sign_legacy(account, "s")
        secret = room.objects.by_key["secrets", "ns", "s"]
        secret.data = {"token": base64.b64encode(token.encode()).decode()}
        room.user(token)
        prefix = "authentication.k8s.io/legacy-token"
        assert noted == {prefix: "system:serviceaccount:ns:bot", f"{prefix}-manual-secret": "s"}
        account.secrets = [core_v1.ObjectReference(name="s")]
        room.user(token)
        assert noted[f"{prefix}-autogenerated-secret"] == "s"
        secret.metadata.labels = {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}
        with pytest.raises(InvalidToken):
            room.user(token)
        assert noted[f"{prefix}-invalidated"] == "s/ns"

    virtual(check)


def test_uses_of_a_legacy_token_are_told_counted_and_warned_of() -> None:
    def check() -> None:
        room, told = Room(), []
        room.validator = TokenValidator(room.issuer.keys, room.objects, used=lambda s: told.append(s.metadata.name))
        account = room.objects.by_key["serviceaccounts", "ns", "bot"]
        token = room.issuer.sign_legacy(account, "s")
        secret = room.objects.by_key["secrets", "ns", "s"]
        secret.data = {"token": base64.b64encode(token.encode()).decode()}
        request = exchange.Exchange("/", {})
        exchange.begin(request)
        room.user(token)
        assert told == ["s"] and request.warnings == ()
        account.secrets = [core_v1.ObjectReference(name="s")]
        room.user(token)
        text = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of "
        assert told == ["s", "s"] and request.warnings == (f"{text}auto-generated secret-based tokens.",)
        secret.metadata.labels = {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}
        before = metrics.INVALID_AUTO_TOKENS.of().value
        with pytest.raises(InvalidToken):
            room.user(token)
        assert told == ["s", "s", "s"] and metrics.INVALID_AUTO_TOKENS.of().value == before + 1

    virtual(check)
