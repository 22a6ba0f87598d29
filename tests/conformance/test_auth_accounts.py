"""ServiceAccounts and their tokens: what the conformance programme observes through the API."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from jwt.algorithms import ECAlgorithm

from podling import clock
from podling.api import times
from tests.conformance.authority import ISSUER, MERGE, Authority, authority

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


def account(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, **more}


def pod(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "busybox"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@authority
async def test_discovery_and_keys_verify_a_pods_token(cluster: Authority) -> None:
    token = (await cluster.token())["token"]
    document = await cluster.must("GET", "/.well-known/openid-configuration", token=token)
    assert document["issuer"] == ISSUER and document["jwks_uri"] == f"{ISSUER}/openid/v1/jwks"
    assert document["response_types_supported"] == ["id_token"] and document["subject_types_supported"] == ["public"]
    keys = (await cluster.must("GET", "/openid/v1/jwks", token=token))["keys"]
    key_id = jwt.get_unverified_header(token)["kid"]
    key = ECAlgorithm.from_jwk(next(k for k in keys if k["kid"] == key_id))
    found = jwt.decode(token, key, document["id_token_signing_alg_values_supported"], audience=ISSUER, issuer=ISSUER)
    assert found["sub"] == "system:serviceaccount:default:default"
    # Who has no credentials may read neither.
    assert (await cluster.ask("GET", "/openid/v1/jwks", user=""))[0] == 401


@authority
async def test_a_token_is_mounted_unless_pod_or_account_opt_out(cluster: Authority) -> None:
    for name, wish in (("mount", True), ("no-mount", False), ("default-mount", None)):
        more = {} if wish is None else {"automountServiceAccountToken": wish}
        await cluster.must("POST", ACCOUNTS, account(name, **more))
    for of_account in ("mount", "no-mount", "default-mount"):
        for of_pod in (True, False, None):
            spec: dict[str, Any] = {"serviceAccountName": of_account}
            if of_pod is not None:
                spec["automountServiceAccountToken"] = of_pod
            made = await cluster.must("POST", PODS, pod(f"{of_account}-{of_pod}".lower(), **spec))
            volumes = made["spec"].get("volumes", [])
            expected = of_pod if of_pod is not None else of_account != "no-mount"
            assert bool(volumes) is expected, (of_account, of_pod)
            mounts = made["spec"]["containers"][0].get("volumeMounts", [])
            assert [m["mountPath"] for m in mounts] == (
                ["/var/run/secrets/kubernetes.io/serviceaccount"] if expected else []
            )


@authority
async def test_the_mounted_volume_has_token_authority_and_namespace(cluster: Authority) -> None:
    await cluster.until(f"{ACCOUNTS}/default", lambda _: True)
    made = await cluster.must("POST", PODS, pod("p"))
    (volume,) = made["spec"]["volumes"]
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]


@authority
async def test_every_namespace_has_the_root_certificate_and_keeps_it(cluster: Authority) -> None:
    path, ca = f"{MAPS}/kube-root-ca.crt", cluster.pki.ca.certificate.decode()
    made = await cluster.until(path, lambda m: m["data"] == {"ca.crt": ca})
    await cluster.must("DELETE", path)
    await cluster.until(path, lambda m: m["metadata"]["uid"] != made["metadata"]["uid"] and m["data"]["ca.crt"] == ca)
    await cluster.must("PATCH", path, {"data": {"ca.crt": ""}}, headers=MERGE)
    await cluster.until(path, lambda m: m["data"] == {"ca.crt": ca})
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}}
    await cluster.must("POST", "/api/v1/namespaces", space)
    await cluster.until("/api/v1/namespaces/fresh/configmaps/kube-root-ca.crt", lambda m: m["data"]["ca.crt"] == ca)


@authority
async def test_a_projected_token_has_its_audience_its_end_and_its_pod(cluster: Authority) -> None:
    await cluster.until(f"{ACCOUNTS}/default", lambda _: True)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    await cluster.must("POST", "/api/v1/nodes", node)
    made = await cluster.must("POST", PODS, pod("p", nodeName="n1"))
    ref = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}
    found = await cluster.token(audiences=["vault"], expirationSeconds=900, boundObjectRef=ref)
    left = times.parse(found["expirationTimestamp"]) - clock.now()
    assert timedelta(seconds=890) < left <= timedelta(seconds=900)
    said = claims(found["token"])
    assert said["aud"] == ["vault"] and said["exp"] - said["iat"] == 900
    assert said["kubernetes.io"]["pod"] == {"name": "p", "uid": made["metadata"]["uid"]}
    assert said["kubernetes.io"]["node"]["name"] == "n1"
    status = await cluster.review(found["token"], "vault", "other")
    extra = status["user"]["extra"]
    assert status["authenticated"] is True and status["audiences"] == ["vault"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert extra["authentication.kubernetes.io/node-name"] == ["n1"]
    assert extra["authentication.kubernetes.io/credential-id"] == [f"JTI={said['jti']}"]
    # It is not for the API server, and ends with its pod.
    assert (await cluster.ask("GET", "/api", token=found["token"]))[0] == 401
    await cluster.must("DELETE", f"{PODS}/p?gracePeriodSeconds=0")
    status = await cluster.review(found["token"], "vault")
    assert "authenticated" not in status and "has been invalidated" in status["error"]


@authority
async def test_accounts_are_created_patched_listed_and_deleted_together(cluster: Authority) -> None:
    labels = {"metadata": {"name": "life", "labels": {"test": "life"}}}
    made = await cluster.must("POST", ACCOUNTS, {**account("life"), **labels})
    version = made["metadata"]["resourceVersion"]
    await cluster.must("PATCH", f"{ACCOUNTS}/life", {"automountServiceAccountToken": False}, headers=MERGE)
    found = await cluster.must("GET", "/api/v1/serviceaccounts?labelSelector=test=life")
    assert [(a["metadata"]["name"], a["automountServiceAccountToken"]) for a in found["items"]] == [("life", False)]
    await cluster.must("DELETE", f"{ACCOUNTS}?labelSelector=test=life")
    path = f"{ACCOUNTS}?watch=1&labelSelector=test=life&resourceVersion={version}&timeoutSeconds=1"
    events = [json.loads(line) for line in await asyncio.wait_for(_lines(cluster, path), 5)]
    assert [e["type"] for e in events] == ["MODIFIED", "DELETED"]


async def _lines(cluster: Authority, path: str) -> list[str]:
    import aiohttp

    async with (
        aiohttp.ClientSession() as session,
        session.get(cluster.url + path, ssl=cluster.context("admin", "system:masters")) as answer,
    ):
        return [line for line in (await answer.text()).splitlines() if line]


@authority
async def test_an_account_is_replaced(cluster: Authority) -> None:
    made = await cluster.must("POST", ACCOUNTS, account("replaced"))
    changed = {**made, "imagePullSecrets": [{"name": "registry"}]}
    await cluster.must("PUT", f"{ACCOUNTS}/replaced", changed)
    found = await cluster.must("GET", f"{ACCOUNTS}/replaced")
    assert found["imagePullSecrets"] == [{"name": "registry"}]


@authority
async def test_a_requested_token_authenticates(cluster: Authority) -> None:
    token = (await cluster.token())["token"]
    status = await cluster.review(token)
    assert status["authenticated"] is True and "error" not in status
    assert status["audiences"] == [ISSUER]
    assert status["user"]["username"] == "system:serviceaccount:default:default"
    assert status["user"]["groups"] == [
        "system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated",
    ]  # fmt: skip
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    found = await cluster.must("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body, token=token)
    assert found["status"]["userInfo"]["uid"] == status["user"]["uid"]
    # With its account its tokens end.
    await cluster.must("POST", ACCOUNTS, account("short"))
    token = (await cluster.token("short"))["token"]
    await cluster.must("DELETE", f"{ACCOUNTS}/short")
    assert (await cluster.review(token)).get("authenticated") is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"expirationSeconds": 599}, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": (1 << 32) + 1}, "may not specify a duration larger than 2^32 seconds"),
        ({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}, 'pods "none" not found'),
        (
            {"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "x"}},
            "cannot bind token to object",
        ),
    ],
)
@authority
async def test_tokens_that_are_not_made(cluster: Authority, spec: dict[str, Any], said: str) -> None:
    await cluster.until(f"{ACCOUNTS}/default", lambda _: True)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    status, found = await cluster.ask("POST", f"{ACCOUNTS}/default/token", body)
    assert status in (400, 404, 422) and said in found["message"]


@authority
async def test_a_token_is_bound_to_a_secret_or_a_node(cluster: Authority) -> None:
    secrets = "/api/v1/namespaces/default/secrets"
    await cluster.must("POST", secrets, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    await cluster.must("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    for kind, name, path in (("Secret", "s", f"{secrets}/s"), ("Node", "n1", "/api/v1/nodes/n1")):
        token = (await cluster.token(boundObjectRef={"kind": kind, "apiVersion": "v1", "name": name}))["token"]
        assert (await cluster.review(token))["authenticated"] is True
        await cluster.must("DELETE", path)
        assert "has been invalidated" in (await cluster.review(token))["error"]


@authority
async def test_a_secret_of_the_old_kind_gets_a_token_that_authenticates(cluster: Authority) -> None:
    await cluster.must("POST", ACCOUNTS, account("old"))
    secret = {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "old", "annotations": {"kubernetes.io/service-account.name": "old"}},
    }  # fmt: skip
    await cluster.must("POST", "/api/v1/namespaces/default/secrets", secret)
    path = "/api/v1/namespaces/default/secrets/old"
    found = await cluster.until(path, lambda s: (s.get("data") or {}).get("token"))
    token = base64.b64decode(found["data"]["token"]).decode()
    assert base64.b64decode(found["data"]["ca.crt"]) == cluster.pki.ca.certificate
    assert (await cluster.review(token))["user"]["username"] == "system:serviceaccount:default:old"
    day = clock.now().strftime("%Y-%m-%d")
    await cluster.until(path, lambda s: s["metadata"].get("labels") == {"kubernetes.io/legacy-token-last-used": day})
    await cluster.must("DELETE", path)
    assert (await cluster.ask("GET", "/api", token=token))[0] == 401


@authority
async def test_the_day_since_which_old_tokens_are_tracked_is_written_down(cluster: Authority) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking"
    day = clock.now().strftime("%Y-%m-%d")
    await cluster.until(path, lambda found: found["data"] == {"since": day})
    await cluster.must("PATCH", path, {"data": {"since": "soon"}}, headers=MERGE)
    await cluster.until(path, lambda found: found["data"] == {"since": day})
