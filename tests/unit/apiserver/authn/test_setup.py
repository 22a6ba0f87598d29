"""Authentication as flags and configuration files say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from apiserver.authn.provider import ca, provider
from apiserver.authn.test_service_accounts import KEY, Objects
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver import assembly, options
from podling.apiserver.authn import authentication_check, oidc_flags
from podling.apiserver.authn.service_accounts import TokenIssuer, TokenValidator
from podling.apiserver.authn.setup import Authentication
from podling.apiserver.config_file import ConfigFileError
from podling.apiserver.options import OptionError, Options


def made(chosen: Options) -> Authentication:
    objects = Objects()
    issuer = TokenIssuer(KEY, objects)
    validator = TokenValidator(issuer.keys, objects)
    return Authentication(chosen, objects, validator, issuer=issuer.issuer, audiences=issuer.audiences)


async def who(authentication: Authentication, token: str) -> User | None:
    headers = {"authorization": f"Bearer {token}"}
    try:
        return await authentication.authenticator.authenticate(headers, None, "/api")
    except StatusError as error:
        assert error.code == 401
        return None


def jwt(url: str, **more: Any) -> dict[str, Any]:
    return {
        "issuer": {"url": url, "audiences": ["podling"], "certificateAuthority": ca(), **more},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    }


def document(*jwts: dict[str, Any], version: str = "v1", **more: Any) -> str:
    return json.dumps(
        {"apiVersion": f"apiserver.config.k8s.io/{version}", "kind": "AuthenticationConfiguration", "jwt": jwts, **more}
    )


async def test_tokens_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('t1,bob,7,"a,b"\n\nt2,eve,8\n,nobody,9\n')
    authentication = made(Options(token_auth_file=str(path)))
    assert await who(authentication, "t1") == User("bob", ("a", "b", "system:authenticated"), "7")
    assert await who(authentication, "t2") == User("eve", ("system:authenticated",), "8")
    assert await who(authentication, "t3") is None
    path.write_text("t1,bob\n")
    with pytest.raises(OptionError, match=r"must have at least 3 columns \(token, user name, user uid\), found 2"):
        assembly.check(Options(token_auth_file=str(path)))


async def test_an_issuer_by_flags(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(ca())
    async with provider() as idp:
        arguments = [
            f"oidc-issuer-url={idp.url}", "oidc-client-id=podling", f"oidc-ca-file={tmp_path}/ca",
            "oidc-groups-claim=groups", "oidc-groups-prefix=oidc:", "oidc-required-claim=hd=acme.com",
        ]  # fmt: skip
        chosen = options.parse(arguments)
        assembly.check(chosen)
        authentication = made(chosen)
        token = idp.token(groups=["a"], hd="acme.com")
        assert await who(authentication, token) == User(f"{idp.url}#bob", ("oidc:a", "system:authenticated"))
        assert await who(authentication, idp.token(groups=["a"])) is None
        assert await who(authentication, idp.token(hd="acme.com", sub="x") + "y") is None
        user, _, why = await authentication.authenticator.tokens.review(idp.token())
        assert user is None and why == "[invalid bearer token, oidc: required claim hd not present in ID token]"
        await authentication.close()


@pytest.mark.parametrize(
    ("prefix", "claim", "expected"),
    [("", "sub", "https://i#"), ("-", "sub", ""), ("x:", "sub", "x:"), ("", "email", "")],
)
def test_names_are_prefixed_with_the_issuer_unless_that_is_not_wanted(prefix: str, claim: str, expected: str) -> None:
    chosen = Options(
        oidc_issuer_url="https://i", oidc_client_id="c", oidc_username_claim=claim, oidc_username_prefix=prefix
    )
    assert oidc_flags.configuration(chosen).jwt[0].claim_mappings.username.prefix == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["oidc-issuer-url=https://x"], "oidc-issuer-url and oidc-client-id must be specified together"),
        (
            ["oidc-issuer-url=http://x", "oidc-client-id=c"],
            "jwt.0..issuer.url: Invalid value: .*URL scheme must be https",
        ),
        (
            ["oidc-issuer-url=https://x", "oidc-client-id=c", "oidc-signing-algs=HS256"],
            'unsupported signing alg: "HS256"',
        ),
        (["oidc-issuer-url=https://x", "oidc-client-id=c", "oidc-required-claim=a"], "write CLAIM=VALUE"),
        (["oidc-issuer-url=https://x", "oidc-client-id=c", "oidc-ca-file=/nowhere"], "No such file"),
        (["authentication-config=/nowhere"], "open /nowhere: no such file or directory"),
        (["authentication-token-webhook-config-file=/nowhere"], "cannot read the kubeconfig /nowhere"),
        (["authentication-token-webhook-version=v2"], "must be v1 or v1beta1"),
        (["requestheader-client-ca-file=/nowhere"], "needs requestheader-username-headers"),
        (["requestheader-client-ca-file=/nowhere", "requestheader-username-headers=X"], "No such file"),
        (["token-auth-file=/nowhere"], "No such file"),
    ],
)
def test_what_can_not_work_is_said_before_the_start(arguments: list[str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        assembly.check(options.parse(arguments))


async def test_a_configuration_file_and_its_changes(tmp_path: Path) -> None:
    path = tmp_path / "authentication.yaml"
    async with provider() as idp:
        path.write_text(document(anonymous={"enabled": True, "conditions": [{"path": "/livez"}]}))
        authentication = made(Options(authentication_config=str(path)))
        authentication.start()
        authenticator = authentication.authenticator
        await asyncio.sleep(0.05)
        assert await who(authentication, idp.token()) is None
        assert await authenticator.authenticate({}, None, "/livez") is not None
        assert await authenticator.authenticate({}, None, "/healthz") is None
        path.write_text("nonsense: [")
        await asyncio.sleep(0.3)
        assert await authenticator.authenticate({}, None, "/livez") is not None
        path.write_text(document(jwt(idp.url), anonymous={"enabled": False}, version="v1beta1"))
        for _ in range(100):
            if await who(authentication, idp.token()) is not None:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("the configuration was not read again")
        assert await authenticator.authenticate({}, None, "/livez") is None
        await authentication.close()


async def test_discovery_may_be_at_another_place(tmp_path: Path) -> None:
    async with provider() as idp:
        idp.issuer = "https://issuer.example"
        path = tmp_path / "c"
        other = jwt("https://issuer.example", discoveryURL=f"{idp.url}/other/.well-known/openid-configuration")
        path.write_text(document(other))
        authentication = made(Options(authentication_config=str(path)))
        token = idp.token(iss="https://issuer.example")
        assert await who(authentication, token) == User("bob", ("system:authenticated",))
        assert idp.paths == ["/other/.well-known/openid-configuration", "/keys"]
        await authentication.close()


def test_anonymous_is_configured_at_one_place(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text(document(anonymous={"enabled": True}))
    with pytest.raises(OptionError, match="--anonymous-auth flag cannot be set"):
        assembly.check(Options(authentication_config=str(path), anonymous_auth=False))
    with pytest.raises(OptionError, match="mutually exclusive"):
        assembly.check(Options(authentication_config=str(path), oidc_issuer_url="https://x", oidc_client_id="c"))


GOOD = jwt("https://x.example")


def changed(**more: Any) -> dict[str, Any]:
    return {**GOOD, **more}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'empty config file "'),
        ("[]", "holds no AuthenticationConfiguration"),
        ("kind: Pod", 'no kind "Pod" is registered for version ""'),
        (document(changed(colour="red")), "strict decoding error: .*`colour`"),
        (document(jwt("http://x")), 'jwt[0].issuer.url: Invalid value: "http://x": URL scheme must be https'),
        (document(jwt("https://a:b@x")), "URL must not contain a username or password"),
        (document(jwt("https://x?a=b")), "URL must not contain a query"),
        (document(jwt("https://x#a")), "URL must not contain a fragment"),
        (document(jwt("https://own")), "URL must not overlap with disallowed issuers: [https://own]"),
        (document(GOOD, GOOD), 'jwt[1].issuer.url: Duplicate value: "https://x.example"'),
        (document(*[GOOD] * 65), "jwt: Too many: 65: must have at most 64 items"),
        (document(jwt("https://x", audiences=[])), "jwt[0].issuer.audiences: Required value: at least one"),
        (document(jwt("https://x", audiences=["a", "b"])), "audienceMatchPolicy must be MatchAny for"),
        (document(jwt("https://x", discoveryURL="https://x/")), "discoveryURL must be different from URL"),
        (document(jwt("https://x", certificateAuthority="x")), "certificateAuthority: Invalid value"),
        (document(changed(claimMappings={})), "username: Required value: claim or expression is required"),
        (
            document(changed(claimMappings={"username": {"claim": "sub"}})),
            "claimMappings.username.prefix: Required value: prefix is required when claim is set",
        ),
        (
            document(changed(claimMappings={"username": {"expression": "claims.sub +"}})),
            "claimMappings.username.expression: Invalid value: \"claims.sub +\": compilation failed",
        ),
        (
            document(changed(claimMappings={"username": {"expression": "claims.email"}})),
            "claims.email_verified must be used in claimMappings.username.expression",
        ),
        (
            document(changed(claimValidationRules=[{"claim": "a", "expression": "true"}])),
            "claimValidationRules[0]: Invalid value: \"a\": claim and expression can't both be set",
        ),
        (
            document(changed(claimValidationRules=[{"expression": "claims.sub == 1", "requiredValue": "x"}])),
            "claimValidationRules[0].requiredValue: Invalid value: \"x\": may not be specified when expression is set",
        ),
        (
            document(changed(userValidationRules=[{"expression": "user.nickname == ''"}])),
            "userValidationRules[0].expression: Invalid value",
        ),
        (
            document({**GOOD, "claimMappings": {**GOOD["claimMappings"], "extra": [
                {"key": "k8s.io/a", "valueExpression": "claims.a"}]}}),
            "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        ),
        (
            document({**GOOD, "claimMappings": {**GOOD["claimMappings"], "extra": [
                {"key": "team", "valueExpression": "claims.a"}]}}),
            "must be a domain-prefixed path",
        ),
        (
            document(anonymous={"enabled": False, "conditions": [{"path": "/livez"}]}),
            "enabled should be set to true when conditions are defined",
        ),
    ],
)  # fmt: skip
def test_configurations_that_can_not_be_used(tmp_path: Path, text: str, said: str) -> None:
    import re

    path = tmp_path / "c"
    path.write_text(text)
    pattern = said if ".*" in said else re.escape(said)
    with pytest.raises(ConfigFileError, match=pattern):
        authentication_check.load(str(path), ("https://own",))


def test_an_address_that_was_verified_may_be_a_name(tmp_path: Path) -> None:
    path = tmp_path / "c"
    mappings = {"username": {"expression": "claims.?email_verified.orValue(true) == true ? claims.email : claims.sub"}}
    path.write_text(document(changed(claimMappings=mappings)))
    assert authentication_check.load(str(path), ()).jwt[0].claim_mappings.username.expression
