"""Secrets with tokens of service accounts, and bootstrap tokens."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from controllers.cluster import Cluster
from controllers.test_namespaces import in_cluster
from podling import clock
from podling.api import core_v1, times
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers.base import Config
from podling.controllers.bootstrap_tokens import BootstrapSignerController, TokenCleanerController, signature
from podling.controllers.serviceaccount_token import NAME, TYPE, UID, ServiceAccountTokenController

CONFIG = Config(root_ca="CA", sign_token=lambda account, secret: f"token of {account.metadata.name} in {secret}")


def plain(secret: core_v1.Secret) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in (secret.data or {}).items()}


def secret(name: str, account: str, **annotations: str) -> core_v1.Secret:
    return core_v1.Secret(
        metadata=ObjectMeta(name=name, namespace="default", annotations={NAME: account, **annotations}), type=TYPE
    )


def account(name: str) -> core_v1.ServiceAccount:
    return core_v1.ServiceAccount(metadata=ObjectMeta(name=name, namespace="default"))


def test_a_secret_for_a_token_is_filled() -> None:
    async def main(cluster: Cluster) -> None:
        made = await cluster.client.create(account("bot"))
        await cluster.client.create(secret("s", "bot"))
        await cluster.settle(0.5)
        found = await cluster.get(core_v1.Secret, "s")
        assert plain(found) == {"token": "token of bot in s", "ca.crt": "CA", "namespace": "default"}
        assert found.metadata.annotations[UID] == made.metadata.uid

    in_cluster(main, ServiceAccountTokenController, config=CONFIG)


def test_what_somebody_takes_out_is_put_back_and_a_token_stays() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(account("bot"))
        await cluster.client.create(secret("s", "bot"))
        await cluster.settle(0.5)
        changed = clone(await cluster.get(core_v1.Secret, "s"))
        changed.data = {"token": base64.b64encode(b"mine").decode(), "ca.crt": "", "other": "eA=="}
        await cluster.client.update(changed)
        await cluster.settle(0.5)
        assert plain(await cluster.get(core_v1.Secret, "s")) == {
            "token": "mine", "ca.crt": "CA", "namespace": "default", "other": "x",
        }  # fmt: skip

    in_cluster(main, ServiceAccountTokenController, config=CONFIG)


def test_a_secret_goes_with_its_account() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(secret("nobody", "nobody"))
        await cluster.client.create(account("bot"))
        await cluster.client.create(secret("s", "bot"))
        await cluster.client.create(secret("another", "bot", **{UID: "another-uid"}))
        opaque = core_v1.Secret(metadata=ObjectMeta(name="o", namespace="default", annotations={NAME: "bot"}))
        await cluster.client.create(opaque)
        await cluster.settle(0.5)
        assert [s.metadata.name for s in await cluster.list(core_v1.Secret)] == ["o", "s"]
        await cluster.client.delete(core_v1.ServiceAccount, "bot", "default")
        await cluster.settle(0.5)
        assert [s.metadata.name for s in await cluster.list(core_v1.Secret)] == ["o"]

    in_cluster(main, ServiceAccountTokenController, config=CONFIG)


def bootstrap(token_id: str, **data: str) -> core_v1.Secret:
    entries = {"token-id": token_id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"}
    entries |= {k.replace("_", "-"): v for k, v in data.items()}
    return core_v1.Secret(
        metadata=ObjectMeta(name=f"bootstrap-token-{token_id}", namespace="kube-system"),
        type="bootstrap.kubernetes.io/token",
        data={k: base64.b64encode(v.encode()).decode() for k, v in entries.items()},
    )


def later(seconds: float) -> str:
    return times.format(clock.now() + timedelta(seconds=seconds))


def test_tokens_that_have_ended_go() -> None:
    async def main(cluster: Cluster) -> None:
        await cluster.client.create(bootstrap("aaaaaa", expiration=later(60)))
        await cluster.client.create(bootstrap("bbbbbb"))
        await cluster.client.create(bootstrap("cccccc", expiration="soon"))
        await cluster.client.create(bootstrap("dddddd", expiration=later(-60)))
        await cluster.settle(0.5)
        assert await names(cluster) == ["bootstrap-token-aaaaaa", "bootstrap-token-bbbbbb"]
        await cluster.settle(61)
        assert await names(cluster) == ["bootstrap-token-bbbbbb"]

    async def names(cluster: Cluster) -> list[str]:
        return [s.metadata.name or "" for s in await cluster.list(core_v1.Secret, "kube-system")]

    in_cluster(main, TokenCleanerController, namespaces=("kube-system",))


def test_tokens_sign_what_everybody_may_read() -> None:
    async def signed(cluster: Cluster) -> dict[str, str]:
        await cluster.settle(0.5)
        return dict((await cluster.get(core_v1.ConfigMap, "cluster-info", "kube-public")).data or {})

    async def main(cluster: Cluster) -> None:
        info = core_v1.ConfigMap(
            metadata=ObjectMeta(name="cluster-info", namespace="kube-public"), data={"kubeconfig": "text", "x": "y"}
        )
        await cluster.client.create(info)
        await cluster.client.create(bootstrap("aaaaaa"))
        await cluster.client.create(bootstrap("bbbbbb", usage_bootstrap_signing="false"))
        await cluster.client.create(bootstrap("cccccc", expiration=later(-1)))
        found = await signed(cluster)
        assert set(found) == {"kubeconfig", "x", "jws-kubeconfig-aaaaaa"}
        assert found["jws-kubeconfig-aaaaaa"] == signature("text", "aaaaaa", "0123456789abcdef")
        changed = clone(await cluster.get(core_v1.ConfigMap, "cluster-info", "kube-public"))
        changed.data["kubeconfig"] = "other"
        await cluster.client.update(changed)
        assert (await signed(cluster))["jws-kubeconfig-aaaaaa"] == signature("other", "aaaaaa", "0123456789abcdef")
        await cluster.client.delete(core_v1.Secret, "bootstrap-token-aaaaaa", "kube-system")
        assert set(await signed(cluster)) == {"kubeconfig", "x"}

    in_cluster(main, BootstrapSignerController, namespaces=("kube-system", "kube-public"))


def test_the_signature_is_a_detached_json_web_signature() -> None:
    head, nothing, made = signature("payload", "abcdef", "0123456789abcdef").split(".")
    assert nothing == "" and json.loads(decoded(head)) == {"alg": "HS256", "kid": "abcdef"}
    body = base64.urlsafe_b64encode(b"payload").rstrip(b"=").decode()
    assert decoded(made) == hmac.digest(b"abcdef.0123456789abcdef", f"{head}.{body}".encode(), sha256)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_a_token_without_what_it_needs_signs_nothing(text: str) -> None:
    from podling.controllers.bootstrap_tokens import signing

    wrong: Any = bootstrap("abcdef", token_secret=text) if not text else bootstrap(text)
    wrong.metadata.name = "bootstrap-token-abcdef"
    assert signing(wrong, clock.now()) is None
