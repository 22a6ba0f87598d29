"""Tokens of an OpenID provider: which are good, and for whom. Forged ones are refused, and say why."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apiserver.authn.provider import EC_KEY, RSA_KEY, Provider, ca, jwk, provider
from podling import clock
from podling.api.request import User
from podling.apiserver.authn.authentication_config import (
    Claim,
    ClaimMappings,
    ClaimRule,
    ExtraMapping,
    Issuer,
    Jwt,
    PrefixedClaim,
    UserRule,
)
from podling.apiserver.authn.jwt_issuer import JwtIssuer
from podling.apiserver.authn.tokens import TokenError

API = ("https://kubernetes.default.svc.cluster.local",)
SUBJECT = PrefixedClaim(claim="sub", prefix="")


@pytest_asyncio.fixture
async def idp() -> AsyncIterator[Provider]:
    async with provider() as made:
        yield made


def config(idp: Provider, mappings: ClaimMappings | None = None, **more: Any) -> Jwt:
    issuer = Issuer(url=idp.url, audiences=more.pop("audiences", ["podling"]), certificate_authority=ca())
    return Jwt(issuer=issuer, claim_mappings=mappings or ClaimMappings(username=SUBJECT), **more)


async def user_of(idp: Provider, token: str, jwt_config: Jwt | None = None) -> User | None:
    issuer = JwtIssuer(jwt_config or config(idp), API)
    try:
        found = await issuer.review(token, API)
    finally:
        await issuer.close()
    return found[0] if found else None


async def refused(idp: Provider, token: str, jwt_config: Jwt | None = None) -> str:
    with pytest.raises(TokenError) as caught:
        await user_of(idp, token, jwt_config)
    return str(caught.value)


async def test_a_good_token_names_its_user(idp: Provider) -> None:
    assert await user_of(idp, idp.token()) == User("bob")
    assert await user_of(idp, idp.token(EC_KEY, "ES256", {"kid": "ec"}, jti="7")) == User(
        "bob", extra={"authentication.kubernetes.io/credential-id": ("JTI=7",)}
    )
    assert await user_of(idp, idp.token(aud=["other", "podling"])) == User("bob")
    assert await user_of(idp, idp.token(RSA_KEY, "PS384")) == User("bob")


async def test_tokens_of_other_issuers_are_somebody_elses_business(idp: Provider) -> None:
    for token in (idp.token(iss="https://evil.example"), "a.b.c", "x", "e30.W10.x", "e30.eyJpc3MiOlsxXX0.x"):
        assert await user_of(idp, token) is None
    assert idp.paths == []


async def test_a_token_is_good_for_the_api_server_alone(idp: Provider) -> None:
    issuer = JwtIssuer(config(idp), API)
    assert await issuer.review(idp.token(), ("elsewhere",)) is None
    await issuer.close()


def unsigned(token: str, **header: Any) -> str:
    """The token with another header and no signature."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", **header}).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


async def test_an_unsigned_token_is_refused(idp: Provider) -> None:
    for algorithm in ("none", "None", "", None, ["RS256"]):
        why = await refused(idp, unsigned(idp.token(), alg=algorithm, kid="rsa"))
        assert why.startswith("oidc: verify token: oidc: id token signed with unsupported algorithm, expected [")


async def test_the_public_key_is_no_shared_secret(idp: Provider) -> None:
    import hmac
    from hashlib import sha256

    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = unsigned(idp.token(), alg="HS256", kid="rsa").split(".")
    signature = base64.urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), sha256)).rstrip(b"=").decode()
    assert "unsupported algorithm" in await refused(idp, f"{head}.{body}.{signature}")


async def test_a_key_is_used_for_its_own_algorithm_alone(idp: Provider) -> None:
    for algorithm, kid in (("ES256", "rsa"), ("ES384", "ec"), ("RS256", "ec")):
        head, body, signature = idp.token().split(".")
        head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": kid}).encode()).rstrip(b"=").decode()
        assert "failed to verify id token signature" in await refused(idp, f"{head}.{body}.{signature}")


async def test_the_key_id_chooses_among_the_issuers_keys_and_no_others(idp: Provider) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    for kid in ("rsa", "nobody", "../../keys", "https://evil.example/keys", "' OR 1=1"):
        headers = {"kid": kid, "jku": "https://evil.example/keys", "jwk": jwk(stranger, "x")}
        why = await refused(idp, idp.token(stranger, headers=headers))
        assert why == ("oidc: verify token: failed to verify signature: failed to verify id token signature")
    assert set(idp.paths) == {"/.well-known/openid-configuration", "/keys"}


async def test_a_token_that_was_changed_is_refused(idp: Provider) -> None:
    head, body, signature = idp.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "admin"
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    assert "failed to verify id token signature" in await refused(idp, f"{head}.{body}.{signature}")


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1000}, "oidc: verify token: oidc: token is expired (Token Expiry: 1970-01-01 00:16:40 +0000 UTC)"),
        ({"exp": None}, "oidc: verify token: oidc: token is expired"),
        ({"exp": "soon"}, "oidc: verify token: oidc: token is expired"),
        ({"nbf": 99999999999}, "before the nbf (not before) time: 5138-11-16 09:46:39 +0000 UTC"),
        ({"aud": "other"}, 'oidc: verify token: oidc: expected audience "podling" got ["other"]'),
        ({"aud": None}, 'oidc: verify token: oidc: expected audience "podling" got []'),
        ({"sub": None}, 'oidc: parse username claims "sub": claim not present'),
        ({"sub": 7}, 'oidc: parse username claims "sub": json: cannot unmarshal number into Go value of type string'),
    ],
)
async def test_time_audience_and_subject_count(idp: Provider, claims: dict[str, Any], why: str) -> None:
    assert why in await refused(idp, idp.token(**claims))


async def test_a_good_token_that_ends_is_not_remembered_beyond(idp: Provider) -> None:
    issuer = JwtIssuer(config(idp), API)
    token = idp.token(exp=int(clock.now().timestamp()) + 1)
    assert await issuer.review(token, API) is not None
    import asyncio

    await asyncio.sleep(2.1)
    with pytest.raises(TokenError, match="expired"):
        await issuer.review(token, API)
    await issuer.close()


async def test_keys_are_fetched_once_and_again_for_one_that_is_new(idp: Provider) -> None:
    issuer = JwtIssuer(config(idp), API)
    for name in ("a", "b", "c"):
        assert await issuer.review(idp.token(sub=name), API) is not None
    assert idp.paths.count("/keys") == 1
    new = rsa.generate_private_key(65537, 2048)
    idp.keys = [jwk(new, "new")]
    import asyncio

    await asyncio.sleep(1.1)
    assert await issuer.review(idp.token(new, headers={"kid": "new"}), API) is not None
    assert idp.paths.count("/keys") == 2
    # Unknown keys don't make the API server hammer the issuer.
    for number in range(5):
        with pytest.raises(TokenError):
            await issuer.review(idp.token(RSA_KEY, sub=str(number)), API)
    assert idp.paths.count("/keys") == 2
    await issuer.close()


async def test_private_and_symmetric_keys_are_not_taken(idp: Provider) -> None:
    idp.keys = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"},
        {"kty": "RSA", "kid": "rsa"},
        jwk(RSA_KEY, "rsa", use="enc"),
    ]
    assert "failed to verify id token signature" in await refused(idp, idp.token())


async def test_a_provider_that_is_not_there_or_another_one(idp: Provider) -> None:
    idp.up = False
    assert await refused(idp, idp.token()) == "oidc: authenticator not initialized"
    idp.up, idp.issuer = True, "https://another.example"
    assert await refused(idp, idp.token()) == "oidc: authenticator not initialized"


async def test_a_provider_must_have_the_certificate_of_the_ca(idp: Provider) -> None:
    untrusted = Jwt(issuer=Issuer(url=idp.url, audiences=["podling"]), claim_mappings=ClaimMappings(username=SUBJECT))
    assert await refused(idp, idp.token(), untrusted) == "oidc: authenticator not initialized"
    assert idp.paths == []


async def test_claims_by_name_with_prefixes(idp: Provider) -> None:
    mappings = ClaimMappings(
        username=PrefixedClaim(claim="email", prefix="oidc:"),
        groups=PrefixedClaim(claim="groups", prefix="oidc:"),
        uid=Claim(claim="sub"),
    )
    wanted = config(idp, mappings)
    claims = {"email": "b@x.org", "email_verified": True, "groups": ["a", "b"]}
    assert await user_of(idp, idp.token(**claims), wanted) == User("oidc:b@x.org", ("oidc:a", "oidc:b"), "bob")
    one = await user_of(idp, idp.token(**{**claims, "groups": "admins"}), wanted)
    assert one is not None and one.groups == ("oidc:admins",)
    none = await user_of(idp, idp.token(email="b@x.org"), wanted)
    assert none is not None and none.groups == ()
    assert await refused(idp, idp.token(**{**claims, "email_verified": False}), wanted) == "oidc: email not verified"
    assert "parse 'email_verified' claim" in await refused(
        idp, idp.token(**{**claims, "email_verified": "true"}), wanted
    )
    assert 'parse groups claim "groups"' in await refused(idp, idp.token(**{**claims, "groups": [1]}), wanted)


async def test_expressions_map_claims(idp: Provider) -> None:
    mappings = ClaimMappings(
        username=PrefixedClaim(expression="'idp:' + claims.sub"),
        groups=PrefixedClaim(expression="claims.roles.split(',')"),
        uid=Claim(expression="claims.sub"),
        extra=[
            ExtraMapping(key="acme.com/team", value_expression="claims.acme__dot__com__slash__team"),
            ExtraMapping(key="acme.com/none", value_expression="has(claims.missing) ? claims.missing : ''"),
        ],
    )
    token = idp.token(roles="a,b", **{"acme.com/team": ["x", "", "y"]})
    assert await user_of(idp, token, config(idp, mappings)) == User(
        "idp:bob", ("a", "b"), "bob", {"acme.com/team": ("x", "y")}
    )
    why = await refused(idp, idp.token(**{"acme.com/team": "x"}), config(idp, mappings))
    assert why.startswith(
        "oidc: error evaluating group claim expression: expression 'claims.roles.split(',')' resulted"
    )
    empty = config(idp, ClaimMappings(username=PrefixedClaim(expression="claims.name")))
    assert await refused(idp, idp.token(name=""), empty) == "oidc: empty username via CEL expression is not allowed"


async def test_rules_about_claims_and_users(idp: Provider) -> None:
    wanted = config(
        idp,
        claim_validation_rules=[
            ClaimRule(claim="hd", required_value="acme.com"),
            ClaimRule(expression="claims.exp - claims.iat <= 7200", message="must not live for more than 2 hours"),
        ],
        user_validation_rules=[UserRule(expression="!user.username.startsWith('system:')", message="reserved")],
    )
    assert await user_of(idp, idp.token(hd="acme.com"), wanted) == User("bob")
    assert await refused(idp, idp.token(), wanted) == "oidc: required claim hd not present in ID token"
    assert await refused(idp, idp.token(hd="evil.com"), wanted) == (
        "oidc: required claim hd value does not match. Got = evil.com, want = acme.com"
    )
    late = int(clock.now().timestamp()) + 90000
    assert await refused(idp, idp.token(hd="acme.com", exp=late), wanted) == (
        "oidc: error evaluating claim validation expression: validation expression 'claims.exp - claims.iat <= 7200' "
        "failed: must not live for more than 2 hours"
    )
    assert await refused(idp, idp.token(hd="acme.com", sub="system:admin"), wanted) == (
        "oidc: error evaluating user info validation rule: validation expression "
        "'!user.username.startsWith('system:')' failed: reserved"
    )


async def test_a_huge_list_of_groups_is_a_token_too_large_for_a_header_but_no_trouble(idp: Provider) -> None:
    mappings = ClaimMappings(username=SUBJECT, groups=PrefixedClaim(claim="groups", prefix=""))
    user = await user_of(idp, idp.token(groups=[f"g{i}" for i in range(20000)]), config(idp, mappings))
    assert user is not None and len(user.groups) == 20000


async def test_nesting_without_end_is_no_token(idp: Provider) -> None:
    body = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    head = base64.urlsafe_b64encode(b'{"alg":"RS256"}').decode()
    assert await user_of(idp, f"{head}.{body}.x") is None


async def test_groups_may_be_at_another_place(idp: Provider) -> None:
    wanted = config(idp, ClaimMappings(username=SUBJECT, groups=PrefixedClaim(claim="groups", prefix="x:")))

    def pointing(source: Any, **more: Any) -> str:
        return idp.token(_claim_names={"groups": "src"}, _claim_sources={"src": source}, **more)

    place = {"endpoint": f"{idp.url}/groups", "access_token": "secret"}
    idp.texts["/groups"] = idp.token(groups=["a", "b"])
    user = await user_of(idp, pointing(place), wanted)
    assert user is not None and user.groups == ("x:a", "x:b")
    assert idp.tokens == ["Bearer secret"]
    # Whoever has groups of their own needs no others.
    user = await user_of(idp, pointing(place, groups=["own"]), wanted)
    assert user is not None and user.groups == ("x:own",) and len(idp.tokens) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "getting untrusted issuer from endpoint failed"),
        ("forged", "verify distributed claim token: oidc: verify token: failed to verify signature"),
        ("empty", "did not contain claim: groups"),
    ],
)
async def test_groups_from_another_place_must_be_signed(idp: Provider, text: str, said: str) -> None:
    wanted = config(idp, ClaimMappings(username=SUBJECT, groups=PrefixedClaim(claim="groups", prefix="")))
    made = {
        "nonsense": "x.y.z", "empty": idp.token(),
        "forged": idp.token(rsa.generate_private_key(65537, 2048), groups=["system:masters"]),
    }  # fmt: skip
    idp.texts["/groups"] = made[text]
    token = idp.token(_claim_names={"groups": "s"}, _claim_sources={"s": {"endpoint": f"{idp.url}/groups"}})
    why = await refused(idp, token, wanted)
    assert why.startswith("oidc: could not expand distributed claims: ") and said in why


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"_claim_names": {"groups": "s"}}, "oidc: no claim sources"),
        ({"_claim_names": {"groups": "s"}, "_claim_sources": {}}, "missing in _claims_sources"),
        ({"_claim_names": [], "_claim_sources": {}}, "error parsing distributed claim names"),
        ({"_claim_names": {"groups": "s"}, "_claim_sources": {"s": {"endpoint": "http://x"}}}, "is not https"),
    ],
)
async def test_places_that_make_no_sense(idp: Provider, claims: dict[str, Any], said: str) -> None:
    wanted = config(idp, ClaimMappings(username=SUBJECT, groups=PrefixedClaim(claim="groups", prefix="")))
    assert said in await refused(idp, idp.token(**claims), wanted)
