"""What is refused: forged tokens, headers that only others may send, and requests made to be too much."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import ssl
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from podling.apiserver.options import Options
from podling.cluster.pki import Pki
from tests.conformance.authority import ISSUER, Authority, authority, running

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unpacked(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    head, body, signature = token.split(".")
    found = [json.loads(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in (head, body)]
    return found[0], found[1], signature


async def refused(cluster: Authority, token: str) -> None:
    """Nobody is let in with it, and no review says otherwise."""
    status, found = await cluster.ask("GET", "/api", token=token)
    assert status == 401 and found["message"] == "Unauthorized", found
    verdict = await cluster.review(token)
    assert "authenticated" not in verdict and verdict["user"] == {} and "invalid bearer token" in verdict["error"]


@authority
async def test_forged_account_tokens(cluster: Authority) -> None:
    token = (await cluster.token())["token"]
    header, claims, signature = unpacked(token)
    admin = {**claims, "sub": "system:serviceaccount:kube-system:admin"}
    public = load_pem_private_key(cluster.pki.service_account_key().key, None).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        await refused(cluster, f"{part({**header, 'alg': algorithm})}.{part(claims)}.")
        await refused(cluster, f"{part({**header, 'alg': algorithm})}.{part(claims)}.{signature}")
    text = f"{part({**header, 'alg': 'HS256'})}.{part(claims)}"
    made = base64.urlsafe_b64encode(hmac.digest(pem, text.encode(), sha256)).rstrip(b"=").decode()
    await refused(cluster, f"{text}.{made}")
    await refused(cluster, f"{part(header)}.{part(admin)}.{signature}")
    stranger = ec.generate_private_key(ec.SECP256R1())
    for kid in (header["kid"], "other", "../../../dev/null", "", "' OR '1'='1"):
        await refused(cluster, jwt.encode(claims, stranger, "ES256", {"kid": kid}))
    await refused(cluster, f"{part({**header, 'kid': ['x']})}.{part(claims)}.{signature}")
    jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(b"k").decode()}
    await refused(cluster, jwt.encode(claims, "k" * 32, "HS256", {"kid": header["kid"], "jwk": jwk}))
    for broken in (f"{token}x", token[:-1], f"{token}.", f"{token}.{signature}", token.replace(".", "..", 1)):
        await refused(cluster, broken)


@authority
async def test_tokens_signed_by_us_that_say_something_else(cluster: Authority) -> None:
    _, claims, _ = unpacked((await cluster.token())["token"])
    key = load_pem_private_key(cluster.pki.service_account_key().key, None)
    uid = claims["kubernetes.io"]["serviceaccount"]["uid"]
    for change in (
        {"exp": claims["iat"] - 3600}, {"nbf": claims["iat"] + 3600}, {"aud": ["vault"]}, {"aud": []},
        {"iss": "https://evil.example"},
        {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "none", "uid": uid}}},
        {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "default", "uid": "other"}}},
        {"kubernetes.io": {**claims["kubernetes.io"], "pod": {"name": "gone", "uid": "x"}}},
    ):  # fmt: skip
        await refused(cluster, jwt.encode({**claims, **change}, key, "ES256"))
    assert (await cluster.review(jwt.encode(claims, key, "ES256")))["authenticated"] is True


@authority
async def test_tokens_that_are_none(cluster: Authority) -> None:
    deep = base64.urlsafe_b64encode(b"[" * 3000).rstrip(b"=").decode()
    list_claims = part(["iss", ISSUER])
    for token in (
        "x", "..", "a.b.c", f"{deep}.{deep}.x", f"{part({'alg': 'ES256'})}.{list_claims}.x", "%00", "\u00e9\u00ff",
        f"{part({'alg': 'ES256'})}.{part({'iss': [ISSUER]})}.x", "abcdef.0123456789abcdef", "A" * 4000,
    ):  # fmt: skip
        status, found = await cluster.ask("GET", "/api", token=token)
        assert status == 401, (token, found)


@authority
async def test_headers_of_the_front_proxy_are_nothing_from_others(cluster: Authority) -> None:
    headers = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters"), ("X-Remote-Extra-a", "b")]
    assert (await cluster.ask("POST", WHO, REVIEW, user="", headers=headers))[0] == 401
    _, found = await cluster.ask("POST", WHO, REVIEW, user="alice", groups=(), headers=headers)
    assert found["status"]["userInfo"]["username"] == "alice"
    assert found["status"]["userInfo"]["groups"] == ["system:authenticated"]


@pytest.mark.parametrize(
    "headers",
    [
        [("Impersonate-User", "root"), ("Impersonate-Group", "system:masters")],
        [("impersonate-user", "root")],
        [("IMPERSONATE-USER", "root")],
        [("Impersonate-User", "alice"), ("Impersonate-Group", "system:masters")],
        [("Impersonate-User", "system:node:n1")],
        [("Impersonate-User", "system:serviceaccount:kube-system:default")],
        [("Impersonate-Group", "system:masters")],
        [("Impersonate-Uid", "0")],
        [("Impersonate-Extra-scopes", "all")],
    ],
    ids=str,
)
@authority
async def test_nobody_plays_another_without_the_right(cluster: Authority, headers: list[tuple[str, str]]) -> None:
    alice: dict[str, Any] = {"user": "alice", "groups": (), "headers": headers}
    for method, path in (("GET", "/api/v1/namespaces/kube-system/secrets"), ("POST", WHO)):
        status, found = await cluster.ask(method, path, REVIEW if method == "POST" else None, **alice)
        assert status in (400, 403), found
    # Not even where everybody may look.
    assert (await cluster.ask("GET", "/version", **alice))[0] in (400, 403)
    assert (await cluster.ask("GET", "/version", user="", headers=headers))[0] in (400, 403)


@authority
async def test_names_that_only_look_like_impersonation_change_nothing(cluster: Authority) -> None:
    headers = [("Impersonate_User", "root"), ("X-Impersonate-User", "root"), ("Impersonate-Users", "root")]
    headers += [("Impersonate-User", ""), ("Impersonate-User", "root")]
    status, found = await cluster.ask("POST", WHO, REVIEW, user="alice", groups=(), headers=headers)
    assert status == 201 and found["status"]["userInfo"]["username"] == "alice"


@authority
async def test_huge_lists_of_groups(cluster: Authority) -> None:
    headers = [("Impersonate-User", "bob"), *(("Impersonate-Group", f"group-{i}") for i in range(200))]
    found = await cluster.must("POST", WHO, REVIEW, headers=headers)
    assert len(found["status"]["userInfo"]["groups"]) == 201
    status, _ = await cluster.ask("POST", WHO, REVIEW, headers=[*headers, *headers[1:]])
    assert status in (400, 431)
    assert (await cluster.ask("GET", "/livez", user="", headers=[("X", "y" * 2_000_000)]))[0] in (400, 431)
    # The server is as well as before.
    assert (await cluster.ask("GET", "/livez", user=""))[0] == 200


@authority
async def test_a_certificate_of_another_authority_is_nobodys(cluster: Authority) -> None:
    with TemporaryDirectory() as folder:
        other = Pki(Path(folder))
        pair = other.client("root", "kubernetes-admin", ("system:masters",))
        context = ssl.create_default_context(cafile=str(cluster.pki.path("ca.crt")))
        context.load_cert_chain(pair.certificate_path, pair.key_path)
        with pytest.raises((OSError, aiohttp.ClientError)):
            await cluster.ask("GET", "/api", tls=context)
    front = cluster.pki.front_proxy_ca
    assert front.certificate != cluster.pki.ca.certificate


def test_beside_a_front_proxy_each_authority_counts_for_its_own_alone() -> None:
    async def main(folder: Path) -> None:
        other = Pki(folder / "front")
        options = Options(
            requestheader_client_ca_file=str(other.path("ca.crt")),
            requestheader_username_headers=["X-Remote-User"],
            requestheader_group_headers=["X-Remote-Group"],
            requestheader_allowed_names=["front-proxy-client"],
        )
        assert other.ca.certificate
        async with running(options) as cluster:

            def of_front(name: str, *groups: str) -> ssl.SSLContext:
                pair = other.client(name, name, groups)
                context = ssl.create_default_context(cafile=str(cluster.pki.path("ca.crt")))
                context.load_cert_chain(pair.certificate_path, pair.key_path)
                return context

            headers = [("X-Remote-User", "bob"), ("X-Remote-Group", "devs")]
            proxy = of_front("front-proxy-client")
            _, found = await cluster.ask("POST", WHO, REVIEW, headers=headers, tls=proxy)
            assert found["status"]["userInfo"] == {"username": "bob", "groups": ["devs", "system:authenticated"]}
            assert (await cluster.ask("POST", WHO, REVIEW, tls=proxy))[0] == 401
            forged = of_front("kubernetes-admin", "system:masters")
            assert (await cluster.ask("POST", WHO, REVIEW, headers=headers, tls=forged))[0] == 401
            _, found = await cluster.ask("POST", WHO, REVIEW, headers=headers)
            assert found["status"]["userInfo"]["username"] == "admin"

    with TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
